"""The rule for regressions, and how often it is wrong."""

from __future__ import annotations

import math
import random
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf import gate_power
from pytest_llem.results.compare import Change, change, judged
from tests.builders import UNHURRIED

STEADY = [100.0, 101.0, 99.0]
VALUES = st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=8)
SESSIONS = st.lists(VALUES, min_size=1, max_size=6)


def compared(
    current: list[float], *references: list[float], higher_is_better: bool = False
) -> Change:
    found = change(current, references or [STEADY], higher_is_better=higher_is_better)
    assert isinstance(found, Change), found
    return found


def test_the_same_is_kept() -> None:
    found = compared(STEADY)
    assert (found.ratio, found.worse) == (1.0, 0.0)
    assert judged(found, 0.05) == "kept"


@pytest.mark.parametrize(("factor", "verdict"), [(1.5, "worse"), (0.5, "kept"), (1.04, "kept")])
def test_what_is_lower_is_better(factor: float, verdict: str) -> None:
    found = compared([value * factor for value in STEADY])
    assert found.ratio == pytest.approx(factor)
    assert judged(found, 0.05) == verdict


def test_what_is_higher_is_better() -> None:
    found = compared([value / 1.5 for value in STEADY], higher_is_better=True)
    assert found.ratio == pytest.approx(1 / 1.5)
    assert found.worse == pytest.approx(math.log(1.5))
    assert judged(found, 0.05) == "worse"


def test_over_budget_and_within_noise() -> None:
    assert judged(compared([101.0, 106.0, 111.0]), 0.05) == "within noise"
    # The same change, of more sessions that agree with each other.
    assert judged(compared([105.9, 106.0, 106.1], *[STEADY] * 8), 0.05) == "worse"


def test_more_cycles_do_not_make_up_for_one_session() -> None:
    one = compared(STEADY * 100)
    assert one.noise > 0.02
    assert compared(STEADY * 100, *[STEADY] * 20).noise < one.noise


def test_sessions_that_differ_are_noise() -> None:
    apart = [[value * factor for value in STEADY] for factor in (0.9, 1.0, 1.1, 0.95, 1.05)]
    assert compared(STEADY, *apart).noise > 2 * compared(STEADY, *[STEADY] * 5).noise


@pytest.mark.parametrize(
    ("current", "references", "reason"),
    [
        ([1.0, 1.0], [STEADY], "2 cycles are too few to compare; it takes 3"),
        (STEADY, [[1.0, 1.0]], "2 cycles of the reference are too few to compare; it takes 3"),
        (STEADY, [], "0 cycles of the reference are too few to compare; it takes 3"),
        ([1.0, -1.0, 1.0], [STEADY], "values of zero or less have no ratio"),
        (STEADY, [[1.0, 0.0, 1.0]], "values of zero or less have no ratio"),
    ],
)
def test_what_can_not_be_compared(
    current: list[float], references: list[list[float]], reason: str
) -> None:
    assert change(current, references, higher_is_better=False) == reason


def test_a_short_reference_is_left_out() -> None:
    assert compared(STEADY, STEADY, [1.0]).sessions == 1


def test_the_smallest_change_that_is_found_is_found_four_times_in_five() -> None:
    generator = random.Random(7)
    model = gate_power.Model(within=0.01, between=0.02)
    found = 0
    for _ in range(600):
        references = [model.session(generator, 3, 1.0) for _ in range(8)]
        least = compared(model.session(generator, 3, 1.0), *references).detectable(0.05)
        current = model.session(generator, 3, 1.0 + least)
        found += judged(compared(current, *references), 0.05) == "worse"
    assert 0.72 < found / 600 < 0.90


def test_how_often_the_rule_is_wrong() -> None:
    found = gate_power.rates("reference", 3, 5, 600)
    assert found["ours"][0] <= gate_power.MOST_FALSE
    assert found["ours"][1] >= gate_power.LEAST_FOUND - 0.03
    assert found["mean:5%"][0] > 2 * gate_power.MOST_FALSE


@UNHURRIED
@given(VALUES, SESSIONS, st.floats(1e-3, 1e3))
def test_units_make_no_difference(
    current: list[float], references: list[list[float]], factor: float
) -> None:
    one = compared(current, *references)
    scaled = [[value * factor for value in session] for session in references]
    other = compared([value * factor for value in current], *scaled)
    assert other.worse == pytest.approx(one.worse, abs=1e-6)
    assert other.noise == pytest.approx(one.noise, rel=1e-6)


@UNHURRIED
@given(VALUES, SESSIONS)
def test_what_is_worse_one_way_is_better_the_other(
    current: list[float], references: list[list[float]]
) -> None:
    lower = compared(current, *references)
    higher = compared(current, *references, higher_is_better=True)
    assert higher.worse == -lower.worse
    assert lower.noise == higher.noise > 0
    assert not (judged(lower, 0.05) == judged(higher, 0.05) == "worse")


@UNHURRIED
@given(VALUES, SESSIONS, st.randoms(use_true_random=False))
def test_neither_cycles_nor_sessions_have_an_order(
    current: list[float], references: list[list[float]], random: Random
) -> None:
    one = compared(current, *references)
    mixed = [random.sample(session, len(session)) for session in references]
    other = compared(random.sample(current, len(current)), *random.sample(mixed, len(mixed)))
    assert other.worse == one.worse
    assert other.noise == pytest.approx(one.noise, rel=1e-12)


@UNHURRIED
@given(VALUES, SESSIONS, st.data(), st.floats(1, 100))
def test_a_greater_value_makes_it_no_better(
    current: list[float], references: list[list[float]], data: st.DataObject, factor: float
) -> None:
    place = data.draw(st.integers(0, len(current) - 1))
    slower = [*current[:place], current[place] * factor, *current[place + 1 :]]
    assert compared(slower, *references).worse >= compared(current, *references).worse
    # And the other way round: references that were slower are easier to keep up with.
    lower = [[value / factor for value in session] for session in references]
    assert compared(current, *lower).worse >= compared(current, *references).worse


STRICTNESS = ("kept", "within noise", "worse")


@UNHURRIED
@given(VALUES, SESSIONS, st.floats(0, 2), st.floats(0, 2))
def test_a_wider_budget_is_easier_to_keep(
    current: list[float], references: list[list[float]], one: float, other: float
) -> None:
    found = compared(current, *references)
    narrow, wide = sorted((one, other))
    verdicts = [STRICTNESS.index(judged(found, budget)) for budget in (narrow, wide)]
    assert verdicts[0] >= verdicts[1]
    assert narrow < found.detectable(narrow) <= found.detectable(wide)


@UNHURRIED
@given(VALUES, st.integers(1, 6))
def test_a_session_that_is_its_own_reference_is_kept(current: list[float], count: int) -> None:
    found = compared(current, *[current] * count)
    assert (found.worse, judged(found, 0.0)) == (0.0, "kept")
    # More of the same make it surer.
    assert compared(current, *[current] * (count + 1)).noise < found.noise
