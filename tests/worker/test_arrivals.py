"""When requests of the scenario ``poisson`` are due."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest

from pytest_llem.worker.arrivals import arrivals


@pytest.mark.parametrize("rate", [0.2, 1.0, 50.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_times_between_arrivals_are_exponential(rate: float, seed: int) -> None:
    count = 4000
    times = arrivals(rate, count, seed)
    gaps = [later - earlier for earlier, later in itertools.pairwise([0.0, *times])]
    # Mean and standard deviation of an exponential distribution are equal.
    assert abs(statistics.fmean(gaps) - 1 / rate) <= 3 / rate / math.sqrt(count)
    assert statistics.stdev(gaps) == pytest.approx(1 / rate, rel=0.1)
    # Half of them are shorter than ln 2 / rate, give or take three sigma of a binomial share.
    share = sum(gap < math.log(2) / rate for gap in gaps) / count
    assert abs(share - 0.5) <= 3 * 0.5 / math.sqrt(count)
    # One says nothing of the next.
    assert abs(statistics.correlation(gaps[1:], gaps[:-1])) <= 3 / math.sqrt(count)


def test_a_seed_gives_the_same_times_everywhere() -> None:
    assert arrivals(2.0, 3, 42) == pytest.approx([0.544196, 1.160476, 1.213464], abs=1e-6)
    assert arrivals(2.0, 50, 42) == arrivals(2.0, 50, 42)
    assert arrivals(2.0, 50, 42)[:10] == arrivals(2.0, 10, 42)
    assert arrivals(2.0, 50, 42) != arrivals(2.0, 50, 43)


def test_another_rate_only_stretches_them() -> None:
    slow, quick = arrivals(1.0, 20, 7), arrivals(4.0, 20, 7)
    assert [time / 4 for time in slow] == pytest.approx(quick)
