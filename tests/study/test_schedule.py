"""The order of measurements."""

from __future__ import annotations

import itertools
import typing
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.study.schedule import Order, balance, base_first, schedule, turn_of
from tests.builders import UNHURRIED

ORDERS: tuple[Order, ...] = typing.get_args(Order)
SEVERAL = range(2, 10)

names = st.lists(st.text(max_size=3), unique=True, max_size=7)
orders = st.sampled_from(ORDERS)
seeds = st.integers(0, 2**70)


def rows(n: int, cycles: int) -> list[tuple[str, ...]]:
    """The experiments of each cycle of a Latin square."""
    order = schedule([str(i) for i in range(n)], cycles, "latin_square", 0)
    assert [cycle for _, cycle in order] == sorted(cycle for _, cycle in order)
    return [tuple(name for name, _ in order[c * n : c * n + n]) for c in range(cycles)]


def neighbours(n: int, cycles: int) -> Counter[tuple[str, str]]:
    """How often each experiment comes just before each other one, in the same cycle."""
    counted: Counter[tuple[str, str]] = Counter()
    for row in rows(n, cycles):
        counted.update(itertools.pairwise(row))
    return counted


# --- examples ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("interleaved", "a1 b1 c1 a2 b2 c2"),
        ("sequential", "a1 a2 b1 b2 c1 c2"),
        ("shuffled", "c1 a1 b1 b2 c2 a2"),
        ("latin_square", "a1 b1 c1 b2 c2 a2"),
    ],
)
def test_two_cycles_of_three_experiments(order: Order, expected: str) -> None:
    found = schedule(["a", "b", "c"], 2, order, 42)
    assert " ".join(f"{name}{cycle}" for name, cycle in found) == expected


@pytest.mark.parametrize(
    ("n", "cycles", "expected"),
    [
        (1, 2, "0 0"),
        (2, 3, "01 10 01"),
        (3, 7, "012 120 201 210 021 102 012"),
        (4, 5, "0132 1203 2310 3021 0132"),
        (6, 6, "015243 120354 231405 342510 453021 504132"),
    ],
)
def test_the_rows_of_latin_squares(n: int, cycles: int, expected: str) -> None:
    assert " ".join(map("".join, rows(n, cycles))) == expected


@pytest.mark.parametrize("order", ORDERS)
def test_nothing_is_scheduled_for_nothing(order: Order) -> None:
    assert schedule([], 3, order, 0) == []
    assert schedule(["a"], 0, order, 0) == []


@pytest.mark.parametrize("order", ORDERS)
def test_one_experiment_is_measured_cycle_after_cycle(order: Order) -> None:
    assert schedule(["a"], 3, order, 0) == [("a", 1), ("a", 2), ("a", 3)]


# --- every order ---------------------------------------------------------------------------


@UNHURRIED
@given(names, st.integers(0, 15), orders, seeds)
def test_each_experiment_is_measured_in_each_cycle_just_once(
    names: list[str], cycles: int, order: Order, seed: int
) -> None:
    found = schedule(names, cycles, order, seed)
    assert sorted(found) == sorted(itertools.product(sorted(names), range(1, cycles + 1)))


@UNHURRIED
@given(names, st.integers(0, 15), orders, seeds)
def test_the_cycles_of_an_experiment_ascend(
    names: list[str], cycles: int, order: Order, seed: int
) -> None:
    found = schedule(names, cycles, order, seed)
    for name in names:
        assert [c for n, c in found if n == name] == list(range(1, cycles + 1))


@UNHURRIED
@given(names, st.integers(0, 15), orders.filter(lambda order: order != "sequential"), seeds)
def test_every_cycle_is_over_before_the_next_one_starts(
    names: list[str], cycles: int, order: Order, seed: int
) -> None:
    counted = [cycle for _, cycle in schedule(names, cycles, order, seed)]
    assert counted == sorted(counted)


@UNHURRIED
@given(names, st.integers(0, 15), orders, seeds)
def test_equal_arguments_give_an_equal_order(
    names: list[str], cycles: int, order: Order, seed: int
) -> None:
    first = schedule(names, cycles, order, seed)
    assert schedule(tuple(names), cycles, order, seed) == first


@UNHURRIED
@given(names, st.integers(1, 15), orders.filter(lambda order: order != "sequential"), seeds)
def test_more_cycles_leave_the_first_ones_as_they_were(
    names: list[str], cycles: int, order: Order, seed: int
) -> None:
    more = schedule(names, cycles, order, seed)
    fewer = schedule(names, cycles - 1, order, seed)
    assert more[: len(fewer)] == fewer


@UNHURRIED
@given(st.data(), names, st.integers(1, 15), orders, seeds)
def test_a_selection_of_experiments_is_scheduled_like_a_study_of_its_own(
    data: st.DataObject, names: list[str], cycles: int, order: Order, seed: int
) -> None:
    chosen = [name for name in names if data.draw(st.booleans())]
    found = schedule(chosen, cycles, order, seed)
    assert {name for name, _ in found} == set(chosen)
    if order in {"interleaved", "sequential"}:
        assert found == [t for t in schedule(names, cycles, order, seed) if t[0] in chosen]


@UNHURRIED
@given(names, st.integers(1, 15), orders.filter(lambda order: order != "shuffled"), seeds, seeds)
def test_the_seed_counts_for_shuffled_alone(
    names: list[str], cycles: int, order: Order, one: int, other: int
) -> None:
    assert schedule(names, cycles, order, one) == schedule(names, cycles, order, other)


# --- shuffled ------------------------------------------------------------------------------


def test_cycles_are_shuffled_anew_and_into_every_order_alike() -> None:
    found = schedule(["a", "b", "c"], 6000, "shuffled", 7)
    counted = Counter(tuple(n for n, _ in found[i : i + 3]) for i in range(0, len(found), 3))
    assert set(counted) == set(itertools.permutations("abc"))
    # A thousand are expected of each; 150 is more than five standard deviations.
    assert all(850 < count < 1150 for count in counted.values())


def test_seeds_shuffle_differently() -> None:
    found = {tuple(schedule(["a", "b", "c", "d"], 3, "shuffled", seed)) for seed in range(50)}
    assert len(found) >= 48


# --- Latin squares -------------------------------------------------------------------------


@pytest.mark.parametrize("n", SEVERAL)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_every_ordered_pair_is_neighbours_equally_often(n: int, times: int) -> None:
    cycles = times * (n if n % 2 == 0 else 2 * n)
    counted = neighbours(n, cycles)
    pairs = set(itertools.permutations(map(str, range(n)), 2))
    assert counted == dict.fromkeys(pairs, cycles * (n - 1) // len(pairs))


@pytest.mark.parametrize("n", SEVERAL)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_every_experiment_has_every_position_equally_often(n: int, times: int) -> None:
    positions = Counter((name, i) for row in rows(n, times * n) for i, name in enumerate(row))
    assert positions == {(str(e), i): times for e in range(n) for i in range(n)}


@pytest.mark.parametrize("n", SEVERAL)
def test_balance_says_what_counting_says(n: int) -> None:
    for cycles in range(1, 4 * n + 2):
        counted = neighbours(n, cycles)
        even = len(counted) == n * (n - 1) and len(set(counted.values())) == 1
        assert (balance(n, cycles, "latin_square") == "") == even


@pytest.mark.parametrize(
    ("n", "cycles", "text"),
    [
        (3, 4, "4 cycles of 3 experiments; use a multiple of 6"),
        (3, 3, "3 cycles of 3 experiments; use a multiple of 6"),
        (4, 6, "6 cycles of 4 experiments; use a multiple of 4"),
        (2, 1, "1 cycle of 2 experiments; use a multiple of 2"),
    ],
)
def test_what_is_not_balanced_is_told_with_the_cycles_that_are(
    n: int, cycles: int, text: str
) -> None:
    assert balance(n, cycles, "latin_square") == f"latin_square is not balanced: {text}"


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_experiments_are_always_balanced(n: int) -> None:
    assert {balance(n, cycles, "latin_square") for cycles in range(5)} == {""}


@pytest.mark.parametrize("order", [order for order in ORDERS if order != "latin_square"])
def test_other_orders_promise_no_balance(order: Order) -> None:
    assert balance(3, 4, order) == ""


# --- base and head -------------------------------------------------------------------------


def test_base_and_head_take_turns_in_coming_first() -> None:
    assert [base_first(cycle) for cycle in range(1, 9)] == [
        *(True, False, False, True),
        *(False, True, True, False),
    ]
    turns = [[turn_of(cycle, arm) for arm in ("base", "head")] for cycle in (1, 2)]
    assert turns == [[0, 1], [1, 0]]
    assert turn_of(2, None) == 0


def test_in_blocks_of_two_and_four_drift_falls_on_both_alike() -> None:
    sign = {cycle: 1 if base_first(cycle) else -1 for cycle in range(1, 33)}
    for block in range(0, 32, 2):
        assert sign[block + 1] + sign[block + 2] == 0
    for block in range(0, 32, 4):
        assert sum(sign[block + i] * i for i in range(1, 5)) == 0
