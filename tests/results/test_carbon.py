"""Carbon and cost, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llem.metrics import METRICS
from pytest_llem.records import Figure
from pytest_llem.results.carbon import per_million_tokens, with_carbon
from pytest_llem.results.statistics import summarise
from pytest_llem.study.keys import Carbon
from tests.builders import estimated, measurement, unmeasured

KWH_J = 3.6e6
NOT_SET = unmeasured("not given")


def priced(energy: Figure, **settings: Any) -> tuple[Figure, Figure]:
    """Carbon and cost of an energy."""
    given = measurement(metrics={"energy_j": energy, "carbon_g": NOT_SET, "cost": NOT_SET})
    found = with_carbon(given, Carbon(**settings))
    assert list(found.metrics) == list(METRICS)
    assert found.metrics["energy_j"] == energy
    return found.metrics["carbon_g"], found.metrics["cost"]


def test_carbon_is_energy_times_intensity_times_pue() -> None:
    energy = Figure(value=2 * KWH_J, uncertainty=0.1 * KWH_J, systematic=0.2 * KWH_J)
    carbon, cost = priced(energy, intensity_g_per_kwh=300.0, pue=1.5)
    assert carbon.value == pytest.approx(900.0)
    assert carbon.uncertainty == pytest.approx(45.0)
    assert carbon.systematic == pytest.approx(90.0)
    assert cost == NOT_SET


def test_cost_is_energy_times_price_times_pue() -> None:
    carbon, cost = priced(Figure(value=2 * KWH_J), price_per_kwh=0.25, pue=2.0)
    assert cost.value == pytest.approx(1.0)
    assert carbon == NOT_SET


def test_without_a_pue_it_is_what_the_devices_drew() -> None:
    carbon, _ = priced(Figure(value=KWH_J), intensity_g_per_kwh=300.0)
    assert carbon.value == pytest.approx(300.0)


def test_without_settings_nothing_changes() -> None:
    assert priced(Figure(value=KWH_J)) == (NOT_SET, NOT_SET)


def test_null_stays_null_with_its_reason() -> None:
    gone = unmeasured("no meter here")
    assert priced(gone, intensity_g_per_kwh=300.0, price_per_kwh=1.0) == (gone, gone)


def test_what_an_estimate_emits_is_an_estimate() -> None:
    for figure in priced(estimated(KWH_J), intensity_g_per_kwh=300.0, price_per_kwh=1.0):
        assert (figure.quality, figure.reason) == ("estimated", "modelled")


def test_a_million_tokens_cost_their_energy() -> None:
    settings = Carbon(intensity_g_per_kwh=360.0, pue=1.5, price_per_kwh=0.36)
    cycles = [
        with_carbon(
            measurement(metrics={"energy_j": 100.0 * k, "energy_per_output_token_j": k}), settings
        )
        for k in (0.9, 1.0, 1.2)
    ]
    found = per_million_tokens("carbon_g", summarise(cycles))
    assert found is not None
    assert (found.median, found.low, found.high) == pytest.approx((150.0, 135.0, 180.0))
    cost = per_million_tokens("cost", summarise(cycles))
    assert cost is not None
    assert cost.median == pytest.approx(0.15)


def test_without_settings_tokens_cost_nothing_that_is_known() -> None:
    gone = measurement(metrics={"carbon_g": NOT_SET, "cost": NOT_SET})
    assert per_million_tokens("carbon_g", summarise([gone])) is None
    assert per_million_tokens("cost", {}) is None
