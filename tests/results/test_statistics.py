"""Summaries over the cycles of an experiment."""

from __future__ import annotations

import math
import operator
import random
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.metrics import METRICS
from pytest_llem.records import Figure, Quality, Summary
from pytest_llem.results.statistics import CONFIDENCE, interval, summarise, summarise_figures
from tests.builders import QUANTITIES, UNHURRIED, estimated, measurement, unmeasured

VALUES = st.lists(QUANTITIES | QUANTITIES.map(operator.neg), min_size=1, max_size=12)
# To be multiplied with powers of two, without a rounding.
EXACT = st.lists(st.integers(-(2**40), 2**40).map(lambda n: n / 1024), min_size=1, max_size=12)


def summed(values: list[float]) -> Summary:
    return summarise_figures([Figure(value=value) for value in values])


def test_three_cycles_are_summed_up() -> None:
    figures = [Figure(value=value) for value in (4.0, 1.0, 2.5)]
    assert summarise_figures(figures) == Summary(
        n=3, median=2.5, mean=2.5, stdev=1.5, low=1.0, high=4.0, confidence=0.75
    )


def test_the_median_of_an_even_number_is_the_middle_of_two() -> None:
    summary = summarise_figures([Figure(value=value) for value in (10.0, 1.0, 2.0, 3.0)])
    assert (summary.median, summary.mean) == (2.5, 4.0)


def test_one_cycle_is_its_own_summary() -> None:
    assert summarise_figures([Figure(value=-2.0)]) == Summary(
        n=1, median=-2.0, mean=-2.0, low=-2.0, high=-2.0, confidence=0.0
    )


def test_a_missing_value_makes_all_numbers_null() -> None:
    figures = [Figure(value=1.0), unmeasured("sensor gone"), unmeasured("other")]
    assert summarise_figures(figures) == Summary(
        n=3,
        median=None,
        mean=None,
        quality="unmeasured",
        reason="2 of 3 cycles: sensor gone",
    )


@pytest.mark.parametrize(
    ("qualities", "worst"),
    [
        (["ok", "ok"], "ok"),
        (["ok", "short"], "short"),
        (["short", "degraded", "ok"], "degraded"),
        (["degraded", "estimated"], "estimated"),
        (["estimated", "short", "ok"], "estimated"),
    ],
)
def test_the_quality_is_that_of_the_worst_cycle(qualities: list[Quality], worst: Quality) -> None:
    figures = [Figure(value=1.0, quality=q, reason=f"it is {q}") for q in qualities]
    summary = summarise_figures(figures)
    assert (summary.quality, summary.reason) == (worst, f"it is {worst}")


def test_the_first_reason_of_the_worst_quality_is_told() -> None:
    figures = [
        Figure(value=1.0, quality="ok", reason="fine"),
        Figure(value=1.0, quality="short"),
        Figure(value=1.0, quality="short", reason="one"),
        Figure(value=1.0, quality="short", reason="two"),
    ]
    assert summarise_figures(figures).reason == "one"


@UNHURRIED
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=9))
def test_the_median_lies_in_its_interval(values: list[float]) -> None:
    summary = summarise_figures([Figure(value=value) for value in values])
    assert summary.n == len(values)
    assert summary.median is not None
    assert summary.low is not None
    assert summary.high is not None
    assert min(values) <= summary.low <= summary.median <= summary.high <= max(values)


@pytest.mark.parametrize(
    ("count", "least", "greatest", "confidence"),
    [(1, 1, 1, 0.0), (2, 1, 2, 0.5), (5, 1, 5, 0.9375), (6, 1, 6, 0.96875), (9, 2, 8, 0.9609375)],
)
def test_an_interval_says_what_it_reaches(
    count: int, least: int, greatest: int, confidence: float
) -> None:
    assert interval([float(n) for n in range(count, 0, -1)]) == (least, greatest, confidence)


@pytest.mark.parametrize("count", [3, 5, 9, 20])
def test_an_interval_holds_the_median_as_often_as_it_says(count: int) -> None:
    # A skewed distribution, of which nothing is supposed; its median is 1.
    generator = random.Random(count)
    held, confidence = 0, 0.0
    for _ in range(4000):
        low, high, confidence = interval([generator.lognormvariate(0, 1) for _ in range(count)])
        held += low <= 1 <= high
    # Four standard errors.
    assert held / 4000 == pytest.approx(confidence, abs=4 * math.sqrt(0.25 / 4000))


@pytest.mark.parametrize("count", range(1, 41))
def test_an_interval_is_the_narrowest_of_ranks_that_reaches_enough(count: int) -> None:
    low, high, confidence = interval([float(n) for n in range(1, count + 1)])
    assert low + high == count + 1

    def reached(k: int) -> float:
        """That k to n − k values lie below the median: as many heads of n fair coins."""
        return sum(math.comb(count, heads) for heads in range(k, count - k + 1)) / 2.0**count

    k = int(low)
    assert confidence == pytest.approx(reached(k))
    assert k == 1 or confidence >= CONFIDENCE
    narrower = k + 1 <= count - k
    assert not (narrower and reached(k + 1) >= CONFIDENCE)


@UNHURRIED
@given(VALUES, st.randoms(use_true_random=False))
def test_the_order_of_cycles_makes_no_difference(values: list[float], random: Random) -> None:
    shuffled = random.sample(values, len(values))
    assert summed(shuffled) == summed(values)


@UNHURRIED
@given(VALUES, st.integers(-20, 20), st.sampled_from([1, -1]))
def test_a_summary_has_the_unit_of_its_values(
    values: list[float], exponent: int, sign: int
) -> None:
    # Powers of two, which are exact.
    factor = sign * 2.0**exponent
    one, other = summed(values), summed([value * factor for value in values])
    ends = sorted([one.low * factor, one.high * factor])  # type: ignore[operator]
    assert (other.median, other.mean) == (one.median * factor, one.mean * factor)  # type: ignore[operator]
    assert [other.low, other.high] == ends
    assert other.stdev == (None if one.stdev is None else one.stdev * abs(factor))


@UNHURRIED
@given(VALUES, st.data(), st.floats(0, 1e9))
def test_a_greater_value_makes_no_figure_smaller(
    values: list[float], data: st.DataObject, more: float
) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    one = summed(values)
    other = summed([*values[:place], values[place] + more, *values[place + 1 :]])
    for name in ("median", "mean", "low", "high"):
        assert getattr(other, name) >= getattr(one, name), name


def test_each_metric_is_summed_up_over_the_measurements() -> None:
    found = summarise(
        [
            measurement(metrics={"energy_j": 2.0, "idle_power_w": estimated(1.0)}),
            measurement(metrics={"energy_j": 4.0, "load_s": unmeasured("no clock")}),
        ]
    )
    assert list(found) == list(METRICS)
    assert found["energy_j"].median == 3.0
    assert found["idle_power_w"].quality == "estimated"
    assert found["load_s"].median is None
    assert found["duration_s"] == Summary(
        n=2, median=1.0, mean=1.0, stdev=0.0, low=1.0, high=1.0, confidence=0.5
    )


def test_nothing_measured_is_nothing_to_sum_up() -> None:
    assert summarise([]) == {}


def test_cycles_of_different_kinds_of_workers_have_no_common_figure() -> None:
    workers = enumerate(("fresh", "forked"), 1)
    made = [measurement(cycle=cycle, testbed={"worker": worker}) for cycle, worker in workers]
    found = summarise(made)["energy_j"]
    assert (found.n, found.median, found.quality) == (2, None, "unmeasured")
    assert (
        found.reason == "cycles of different testbeds are not pooled: worker: c1 fresh, c2 forked"
    )
