"""The order of measurements."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.study.schedule import interleaved
from tests.builders import UNHURRIED


def test_every_experiment_comes_once_before_any_comes_again() -> None:
    assert interleaved(["a", "b"], 2) == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_nothing_is_scheduled_for_nothing() -> None:
    assert interleaved([], 3) == []


@UNHURRIED
@given(st.lists(st.text(), unique=True), st.integers(1, 5))
def test_each_experiment_is_measured_in_each_cycle_just_once(names: list[str], cycles: int) -> None:
    order = interleaved(names, cycles)
    assert sorted(order) == sorted(
        (name, cycle) for name in names for cycle in range(1, cycles + 1)
    )
    assert [cycle for _, cycle in order] == sorted(cycle for _, cycle in order)
