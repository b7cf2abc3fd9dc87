"""What a decaying load drew before the first tick behind it."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llem.meters.tails import Tail, before_first_tick, beside_load, hidden_j
from tests.builders import UNHURRIED
from tests.rig.truth import Tail as True_

pytestmark = pytest.mark.once

PERIOD_S = 0.1
LOAD_W = 330.0


def seen(shape: str, duration_s: float, until_first_s: float, start: float = 1.0) -> Tail:
    """What the ticks tell of a tail; ``start`` is its first power, relative to the load's."""
    true = True_(duration_s, shape)
    ticks_s = [until_first_s + number * PERIOD_S for number in range(4)]
    left = [start * LOAD_W * true.integral(at_s) for at_s in ticks_s]
    inside_s = PERIOD_S - until_first_s
    return Tail(
        until_first_s=until_first_s,
        period_s=PERIOD_S,
        after_j=[late - early for early, late in itertools.pairwise(left)],
        load_w=LOAD_W,
        around_j=left[0] + start * LOAD_W * inside_s,
        inside_s=inside_s,
    )


def exact_j(shape: str, duration_s: float, until_first_s: float, start: float = 1.0) -> float:
    return start * LOAD_W * True_(duration_s, shape).integral(until_first_s)


SHAPES = ("linear", "exponential", "steps")
firsts_s = st.floats(0.002, 0.098)


@settings(UNHURRIED, max_examples=60)
@given(
    shape=st.sampled_from(SHAPES),
    duration_s=st.floats(0.15, 0.5),
    until_first_s=firsts_s,
    start=st.floats(0.6, 1.5),
)
def test_the_part_before_the_first_tick_is_within_its_doubt(
    shape: str, duration_s: float, until_first_s: float, start: float
) -> None:
    tail = seen(shape, duration_s, until_first_s, start)
    joules, spread_j = before_first_tick(tail)
    assert joules >= 0
    assert tail.around_j is not None
    exact = exact_j(shape, duration_s, until_first_s, start)
    assert abs(joules - exact) <= 4 * spread_j + 0.05 * exact


@settings(UNHURRIED, max_examples=40)
@given(
    after_j=st.lists(st.floats(0, 60), min_size=1, max_size=3),
    until_first_s=firsts_s,
    load_w=st.floats(1, 1000),
    around=st.floats(0, 3),
)
def test_whatever_is_seen_the_answer_is_an_energy(
    after_j: list[float], until_first_s: float, load_w: float, around: float
) -> None:
    tail = Tail(
        until_first_s=until_first_s,
        period_s=PERIOD_S,
        after_j=after_j,
        load_w=load_w,
        around_j=around * load_w * PERIOD_S,
        inside_s=PERIOD_S - until_first_s,
    )
    for joules, spread_j in (before_first_tick(tail), beside_load(tail)):
        assert joules >= 0
        assert spread_j >= 0
    # A tail starts at no more than a little above twice the load's power, and falls.
    assert before_first_tick(tail)[0] <= 2.2 * load_w * until_first_s * 1.001
    assert beside_load(tail)[0] <= (tail.around_j or 0.0)


@pytest.mark.parametrize("changes", [{"after_j": [0.0, 0.0]}, {"load_w": 0.0}, {"load_w": -5.0}])
def test_without_a_tail_there_is_nothing(changes: dict[str, object]) -> None:
    tail = dataclasses.replace(seen("linear", 0.18, 0.05), **changes)  # type: ignore[arg-type]
    assert before_first_tick(tail) == (0.0, 0.0)


def test_a_tick_at_the_end_leaves_nothing_to_infer() -> None:
    assert before_first_tick(dataclasses.replace(seen("linear", 0.18, 0.05), until_first_s=0)) == (
        0.0,
        0.0,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_the_later_the_first_tick_the_more_is_doubtful(shape: str) -> None:
    spreads_j = [before_first_tick(seen(shape, 0.18, at_s))[1] for at_s in (0.01, 0.05, 0.09)]
    # When nearly all of it is gone by then, what was around the window's end tells of it.
    assert spreads_j[1] > 1.8 * spreads_j[0]
    assert spreads_j[2] > 1.8 * spreads_j[0]


def test_unseen_ticks_leave_what_the_load_does_not_account_for() -> None:
    tail = seen("linear", 0.18, 0.06)
    joules, spread_j = beside_load(tail)
    assert abs(joules - exact_j("linear", 0.18, 0.06)) < 0.01 * joules
    assert spread_j > 0.3 * joules


def test_with_nothing_known_it_may_be_anything_up_to_the_loads_power() -> None:
    joules, spread_j = beside_load(dataclasses.replace(seen("linear", 0.18, 0.06), around_j=None))
    most_j = LOAD_W * PERIOD_S
    assert joules == most_j / 2
    assert spread_j == pytest.approx(most_j / 12**0.5)


@pytest.mark.parametrize(
    ("duration_s", "until_first_s", "suspected"),
    [(0.06, 0.09, True), (0.08, 0.085, True), (0.0, 0.09, False), (0.0, 0.02, False)],
)
def test_a_tail_that_was_over_before_the_first_tick_can_be_suspected(
    duration_s: float, until_first_s: float, suspected: bool
) -> None:
    found_j = hidden_j(seen("linear", duration_s, until_first_s))
    exact = exact_j("linear", duration_s, until_first_s)
    assert found_j == pytest.approx(exact if suspected else 0.0)
