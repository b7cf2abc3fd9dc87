"""Metrics: names that carry their units, and values for reading."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.metrics import METRICS, PERCENTILES, show
from tests.builders import UNHURRIED

SUFFIXES = {
    "_per_s": "1/s",
    "_per_j": "1/J",
    "_j": "J",
    "_w": "W",
    "_s": "s",
    "_bytes": "bytes",
    "_c": "°C",
    "_g": "g",
    "_share": "share",
    "cost": "currency",
}


@pytest.mark.parametrize("name", METRICS)
def test_the_suffix_of_a_metric_is_its_unit(name: str) -> None:
    suffix = next(suffix for suffix in SUFFIXES if name.endswith(suffix))
    assert METRICS[name].unit == SUFFIXES[suffix]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_found_by_its_own_name_and_explained(name: str) -> None:
    assert METRICS[name].name == name
    assert METRICS[name].title


@pytest.mark.parametrize("family", ["ttft", "itl", "tpot", "e2e"])
def test_every_latency_has_a_mean_percentiles_and_a_maximum(family: str) -> None:
    found = {name for name in METRICS if name.startswith(f"{family}_")}
    assert found == {f"{family}_{suffix}_s" for suffix in ("mean", *PERCENTILES, "max")}


def test_only_rates_are_better_when_higher() -> None:
    assert {name for name, metric in METRICS.items() if metric.higher_is_better} == {
        "output_tokens_per_s",
        "total_tokens_per_s",
        "requests_per_s",
        "goodput_per_s",
        "output_tokens_per_j",
    }


def test_energy_power_and_tokens_per_joule_use_energy() -> None:
    assert {name for name, metric in METRICS.items() if metric.uses_energy} == {
        "energy_j",
        "net_energy_j",
        "energy_to_idle_j",
        "idle_energy_j",
        "cpu_energy_j",
        "dram_energy_j",
        "energy_per_output_token_j",
        "net_energy_per_output_token_j",
        "energy_per_token_j",
        "energy_per_request_j",
        "prefill_energy_per_input_token_j",
        "decode_energy_per_output_token_j",
        "power_mean_w",
        "power_peak_w",
        "idle_power_w",
        "output_tokens_per_j",
        "carbon_g",
        "cost",
    }


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        # nothing
        (0.0, "J", "0.00 J"),
        (0.0, "s", "0.00 s"),
        (0.0, "1/s", "0.00/s"),
        (0.0, "bytes", "0.00 B"),
        # three digits
        (1.0, "W", "1.00 W"),
        (12.34, "W", "12.3 W"),
        (123.4, "W", "123 W"),
        # negative
        (-0.5, "J", "-500 mJ"),
        (-2.0, "J", "-2.00 J"),
        (-1500.0, "J", "-1.50 kJ"),
        # prefixes
        (0.0123, "s", "12.3 ms"),
        (0.0000123, "s", "12.3 µs"),
        (0.0000000123, "s", "12.3 ns"),
        (1.23e-12, "J", "1.23 pJ"),
        (0.00136, "Wh", "1.36 mWh"),
        (0.1742, "share", "17.4 %"),
        (0.0, "share", "0.00 %"),
        (0.123, "J", "123 mJ"),
        (12345.0, "J", "12.3 kJ"),
        (1.5e6, "J", "1.50 MJ"),
        (1.5e9, "bytes", "1.50 GB"),
        (2e6, "bytes", "2.00 MB"),
        (512.0, "bytes", "512 B"),
        # no kiloseconds
        (59.94, "s", "59.9 s"),
        (7200.0, "s", "7,200 s"),
        # rates are written out
        (20.0, "1/s", "20.0/s"),
        (1234.5, "1/s", "1,234/s"),
        (1234567.0, "1/s", "1,234,567/s"),
        (0.25, "1/J", "0.25/J"),
        # a temperature and a price take no prefix
        (61.0, "°C", "61.0 °C"),
        (0.0, "°C", "0.00 °C"),
        (0.0123, "g", "12.3 mg"),
        (1500.0, "g", "1.50 kg"),
        (0.0, "currency", "0.00"),
        (0.000123, "currency", "0.000123"),
        (1234.5, "currency", "1,234"),
        # edges: what rounds up takes the next prefix
        (999.4e-3, "s", "999 ms"),
        (999.6e-3, "s", "1.00 s"),
        (999.6, "s", "1,000 s"),
        (999.4, "J", "999 J"),
        (999.6, "J", "1.00 kJ"),
        (999.6e3, "J", "1.00 MJ"),
        (-999.6, "J", "-1.00 kJ"),
        (9.994, "W", "9.99 W"),
        (9.996, "W", "10.0 W"),
        (99.94, "W", "99.9 W"),
        (99.96, "W", "100 W"),
    ],
)
def test_a_value_is_shown_for_reading(value: float, unit: str, text: str) -> None:
    assert show(value, unit) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"), [(0.00412, "1/s", "0.00412/s"), (0.0512, "1/J", "0.0512/J")]
)
def test_a_small_rate_keeps_its_digits(value: float, unit: str, text: str) -> None:
    assert show(value, unit) == text


@UNHURRIED
@given(st.floats(min_value=1e-9, max_value=1e11), st.sampled_from(["J", "W", "s", "bytes"]))
def test_a_shown_value_is_near_the_value_and_short(value: float, unit: str) -> None:
    text = show(value, unit)
    match = re.fullmatch(r"([\d,]+(?:\.\d+)?) ([GMkmµn]?)(J|W|s|B)", text)
    assert match, text
    prefix = {"G": 1e9, "M": 1e6, "k": 1e3, "": 1.0, "m": 1e-3, "µ": 1e-6, "n": 1e-9}
    number = float(match[1].replace(",", "")) * prefix[match[2]]
    assert number == pytest.approx(value, rel=0.0051)
    assert "e" not in match[1]
