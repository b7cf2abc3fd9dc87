"""The rule for pairs: what cancels in them, how sure it is, and that it says so truly."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from perf import paired_power
from pytest_llem.results.compare import Change, judged
from pytest_llem.results.paired import paired, student_t
from pytest_llem.study.schedule import base_first
from tests.builders import UNHURRIED

PAIRS = st.lists(st.tuples(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6)), min_size=3, max_size=8)


def compared(base: list[float], head: list[float], *, higher_is_better: bool = False) -> Change:
    found = paired(base, head, higher_is_better=higher_is_better)
    assert isinstance(found, Change), found
    return found


def drifting(cycles: int, step: float, true: float = 1.0) -> Change:
    """Of a head that is so much worse, on a machine that is by a factor worse with each cycle."""
    values = iter(step**i for i in range(2 * cycles))
    base, head = [], []
    for cycle in range(1, cycles + 1):
        first, second = next(values), next(values)
        base.append(first if base_first(cycle) else second)
        head.append(true * (second if base_first(cycle) else first))
    return compared(base, head)


def test_the_same_is_kept() -> None:
    found = compared([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (found.ratio, found.worse, found.n, found.sessions) == (1.0, 0.0, 3, 0)
    assert judged(found, 0.05) == "kept"


@pytest.mark.parametrize(("higher", "verdict"), [(False, "worse"), (True, "kept")])
def test_a_change_is_found_whatever_the_level_of_its_pair(higher: bool, verdict: str) -> None:
    found = compared([1.0, 5.0, 0.2], [1.1, 5.5, 0.22], higher_is_better=higher)
    assert found.ratio == pytest.approx(1.1)
    assert judged(found, 0.05) == verdict
    low, high = found.range
    assert 1 < low < 1.1 < high


@pytest.mark.parametrize("step", [0.96, 1.04])
@pytest.mark.parametrize("cycles", [3, 4, 6])
def test_drift_makes_no_change_and_hides_none(cycles: int, step: float) -> None:
    assert judged(drifting(cycles, step), 0.05) == "kept"
    assert judged(drifting(cycles, step, 1.1), 0.05) == "worse"


@pytest.mark.parametrize("cycles", [2, 4, 6, 8])
def test_of_an_even_number_of_pairs_an_even_drift_falls_out(cycles: int) -> None:
    turns = [1 if base_first(cycle) else -1 for cycle in range(1, cycles + 1)]
    assert sum(turns) == 0


def test_one_slow_cycle_is_no_change() -> None:
    found = compared([1.0] * 6, [1.0, 1.0, 1.0, 1.3, 1.0, 1.0])
    assert found.ratio == pytest.approx(1.0)


def test_over_budget_and_within_noise() -> None:
    assert judged(compared([1.0] * 3, [0.98, 1.06, 1.14]), 0.05) == "within noise"
    assert judged(compared([1.0] * 6, [1.06] * 6), 0.05) == "worse"


def test_more_pairs_are_surer() -> None:
    few, many = (compared([1.0, 1.02, 0.98] * k, [1.0] * 3 * k) for k in (1, 4))
    assert many.noise < few.noise
    assert many.beyond < few.beyond
    assert many.detectable(0.05) < few.detectable(0.05)


@pytest.mark.parametrize(
    ("base", "head", "reason"),
    [
        ([], [], "0 pairs of cycles are too few to compare; it takes 3"),
        ([1.0] * 2, [1.0] * 2, "2 pairs of cycles are too few to compare; it takes 3"),
        ([1.0, 0.0, 1.0], [1.0] * 3, "values of zero or less have no ratio"),
        ([1.0] * 3, [1.0, -1.0, 1.0], "values of zero or less have no ratio"),
    ],
)
def test_what_can_not_be_compared(base: list[float], head: list[float], reason: str) -> None:
    assert paired(base, head, higher_is_better=False) == reason


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(4, 2.776), (5, 2.571), (8, 2.306), (20, 2.086), (120, 1.980)]
)
def test_quantiles_are_those_of_tables(freedom: int, quantile: float) -> None:
    assert student_t(freedom) == pytest.approx(quantile, abs=1e-3)


@UNHURRIED
@given(PAIRS, st.floats(1e-3, 1e3))
def test_units_and_drift_between_pairs_make_no_difference(
    pairs: list[tuple[float, float]], factor: float
) -> None:
    base, head = map(list, zip(*pairs, strict=True))
    one = compared(base, head)
    scaled = [(a * factor**i, b * factor**i) for i, (a, b) in enumerate(pairs)]
    assume(all(1e-200 < value < 1e200 for pair in scaled for value in pair))
    other = compared(*map(list, zip(*scaled, strict=True)))
    assert other.worse == pytest.approx(one.worse, abs=1e-6)
    assert other.noise == pytest.approx(one.noise, rel=1e-6)


@UNHURRIED
@given(PAIRS)
def test_the_arms_are_treated_alike(pairs: list[tuple[float, float]]) -> None:
    base, head = map(list, zip(*pairs, strict=True))
    one, other = compared(base, head), compared(head, base)
    assert other.worse == pytest.approx(-one.worse, abs=1e-9)
    assert other.noise == pytest.approx(one.noise, rel=1e-9)
    assert compared(base, head, higher_is_better=True).worse == -one.worse
    assert min(one.range) <= one.ratio <= max(one.range)


def test_the_smallest_change_that_is_found_is_found_four_times_in_five() -> None:
    generator = random.Random(7)
    # As noisy as the rule supposes beforehand: 3 % between the two of a pair.
    model = paired_power.Drift(within=0.03 / math.sqrt(2))
    found = 0
    for _ in range(600):
        least = paired_power.drawn(model, generator, 6, 0.0).paired.detectable(0.05)
        session = paired_power.drawn(model, generator, 6, least)
        found += judged(session.paired, 0.05) == "worse"
    assert 0.72 < found / 600 < 0.90


@pytest.mark.parametrize("model", ["reference", "noisy cycles", "drifting", "drifting back"])
def test_how_often_the_rule_is_wrong(model: str) -> None:
    alarms, covered = paired_power.rates(model, 4, 300)
    false, right = alarms["ours"]
    assert false <= paired_power.MOST_FALSE
    assert right >= 0.75
    assert covered >= 0.91
    if model.startswith("drifting"):
        # Two sessions, one after the other, see the drift for a change, or a change for drift.
        false, right = alarms["in succession"]
        assert false > 0.5 or right < 0.5
