"""Doubts about the cycles of an experiment."""

from __future__ import annotations

import dataclasses
import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.records import Figure, Measurement
from pytest_llem.results.steadiness import doubts, too_few, trend_p
from tests.builders import UNHURRIED, estimated, measurement, unmeasured


def cycles(*speeds: float) -> list[Measurement]:
    return [measurement(metrics={"output_tokens_per_s": speed}) for speed in speeds]


def test_steady_cycles_raise_none() -> None:
    assert doubts(cycles(100, 103, 99, 101, 98)) == ()


def test_nothing_measured_raises_none() -> None:
    assert doubts([]) == ()


@pytest.mark.parametrize(("count", "told"), [(0, 0), (1, 1), (2, 1), (3, 0)])
def test_too_few(count: int, told: int) -> None:
    assert len(too_few(count)) == told


def test_scatter() -> None:
    (text,) = doubts(cycles(100, 80, 120))
    assert text.startswith(
        "output_tokens_per_s: unstable: the standard deviation is 20 % of the mean; see what"
    )


def test_a_single_cycle_far_off() -> None:
    # Of so many that their standard deviation is small.
    (text,) = doubts(cycles(160, *[100.0] * 59))
    assert "unstable: one of 60 cycles is +58 % off the mean" in text


def stolen(*shares: float | None, duration_s: float = 2.0) -> list[Measurement]:
    metrics = (
        {"cpu_steal_share": unmeasured("untold") if share is None else Figure(value=share)}
        for share in shares
    )
    return [measurement(metrics={**one, "duration_s": duration_s}) for one in metrics]


@pytest.mark.parametrize(
    ("shares", "told"),
    [((0.02, 0.31, None), "had 2 % to 31 % of"), ((0.17, 0.17), "had 17 % of the processors'")],
)
def test_other_virtual_machines_are_named(shares: tuple[float | None, ...], told: str) -> None:
    (text,) = doubts(stolen(*shares))
    assert text.startswith("cpu_steal_share: other virtual machines ")
    assert told in text
    assert "--llem-ab" in text


def test_time_that_is_hardly_stolen_or_not_told_raises_none() -> None:
    assert doubts(stolen(0.04, 0.0, None)) == ()
    assert doubts(stolen(0.5, 0.5, duration_s=0.1)) == ()
    bare = measurement()
    older = {name: bare.metrics[name] for name in bare.metrics if name != "cpu_steal_share"}
    assert doubts([dataclasses.replace(bare, metrics=older)]) == ()


@pytest.mark.parametrize(("last", "sign"), [(108.0, "+8 %"), (92.0, "-8 %")])
def test_drift(last: float, sign: str) -> None:
    step = (last - 100) / 4
    (text,) = doubts(cycles(*(100 + step * n for n in range(5))))
    assert text.startswith(
        f"output_tokens_per_s: drifts: {sign} from the first to the last of 5 cycles"
    )


def test_a_drift_too_small_to_matter() -> None:
    assert doubts(cycles(100, 100.2, 100.4, 100.6, 100.8)) == ()


def test_four_cycles_in_a_row_may_be_chance() -> None:
    assert doubts(cycles(100, 103, 106, 109)) == ()


@pytest.mark.parametrize(
    "energies",
    [
        [estimated(1.0), estimated(2.0), estimated(3.0)],
        [Figure(value=1.0), unmeasured("lost"), Figure(value=3.0)],
        [Figure(value=-1.0), Figure(value=0.5), Figure(value=0.1)],
    ],
)
def test_what_says_nothing_of_noise(energies: list[Figure]) -> None:
    found = [measurement(metrics={"energy_per_output_token_j": energy}) for energy in energies]
    assert doubts(found) == ()


@pytest.mark.parametrize("count", [2, 4, 5, 6])
def test_the_probability_of_a_trend_is_that_of_all_orders(count: int) -> None:
    orders = list(itertools.permutations(range(count)))

    def weight(order: tuple[int, ...]) -> int:
        return abs(sum(1 if a < b else -1 for a, b in itertools.combinations(order, 2)))

    for order in orders[:: max(1, len(orders) // 40)]:
        share = sum(weight(other) >= weight(order) for other in orders) / len(orders)
        assert trend_p([float(n) for n in order]) == pytest.approx(share)


def test_values_that_are_all_equal_have_no_trend() -> None:
    assert trend_p([1.0] * 5) == 1.0


SPEEDS = st.lists(st.floats(1, 1e6), min_size=2, max_size=9)


@UNHURRIED
@given(SPEEDS, st.sampled_from([2.0**-40, 0.25, 8.0, 2.0**60]))
def test_units_raise_no_doubt_and_settle_none(speeds: list[float], factor: float) -> None:
    assert doubts(cycles(*(speed * factor for speed in speeds))) == doubts(cycles(*speeds))


@UNHURRIED
@given(SPEEDS, st.randoms(use_true_random=False))
def test_scatter_knows_no_order(speeds: list[float], random: Random) -> None:
    shuffled = random.sample(speeds, len(speeds))
    assert unstable(cycles(*shuffled)) == unstable(cycles(*speeds))


def unstable(measurements: list[Measurement]) -> list[str]:
    return [text for text in doubts(measurements) if "unstable" in text]


@UNHURRIED
@given(SPEEDS)
def test_a_trend_is_one_both_ways_and_whatever_its_shape(speeds: list[float]) -> None:
    p = trend_p(speeds)
    assert 0 < p <= 1
    assert trend_p(speeds[::-1]) == p
    assert trend_p([-speed for speed in speeds]) == p
    # Ranks are all that counts: of the same order, evenly spaced.
    ranks = [float(sorted(speeds).index(speed)) for speed in speeds]
    assert trend_p(ranks) == p
    assert trend_p(sorted(speeds)) <= p
