"""Latencies and their percentiles, on numbers worked out by hand."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.records import Figure
from pytest_llem.worker.latency import latencies, latency_figures
from tests.builders import UNHURRIED, timing

# Two requests of 4 input tokens; 3 and 2 output tokens.
TIMINGS = [timing(0.0, 1.0, 1.5, 2.5), timing(0.5, 1.0, 1.25)]


def test_latencies_are_taken_from_all_requests() -> None:
    assert latencies(TIMINGS) == {
        "ttft": [1.0, 0.5],
        "itl": [0.5, 1.0, 0.25],
        "tpot": [0.75, 0.25],
        "e2e": [2.5, 0.75],
    }


@pytest.mark.parametrize(
    ("suffix", "value"),
    # of 1 2 3 4 and 5, by rank 1 + 4 p
    [("p50", 3.0), ("p90", 4.6), ("p95", 4.8), ("p99", 4.96), ("mean", 3.0), ("max", 5.0)],
)
def test_percentiles_interpolate_between_order_statistics(suffix: str, value: float) -> None:
    timings = [timing(0.0, float(first)) for first in (3, 1, 5, 2, 4)]
    assert latency_figures(timings)[f"ttft_{suffix}_s"].value == pytest.approx(value)


@pytest.mark.parametrize("suffix", ["mean", "p50", "p90", "p95", "p99", "max"])
def test_a_single_request_is_its_own_percentile(suffix: str) -> None:
    found = latency_figures([timing(1.0, 3.0, 3.5)])
    assert found[f"ttft_{suffix}_s"].value == 2.0
    assert found[f"itl_{suffix}_s"].value == 0.5
    assert found[f"tpot_{suffix}_s"].value == 0.5
    assert found[f"e2e_{suffix}_s"].value == 2.5


@pytest.mark.parametrize("family", ["itl", "tpot"])
def test_one_output_token_has_no_gaps(family: str) -> None:
    found = latency_figures([timing(0.0, 1.0), timing(0.0, 2.0)])
    figure = found[f"{family}_p50_s"]
    assert figure == Figure(
        value=None, quality="unmeasured", reason="needs two output tokens or more"
    )
    assert found["ttft_p50_s"].value == 1.5
    assert found["e2e_max_s"].value == 2.0


def test_requests_of_one_token_do_not_count_where_others_have_more() -> None:
    found = latency_figures([timing(0.0, 1.0), timing(0.0, 1.0, 3.0)])
    assert found["tpot_mean_s"].value == 2.0


def test_no_request_has_no_latency() -> None:
    found = latency_figures([])
    assert {figure.reason for figure in found.values()} == {"no request was made"}
    assert {figure.value for figure in found.values()} == {None}


@UNHURRIED
@given(
    st.lists(
        st.lists(st.floats(0.0, 1e6), min_size=1, max_size=6).map(sorted), min_size=1, max_size=6
    )
)
def test_percentiles_rise_and_lie_in_the_range(times: list[list[float]]) -> None:
    found = latency_figures([timing(0.0, *tokens) for tokens in times])
    for family, values in latencies([timing(0.0, *tokens) for tokens in times]).items():
        if not values:
            continue
        row = [found[f"{family}_{s}_s"].value for s in ("p50", "p90", "p95", "p99", "max")]
        numbers = [number for number in row if number is not None]
        assert len(numbers) == 5
        slack = 1e-9 * max(values) + 1e-9
        assert all(low <= high + slack for low, high in itertools.pairwise(numbers))
        assert min(values) - slack <= numbers[0]
        assert numbers[-1] == max(values)
