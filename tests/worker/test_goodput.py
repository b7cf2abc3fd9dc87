"""Goodput: the rate of the requests that keep to all that the slo says."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.experiment import Slo
from pytest_llem.metrics import METRICS
from pytest_llem.records import Figure, RequestTiming
from pytest_llem.worker.facts import Facts
from pytest_llem.worker.figures import figures
from pytest_llem.worker.latency import goodput
from tests.builders import UNHURRIED, completion, reading, timing, window

# Submitted at 1: first token after 0.5 s, then one every 0.25 s, the last of five after 1.5 s.
REQUEST = timing(1.0, 1.5, 1.75, 2.0, 2.25, 2.5)
TIMES = {"ttft_s": 0.5, "tpot_s": 0.25, "e2e_s": 1.5}
ONE_TOKEN = timing(1.0, 1.5)


def slo(**bounds: Any) -> Slo:
    return Slo(**bounds)


def good(wanted: Slo, *timings: RequestTiming, duration_s: float = 1.0) -> float | None:
    return goodput(duration_s, timings or (REQUEST,), wanted).value


# --- one bound -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "taken_s"), TIMES.items())
def test_a_request_that_takes_just_as_long_as_it_may_is_good(name: str, taken_s: float) -> None:
    assert good(slo(**{name: taken_s})) == 1.0


@pytest.mark.parametrize(("name", "taken_s"), TIMES.items())
def test_a_request_that_takes_longer_than_it_may_is_not_good(name: str, taken_s: float) -> None:
    assert good(slo(**{name: taken_s - 2**-40})) == 0.0


@pytest.mark.parametrize(
    ("name", "timings"),
    [
        ("ttft_s", dataclasses.replace(REQUEST, token_s=(1.625, 1.75, 2.0, 2.25, 2.5))),
        ("tpot_s", dataclasses.replace(REQUEST, token_s=(1.25, 1.75, 2.0, 2.25, 2.5))),
        ("e2e_s", timing(1.0, 1.5, 1.75, 2.0, 2.25, 2.5, 2.625)),
    ],
)
def test_each_bound_is_of_its_own_time(name: str, timings: RequestTiming) -> None:
    # One time is longer than that of the other request; the others are equal or shorter.
    assert good(slo(**TIMES), timings) == 0.0
    assert good(slo(**{key: value for key, value in TIMES.items() if key != name}), timings) == 1.0


@pytest.mark.parametrize("name", TIMES)
def test_what_has_no_bound_may_take_any_time(name: str) -> None:
    slow = timing(0.0, 1e6, 2e6, 3e6)
    others = {key: 1e7 for key in TIMES if key != name}
    assert good(slo(**others), slow) == 1.0


# --- several bounds ------------------------------------------------------------------------


@pytest.mark.parametrize("broken", TIMES)
def test_a_request_is_good_only_when_it_keeps_to_everything(broken: str) -> None:
    assert good(slo(**TIMES)) == 1.0
    assert good(slo(**{**TIMES, broken: TIMES[broken] / 2})) == 0.0


def test_good_requests_are_counted_and_divided_by_the_duration() -> None:
    timings = [timing(0.0, first, first + 1.0) for first in (0.25, 0.5, 0.75, 1.0)]
    assert good(slo(ttft_s=0.75), *timings, duration_s=2.0) == 1.5
    assert good(slo(ttft_s=0.75, e2e_s=1.5), *timings, duration_s=2.0) == 1.0
    assert good(slo(ttft_s=0.125), *timings, duration_s=2.0) == 0.0


TIMINGS = st.lists(
    st.lists(st.floats(0.0, 100.0), min_size=1, max_size=5).map(
        lambda times: timing(0.0, *sorted(times))
    ),
    min_size=1,
    max_size=8,
)
BOUNDS = st.floats(0.001, 100.0)


@UNHURRIED
@given(TIMINGS, BOUNDS, BOUNDS, BOUNDS)
def test_every_further_bound_can_only_lower_it(
    timings: list[RequestTiming], ttft_s: float, tpot_s: float, e2e_s: float
) -> None:
    bounds = {"ttft_s": ttft_s, "tpot_s": tpot_s, "e2e_s": e2e_s}
    together = good(slo(**bounds), *timings)
    assert together is not None
    for name, bound in bounds.items():
        alone = good(slo(**{name: bound}), *timings)
        looser = good(slo(**{**bounds, name: bound * 2}), *timings)
        assert alone is not None
        assert looser is not None
        assert together <= min(alone, looser)
        assert max(alone, looser) <= len(timings)


# --- requests of one token -----------------------------------------------------------------


@pytest.mark.parametrize("tpot_s", [1e-9, 1.0])
def test_a_single_token_has_no_time_per_token_to_break(tpot_s: float) -> None:
    assert good(slo(tpot_s=tpot_s), ONE_TOKEN) == 1.0


@pytest.mark.parametrize(
    ("bounds", "rate"),
    [
        ({"ttft_s": 0.5}, 1.0),
        ({"ttft_s": 0.25}, 0.0),
        ({"e2e_s": 0.5}, 1.0),
        ({"e2e_s": 0.25}, 0.0),
        ({"ttft_s": 0.5, "tpot_s": 0.001, "e2e_s": 0.5}, 1.0),
    ],
)
def test_a_single_token_has_its_other_times_to_keep(bounds: dict[str, float], rate: float) -> None:
    assert good(slo(**bounds), ONE_TOKEN) == rate


# --- no figure -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration_s", "timings", "wanted", "reason"),
    [
        (1.0, [REQUEST], Slo(), "the experiment has no slo"),
        (0.0, [REQUEST], Slo(), "the experiment has no slo"),
        (
            0.0,
            [REQUEST],
            Slo(ttft_s=1.0),
            "the clock saw no time pass over the measured window",
        ),
        (1.0, [REQUEST, timing(0.0)], Slo(ttft_s=9.0), "a request has no times of its tokens"),
    ],
)
def test_goodput_that_can_not_be_told_is_null_with_the_reason(
    duration_s: float, timings: list[RequestTiming], wanted: Slo, reason: str
) -> None:
    assert goodput(duration_s, timings, wanted) == Figure(
        value=None, quality="unmeasured", reason=reason
    )


def test_no_request_within_some_time_is_a_rate_of_zero() -> None:
    assert goodput(1.0, [], Slo(ttft_s=1.0)) == Figure(value=0.0)


# --- among the other figures ---------------------------------------------------------------


def among_all(wanted: Slo | None, duration_s: float = 2.0) -> dict[str, Figure]:
    timings = [REQUEST, ONE_TOKEN]
    facts = Facts.of([completion(times) for times in timings], None, "cpu", "")
    windows = [window("load", 1.0), window("measure", duration_s, reading())]
    if wanted is None:
        return figures(windows, timings, facts)
    return figures(windows, timings, facts, wanted)


def test_goodput_is_a_metric_of_the_measured_window() -> None:
    found = among_all(Slo(e2e_s=0.5))
    assert list(found) == list(METRICS)
    assert found["goodput_per_s"] == Figure(value=0.5)
    assert found["requests_per_s"].value == 1.0


def test_goodput_is_the_rate_of_all_requests_when_all_are_good() -> None:
    found = among_all(Slo(e2e_s=99.0))
    assert found["goodput_per_s"] == found["requests_per_s"]


@pytest.mark.parametrize("wanted", [None, Slo()])
def test_an_experiment_without_an_slo_has_no_goodput(wanted: Slo | None) -> None:
    assert among_all(wanted)["goodput_per_s"].reason == "the experiment has no slo"
