"""Ticks of a number, found by polls whose clock is a list."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from pytest_llem.meters.power_ticks import Tick, TickFinder, fit

PERIOD_S, PHASE_S = 0.1, 0.0137


class Sensor:
    """A number that is renewed on a grid, polled by whoever the finder tells to."""

    def __init__(self, value: Callable[[int], float], jitter_s: float = 0.0) -> None:
        self.value = value
        self.jitter_s = jitter_s
        self.polls = 0

    def tick_s(self, number: int) -> float:
        offset = random.Random(number).uniform(-0.5, 0.5) * self.jitter_s
        return PHASE_S + number * PERIOD_S + offset

    def read(self, time_s: float) -> float:
        number = math.floor((time_s - PHASE_S) / PERIOD_S) + 1
        while self.tick_s(number) > time_s:
            number -= 1
        return self.value(number)

    def watch(self, from_s: float, to_s: float, call_s: float = 0.0001) -> list[Tick]:
        """Poll as the finder wants, each call taking some time."""
        finder, found, now_s = TickFinder(), [], from_s
        while now_s < to_s:
            self.polls += 1
            tick = finder.feed(now_s, now_s + call_s, self.read(now_s + call_s / 2))
            if tick is not None:
                found.append(tick)
            now_s = max(now_s + call_s + 0.0003, finder.next_poll_s())
        return found

    def misses(self, ticks: list[Tick]) -> list[Tick]:
        """Brackets that don't hold a tick of the sensor."""
        return [
            tick
            for tick in ticks
            if not any(
                tick.lo_s <= self.tick_s(number) <= tick.hi_s
                for number in range(
                    round((tick.lo_s - PHASE_S) / PERIOD_S) - 1,
                    round((tick.hi_s - PHASE_S) / PERIOD_S) + 2,
                )
            )
        ]


def noisy(number: int) -> float:
    return random.Random(number).randrange(390_000, 410_000) / 1000


def test_every_tick_is_bracketed_within_a_thousandth() -> None:
    sensor = Sensor(noisy)
    found = sensor.watch(0.0, 10.0)
    assert len(found) == 100
    assert sensor.misses(found) == []
    assert max(tick.hi_s - tick.lo_s for tick in found) <= 0.001


def test_what_was_read_belongs_to_its_tick() -> None:
    for number, tick in enumerate(Sensor(noisy).watch(0.0, 5.0)):
        assert tick.value == noisy(number)


def test_polls_are_made_around_the_ticks_only_once_the_period_is_known() -> None:
    sensor = Sensor(noisy)
    sensor.watch(0.0, 2.0)
    learning = sensor.polls
    sensor.watch(0.0, 22.0)
    assert sensor.polls - learning < 2 * learning


def test_a_renewal_by_an_equal_number_is_where_it_was_due() -> None:
    sensor = Sensor(lambda number: 100.0 if number % 40 > 20 else noisy(number))
    found = sensor.watch(0.0, 12.0)
    assert len(found) >= 118
    unseen = [tick for tick in found if not tick.seen]
    assert len(unseen) > 30
    assert {tick.value for tick in unseen} == {100.0}
    assert sensor.misses(found) == []


def test_a_number_that_never_changes_shows_no_tick() -> None:
    sensor = Sensor(lambda _: 70.0)
    assert sensor.watch(0.0, 2.0) == []


def test_a_sensor_that_is_a_little_irregular_is_followed() -> None:
    sensor = Sensor(noisy, jitter_s=0.008)
    found = sensor.watch(0.0, 20.0)
    assert len(found) >= 190
    assert len(sensor.misses(found)) <= 2


def test_slow_calls_make_wide_brackets_that_are_right() -> None:
    sensor = Sensor(noisy)
    found = sensor.watch(0.0, 10.0, call_s=0.01)
    assert sensor.misses(found) == []
    assert all(tick.hi_s - tick.lo_s <= 0.022 for tick in found)


def test_a_sensor_that_changes_its_grid_is_found_again() -> None:
    class Moved(Sensor):
        def tick_s(self, number: int) -> float:
            return PHASE_S + number * PERIOD_S + (0.05 if number > 50 else 0.0)

    sensor = Moved(noisy)
    found = sensor.watch(0.0, 15.0)
    late = [tick for tick in found if tick.lo_s > 8.0]
    assert len(late) >= 60
    assert sensor.misses(late) == []


def test_polls_that_stop_for_a_while_lose_no_more_than_that_while() -> None:
    finder, sensor, found, now_s = TickFinder(), Sensor(noisy), [], 0.0
    while now_s < 6.0:
        if 2.5 < now_s < 2.51:
            now_s += 1.234  # the machine was busy
        tick = finder.feed(now_s, now_s + 0.0001, sensor.read(now_s))
        if tick is not None:
            found.append(tick)
        now_s = max(now_s + 0.0004, finder.next_poll_s())
    after = [tick for tick in found if tick.lo_s > 3.9]
    assert len(after) >= 18
    assert sensor.misses(found) == []


@pytest.mark.parametrize("missing", [set(), {1, 4}, {2, 3, 5, 6}])
def test_a_grid_is_found_through_missing_ticks(missing: set[int]) -> None:
    ticks = [
        Tick(lo_s=3 + 0.02 * k, hi_s=3.0002 + 0.02 * k, value=1.0)
        for k in range(14)
        if k not in missing
    ]
    found = fit(ticks)
    assert found is not None
    assert found.period_s == pytest.approx(0.02)
    assert found.due_after(3.5) == pytest.approx(3.5001)


@pytest.mark.parametrize(
    "middles", [[0.0, 0.1, 0.27, 0.31, 0.6, 0.66, 0.9], [1.0], [1.0, 1.0, 1.0]]
)
def test_what_lies_on_no_grid_has_none(middles: list[float]) -> None:
    assert fit([Tick(lo_s=m, hi_s=m + 1e-4, value=1.0) for m in middles]) is None


def test_brackets_as_wide_as_the_distances_say_nothing() -> None:
    ticks = [Tick(lo_s=0.1 * k, hi_s=0.1 * k + 0.09, value=1.0) for k in range(10)]
    assert fit(ticks) is None
