"""When to stop measuring: failures counted, times foretold; on a clock of its own."""

from __future__ import annotations

import pytest

from pytest_llem.results.stopping import Stopping, failed_too_often


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def budget(clock: Clock, seconds: float) -> Stopping:
    stopping = Stopping(time_budget_s=seconds, clock=clock)
    stopping.begin()
    return stopping


def test_without_limits_nothing_is_refused(clock: Clock) -> None:
    stopping = Stopping(clock=clock)
    stopping.begin()
    for cycle in range(9):
        assert stopping.refusal("fake", "a", cycle) == ""
        stopping.made("fake", "a", cycle, 1e9, failed=True)


def test_after_so_many_failures_the_backend_is_refused_and_no_other() -> None:
    stopping = Stopping(max_failures=2)
    stopping.made("fake", "a", 1, 1.0, failed=True)
    assert stopping.refusal("fake", "b", 1) == ""
    stopping.made("fake", "b", 1, 1.0, failed=False)
    stopping.made("fake", "a", 2, None, failed=True)
    reason = "max_failures: 2 measurements of fake failed, the rest of this backend is skipped"
    assert stopping.refusal("fake", "b", 2) == reason
    assert stopping.refusal("other", "c", 1) == ""
    assert failed_too_often([None, "no engine", reason])
    assert not failed_too_often([None, "no engine", "time_budget_s: the 5 s are over"])


def test_a_failure_that_another_try_mends_does_not_count() -> None:
    stopping = Stopping(max_failures=1)
    stopping.made("fake", "a", 1, 1.0, failed=True)
    assert "1 measurement of fake failed" in stopping.refusal("fake", "a", 2)
    assert stopping.refusal("fake", "a", 1) == ""
    stopping.made("fake", "a", 1, 1.0, failed=False)
    assert stopping.refusal("fake", "a", 2) == ""


def test_time_is_counted_from_the_first_beginning(clock: Clock) -> None:
    stopping = budget(clock, 60.0)
    clock.now_s += 59.0
    stopping.begin()
    assert stopping.refusal("fake", "a", 1) == ""
    clock.now_s += 1.0
    assert stopping.refusal("fake", "a", 1) == "time_budget_s: the 60 s are over"


def test_the_longest_of_an_experiment_foretells_the_next(clock: Clock) -> None:
    stopping = budget(clock, 60.0)
    for took_s in (10.0, 20.0, 15.0):
        stopping.made("fake", "a", 1, took_s, failed=False)
    clock.now_s += 40.0
    assert stopping.refusal("fake", "a", 2) == ""
    clock.now_s += 0.5
    assert stopping.refusal("fake", "a", 2) == (
        "time_budget_s: 19.5 s of 60 s are left, and it takes about 20 s, as the longest of a did"
    )


def test_of_a_new_experiment_the_others_of_its_backend_tell(clock: Clock) -> None:
    stopping = budget(clock, 60.0)
    for experiment, took_s in (("a", 1.0), ("b", 30.0), ("c", 100.0)):
        stopping.made("fake", experiment, 1, took_s, failed=False)
    clock.now_s += 31.0
    assert stopping.refusal("fake", "d", 1) == (
        "time_budget_s: 29 s of 60 s are left, and it takes about 30 s,"
        " as half of the others of fake did"
    )
    assert stopping.refusal("fake", "a", 2) == ""
    # Of another backend nothing is known, so that it is tried.
    assert stopping.refusal("other", "e", 1) == ""


def test_the_gap_before_it_takes_time_too(clock: Clock) -> None:
    stopping = budget(clock, 60.0)
    stopping.made("fake", "a", 1, 50.0, failed=True)
    assert stopping.refusal("fake", "a", 2, 10.0) == ""
    assert stopping.refusal("fake", "a", 2, 10.5) == (
        "time_budget_s: 60 s of 60 s are left, and it takes about 50 s after a gap of 10.5 s,"
        " as the longest of a did"
    )
