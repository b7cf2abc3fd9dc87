"""A time to watch for, of which a process that doesn't run loses nothing."""

from __future__ import annotations

import pytest

from pytest_llem.meters.patience import Patience


class Time:
    """A clock that only the test, or a sleeper, moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def passes(time: Time, longest_s: float, pass_s: float) -> int:
    """How many passes of a length there is time for."""
    patience, count = Patience(longest_s, time), 0
    while patience.lasts():
        assert patience.now_s == time.now_s
        time.now_s += pass_s
        count += 1
    return count


def test_time_that_passes_is_over() -> None:
    assert passes(Time(), 1.0, pass_s=0.015625) == 64


def test_sleep_is_counted_and_ends_in_time() -> None:
    time = Time()
    patience = Patience(1.0, time)
    assert patience.lasts()
    patience.sleep(0.75)
    assert patience.lasts()
    patience.sleep(0.75)
    assert time.now_s == pytest.approx(101.0)
    assert not patience.lasts()


def test_a_process_that_did_not_run_has_as_much_time_left() -> None:
    time = Time()
    patience = Patience(0.25, time)
    assert patience.lasts()
    time.now_s += 2.0
    assert patience.lasts()
    patience.sleep(0.2)
    time.now_s += 2.0
    assert patience.lasts()
    patience.sleep(0.2)
    assert not patience.lasts()


def test_there_is_an_end_to_it_whatever_takes_the_time() -> None:
    assert passes(Time(), 2.0, pass_s=1.0) == 12
