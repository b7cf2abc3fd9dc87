"""Watching a counter for its ticks."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llem.meters.ticks import CounterLost, Tick, Track, gather, probe
from tests.builders import UNHURRIED

pytestmark = pytest.mark.once

CALL_S = 25e-6


class Time:
    """A clock that a look at it moves, too."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        self.now_s += 1e-6
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds + 50e-6


class Counter:
    """A counter of a steady power; reads see its state in the middle of their time."""

    def __init__(
        self, time: Time, period_s: float = 0.1, *, power_w: float = 70.0, phase_s: float = 0.0137
    ) -> None:
        self._time = time
        self.period_s = period_s
        self.power_w = power_w
        self.phase_s = phase_s
        self.frozen: int | None = None
        self.reads = 0

    def tick_s(self, at_s: float) -> float:
        """The last tick until a time."""
        return self.phase_s + math.floor((at_s - self.phase_s) / self.period_s) * self.period_s

    def __call__(self) -> int:
        self.reads += 1
        self._time.now_s += CALL_S / 2
        value = int(self.tick_s(self._time.now_s) * self.power_w * 1000)
        self._time.now_s += CALL_S / 2
        return value if self.frozen is None else self.frozen


def watched(counter: Counter, time: Time, limit_w: float | None = 700.0) -> Track:
    return Track(counter, unit_j=0.001, modulus=2**32, limit_w=limit_w, clock=time)


def fail(track: Track, error: CounterLost) -> None:
    raise error


def seen(track: Track, count: int) -> Callable[[Track], bool]:
    """Whether so many ticks were seen since now."""
    since_s = track.last.hi_s if track.last else 0.0
    return lambda _: sum(tick.lo_s >= since_s for tick in track.ticks) >= count


# --- probing -------------------------------------------------------------------------------


@settings(UNHURRIED, max_examples=40)
@given(period_s=st.floats(0.001, 0.4), phase_s=st.floats(0, 0.4))
def test_a_period_is_found_whatever_it_is(period_s: float, phase_s: float) -> None:
    time = Time()
    counter = Counter(time, period_s, power_w=90.0, phase_s=phase_s)
    track = watched(counter, time)
    assert probe([track], time) == {}
    assert track.period_s == pytest.approx(period_s, abs=2 * track.doubt_s)
    assert track.doubt_s < 0.05 * period_s


def test_counters_are_probed_together() -> None:
    time = Time()
    tracks = [watched(Counter(time, period_s), time) for period_s in (0.02, 0.1, 0.063)]
    start_s = time.now_s
    assert probe(tracks, time) == {}
    assert time.now_s - start_s < 0.8
    assert [round(track.period_s, 2) for track in tracks] == [0.02, 0.1, 0.06]


def test_what_cant_be_probed_says_why() -> None:
    time = Time()
    still, gone, fine = (Counter(time, 1e9), Counter(time), Counter(time))

    def lost() -> int:
        raise CounterLost("no such thing")

    tracks = [watched(still, time), Track(lost, unit_j=1.0, clock=time), watched(fine, time)]
    problems = probe(tracks, time)
    assert problems == {
        tracks[0]: "the energy counter didn't move within 2.5 s",
        tracks[1]: "no such thing",
    }
    assert tracks[2].period_s == pytest.approx(0.1, rel=0.01)
    assert gone.reads == 0


# --- ticks ---------------------------------------------------------------------------------


@settings(UNHURRIED, max_examples=40)
@given(
    period_s=st.sampled_from((0.001, 0.007, 0.02, 0.1, 0.25)),
    pauses_s=st.lists(st.floats(0, 3), min_size=1, max_size=6),
)
def test_ticks_are_where_they_are_said_to_be(period_s: float, pauses_s: list[float]) -> None:
    time = Time()
    counter = Counter(time, period_s)
    track = watched(counter, time)
    probe([track], time)
    for pause_s in pauses_s:
        time.sleep(pause_s)
        gather([track], seen(track, 2), fail, 3.0, time)
    for tick in track.ticks:
        slack_s = 0.003 * period_s + CALL_S
        true_s = counter.tick_s(tick.hi_s + slack_s)
        assert tick.lo_s - slack_s <= true_s <= tick.hi_s + slack_s
    assert len(track.ticks) > 2


def test_reads_are_few() -> None:
    time = Time()
    counter = Counter(time)
    track = watched(counter, time)
    probe([track], time)
    time.sleep(0.5)
    counter.reads = 0
    gather([track], seen(track, 3), fail, 3.0, time)
    assert 3 < counter.reads < 400


def test_the_period_is_known_ever_better() -> None:
    time = Time()
    counter = Counter(time, 0.1003)
    track = watched(counter, time)
    probe([track], time)
    first_s = track.doubt_s
    for pause_s in (1, 5, 20, 100):
        time.sleep(pause_s)
        gather([track], seen(track, 2), fail, 3.0, time)
    assert track.doubt_s < first_s / 20
    assert track.period_s == pytest.approx(0.1003, abs=track.doubt_s)


def test_a_counter_that_stops_ends_the_wait() -> None:
    time = Time()
    counter = Counter(time)
    track = watched(counter, time)
    probe([track], time)
    counter.frozen = counter()
    start_s = time.now_s
    gather([track], seen(track, 2), fail, 1.0, time)
    assert 1.0 <= time.now_s - start_s < 1.01


@pytest.mark.parametrize("away_s", [0.03, 0.18, 0.37, 1.13])
def test_a_stalled_process_knows_which_tick_it_missed(away_s: float) -> None:
    time = Time()
    counter = Counter(time)
    track = watched(counter, time)
    probe([track], time)
    time.now_s = counter.tick_s(time.now_s) + 0.1 - 0.001 + away_s
    tick = track.look()
    if tick is not None:
        assert tick.time_s == pytest.approx(counter.tick_s(time.now_s), abs=0.002)
        assert tick.hi_s - tick.lo_s < 0.005
    else:
        # Next to another tick it can't be told.
        assert min(time.now_s % 0.1 - 0.0137, 0.1137 - time.now_s % 0.1) < 0.011


def test_a_tick_that_came_early_is_not_taken_for_another() -> None:
    time = Time()
    counter = Counter(time)
    track = watched(counter, time)
    probe([track], time)
    counter.phase_s -= 0.004
    for _ in range(4):
        gather([track], seen(track, 2), fail, 2.0, time)
        time.sleep(0.3)
    late = [tick for tick in track.ticks if tick.hi_s - tick.lo_s < 0.05][-3:]
    for tick in late:
        assert tick.time_s == pytest.approx(counter.tick_s(tick.hi_s + 0.001), abs=0.001)


# --- values --------------------------------------------------------------------------------


@settings(UNHURRIED, max_examples=40)
@given(
    start=st.integers(0, 2**32 - 1),
    steps=st.lists(st.integers(0, 60_000), min_size=1, max_size=8),
)
def test_a_counter_of_32_bits_goes_on(start: int, steps: list[int]) -> None:
    time = Time()
    values = iter([start, *((start + sum(steps[: n + 1])) % 2**32 for n in range(len(steps)))])
    track = Track(lambda: next(values), unit_j=0.001, modulus=2**32, limit_w=700.0, clock=time)
    for _ in range(len(steps) + 1):
        track.look()
    assert track.last is not None
    assert track.last.joules == pytest.approx(sum(steps) / 1000)


@pytest.mark.parametrize(
    ("values", "modulus", "reason"),
    [
        ((5_000_000, 1_000), 2**32, "the energy counter was reset: it went from 5000 to 1 J"),
        ((2**32 + 10, 20), 2**32, "the energy counter was reset"),
        ((500, 400), None, "the energy counter was reset"),
        ((0, 5_000_000), 2**32, "the energy counter jumped ahead: 5000 J in"),
    ],
)
def test_a_value_that_cant_be_is_an_end(
    values: tuple[int, int], modulus: int | None, reason: str
) -> None:
    time, told = Time(), iter(values)
    track = Track(lambda: next(told), unit_j=0.001, modulus=modulus, limit_w=700.0, clock=time)
    track.look()
    with pytest.raises(CounterLost, match=reason):
        track.look()


@settings(UNHURRIED, max_examples=30)
@given(quantum=st.sampled_from((1, 10, 250, 1000)), start=st.integers(0, 10**6))
def test_the_step_of_a_counter_is_seen(quantum: int, start: int) -> None:
    time = Time()
    told = iter([(start + number) * quantum for number in range(12)])
    track = Track(lambda: next(told), unit_j=0.001, limit_w=None, clock=time)
    for _ in range(12):
        track.look()
    assert track.step_j == pytest.approx(quantum / 1000)


def test_a_ticks_doubt_is_that_of_its_bracket() -> None:
    tick = Tick(1.0, 1.002, 5.0)
    assert tick.time_s == 1.001
    assert tick.spread_s == pytest.approx(1.15 * 0.002 / math.sqrt(12))
