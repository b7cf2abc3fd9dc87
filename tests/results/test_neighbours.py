"""Figures of the host, where others measured on it too."""

from __future__ import annotations

import dataclasses

import pytest

from pytest_llem.demands import Limit
from pytest_llem.records import Figure, Measurement
from pytest_llem.results import gates
from pytest_llem.results.neighbours import beside_others
from pytest_llem.results.references import of_outcomes
from tests.builders import measurement, outcome, reading, window

WHO = "pid 7 of alice, since 12:30"
READINGS = (
    reading(10.0, domain="gpu:GPU-1"),
    reading(20.0),
    reading(5.0, domain="dram:0"),
    reading(None, domain="cpu:1", quality="unmeasured", reason="no"),
)


def measured(device: str = "cuda") -> Measurement:
    figures = {
        name: Figure(value=1.0)
        for name in ("energy_j", "cpu_energy_j", "dram_energy_j", "power_mean_w", "duration_s")
    }
    base = measurement()
    return dataclasses.replace(
        base,
        windows=(window("measure", 1.0, *READINGS),),
        metrics={**base.metrics, **figures},
        testbed={"device": device},
    )


def shared(made: Measurement) -> set[str]:
    return {name for name, figure in made.metrics.items() if figure.quality == "shared"}


def test_alone_nothing_is_shared() -> None:
    assert beside_others(measured(), "") == measured()


def test_of_an_experiment_on_gpus_the_hosts_energy_is_shared_and_no_other() -> None:
    found = beside_others(measured(), WHO)
    assert shared(found) == {"cpu_energy_j", "dram_energy_j"}
    assert [r.quality for r in found.windows[0].readings] == [
        "ok",
        "shared",
        "shared",
        "unmeasured",
    ]
    figure = found.metrics["cpu_energy_j"]
    assert figure.value == 1.0
    assert figure.reason == f"of all that was measured on the host at that time, also by {WHO}"


def test_on_a_cpu_all_that_is_made_of_energy_is_shared() -> None:
    found = shared(beside_others(measured("cpu"), WHO))
    assert {"energy_j", "power_mean_w"} <= found
    assert "duration_s" not in found


def test_without_a_counter_of_the_host_there_is_nothing_to_share() -> None:
    gpu = dataclasses.replace(measured(), windows=(window("measure", 1.0, READINGS[0]),))
    assert beside_others(gpu, WHO) == gpu


@pytest.mark.parametrize(("strict", "expected"), [(False, "skipped"), (True, "failed")])
@pytest.mark.parametrize("limit", [{"most": 100.0}, {"regression": 0.05}])
def test_shared_figures_are_not_judged(
    strict: bool, expected: str, limit: dict[str, float]
) -> None:
    outcomes = [outcome(measurement=beside_others(measured(), WHO))] * 3
    alone = of_outcomes("then", [outcome(measurement=measured())] * 3)
    assert alone is not None
    (verdict,) = gates.judge(
        [Limit(metric="cpu_energy_j", where="s:1", **limit)],
        outcomes,
        [alone],
        allow_estimated=True,
        strict=strict,
    )
    assert verdict.outcome == expected
    assert verdict.reason.startswith("shared, so not ")
    assert WHO in verdict.reason


def test_shared_figures_are_no_reference() -> None:
    then = of_outcomes("then", [outcome(measurement=beside_others(measured(), WHO))] * 3)
    assert then is not None
    (verdict,) = gates.judge(
        [Limit(metric="cpu_energy_j", regression=0.05, where="s:1")],
        [outcome(measurement=measured())] * 3,
        [then],
        allow_estimated=False,
        strict=False,
    )
    assert (verdict.outcome, then.kind("cpu_energy_j")) == ("skipped", "shared")
