"""Counters that stand still and jump: when they jump, and by how much.

An energy counter of a GPU or a CPU is renewed every so often (every 100 ms, 20 ms, 1 ms), in steps
called ticks here. Between two ticks it tells nothing, at a tick it is exact. So what matters is
to know the time of a tick: it lies between the last read that had the old value and the first
that has the new one. Reads cluster around the time when a tick is due; in between this sleeps.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pytest_llem.meters.patience import Clock, Patience
from pytest_llem.meters.priority import prompt

__all__ = ["Clock", "CounterLost", "Look", "Tick", "Track", "gather", "probe"]


_KEPT = 32
_PROBED = 4
_PROBE_DOUBT = 0.05
_JITTER = 0.002
_PROBE_S = 2.5
_SURE = 0.4
"""Part of a period within which a tick must be pinned down to count as seen."""

_UNEVEN = 1.15
"""Reads aren't spaced evenly, nor are their values of the very middle of a call."""

_SHARP_S = 0.0005
"""A bracket this narrow is taken as it is."""

_EARLY = 0.015
_EARLY_S = 0.0015
"""Reads begin this part of a period, and at least this time, before a tick is due."""

_SPARE = 0.1
"""Part of a period by which a tick is at least allowed to come early or late."""

_MISSED = 8
"""After so many ticks in a row that weren't seen reads begin no earlier still."""

_NEAR = 4
"""Ticks that are at most so many periods apart tell how regular they are."""

_NAP_S = 0.0002
"""Between two reads while the time of the next tick isn't known."""


class CounterLost(Exception):
    """A counter can't be read any more, or what it says can't be; the message says why."""


@dataclass(frozen=True, slots=True)
class Look:
    """A value of a counter, which it had some time between ``lo_s`` and ``hi_s``."""

    lo_s: float
    hi_s: float
    joules: float


class Tick(Look):
    """A change of a counter to ``joules``, some time between ``lo_s`` and ``hi_s``."""

    __slots__ = ()

    @property
    def time_s(self) -> float:
        """The middle of its bracket."""
        return (self.lo_s + self.hi_s) / 2

    @property
    def spread_s(self) -> float:
        """Standard uncertainty of its time: anywhere in the bracket is about equally likely."""
        return _UNEVEN * (self.hi_s - self.lo_s) / math.sqrt(12)


class Track:
    """A counter, watched for its ticks.

    Attributes:
        period_s: from tick to tick; 0 until :func:`probe` has found it.
        doubt_s: by how much the period may be wrong.
        call_s: what a read takes at least.
        jitter_s: by how much a tick may be off its time; infinite where that isn't known.
        missed: ticks since the last that was seen, which came before they were looked for.
        fresh_s: no value is older than this when it is read; infinity where that isn't known.
        ticks: the last ones seen, in order, and not always neighbours.
        last: what was read last.
    """

    def __init__(
        self,
        read: Callable[[], int],
        *,
        unit_j: float,
        modulus: int | None = None,
        limit_w: float | None = None,
        clock: Clock = time,
    ) -> None:
        """Watch a counter.

        Args:
            read: the counter's value; raises :class:`CounterLost`.
            unit_j: joules of one count.
            modulus: the value at which it starts again from 0.
            limit_w: power that can't be exceeded, by which a wrap is told from a reset; None where
                every step back is a wrap.
            clock: the module ``time``, or a test's own.
        """
        self._read = read
        self._modulus = modulus
        self._limit_w = limit_w
        self._clock = clock
        self._raw: int | None = None
        self.call_s = math.inf
        self._first = 0
        self._total = 0
        self._step_counts = 0
        self.unit_j = unit_j
        self.period_s = 0.0
        self.doubt_s = math.inf
        self.jitter_s = math.inf
        self.missed = 0
        self.fresh_s = math.inf
        self.ticks: deque[Tick] = deque(maxlen=_KEPT)
        self.last: Look | None = None

    @property
    def step_j(self) -> float:
        """The least by which the counter is seen to move: some count whole joules."""
        return self.unit_j * max(1, self._step_counts)

    def look(self) -> Tick | None:
        """Read once; the tick, if that was one which can be told the time of.

        Raises:
            CounterLost: when there is no value, or one that can't be.
        """
        lo_s = self._clock.monotonic()
        raw = self._read()
        hi_s = self._clock.monotonic()
        self.call_s = min(self.call_s, hi_s - lo_s)
        before, self._raw = self._raw, raw
        if before is None or self.last is None:
            self._first = self._step_counts = raw
            self.last = Look(lo_s, hi_s, 0.0)
            return None
        self._total += self._step(before, raw, hi_s - self.last.lo_s)
        self._step_counts = math.gcd(self._step_counts, self._first + self._total)
        previous, self.last = self.last, Look(lo_s, hi_s, self._total * self.unit_j)
        if raw == before:
            return None
        # Within a call that took no longer than usual, the value is taken to be that of its middle:
        # what that is wrong by is the same at both ends of a window, and cancels out.
        inner_s = self.call_s / 2
        first_s = max(previous.lo_s, lo_s - self.fresh_s)
        change = Tick(first_s + inner_s, hi_s - inner_s, self.last.joules)
        tick = self._pinned(change, lo_s)
        if tick is not None:
            self.ticks.append(tick)
        return tick

    def _pinned(self, change: Tick, read_s: float) -> Tick | None:
        """A change, its time narrowed by when a tick was due; None where it can't be told.

        The process may not have run for a while, and not have looked when the tick came. The value
        is that of the last tick before the read, which began at ``read_s``, all the same.
        """
        width_s = change.hi_s - change.lo_s
        if not self.period_s or width_s <= max(_SHARP_S, 4 * self.doubt_s):
            return change
        sure = width_s <= _SURE * self.period_s
        if self.ticks:
            last = self.ticks[-1]
            # From the middle of its bracket, as far as that and the period can be wrong.
            count = math.floor((change.hi_s - last.time_s) / self.period_s)
            due_s = last.time_s + count * self.period_s
            doubt_s = (last.hi_s - last.lo_s) / 2 + count * self.doubt_s + self.jitter_s
            lo_s, hi_s = due_s - doubt_s, due_s + doubt_s
            # In a long bracket it may have been the tick before, come late, or the next one, early.
            spare_s = 0.0 if sure else max(_SPARE * self.period_s, 3 * self.jitter_s)
            after_it = sure or due_s + spare_s <= read_s
            clear = after_it and change.hi_s <= due_s + self.period_s - spare_s
            if count >= 1 and clear and change.lo_s <= hi_s <= change.hi_s:
                return Tick(max(change.lo_s, lo_s), hi_s, change.joules)
        return change if sure else None

    def _step(self, before: int, raw: int, elapsed_s: float) -> int:
        """Counts since the last read; a counter that starts again from 0 goes on."""
        step = raw - before
        # A counter is renewed in steps: two reads may see one period more than lies between.
        most_j = 2 * (self._limit_w or math.inf) * (elapsed_s + 2 * (self.period_s or 1.0))
        if 0 <= step * self.unit_j <= most_j:
            return step
        if step > 0:
            raise CounterLost(
                f"the energy counter jumped ahead: {step * self.unit_j:g} J in {elapsed_s:.3g} s is"
                f" more than a device of {self._limit_w:g} W can take"
            )
        # One that has been beyond a modulus doesn't wrap there.
        if self._modulus is not None and before < self._modulus:
            step %= self._modulus
            if step * self.unit_j <= most_j:
                return step
        raise CounterLost(
            f"the energy counter was reset: it went from {before * self.unit_j:g} to"
            f" {raw * self.unit_j:g} J; measure again"
        )

    def due_s(self, now_s: float) -> float:
        """When reads for the next tick should begin; now, where that can't be told."""
        if not self.ticks or not self.period_s:
            return now_s
        last = self.ticks[-1]
        count = max(1.0, (now_s - last.time_s) / self.period_s)
        # The longer ago the last tick, the less is known of the next.
        doubt_s = (last.hi_s - last.lo_s) / 2 + count * self.doubt_s
        jitter_s = 0.0 if math.isinf(self.jitter_s) else 2 * self.jitter_s
        margin_s = max(_EARLY_S, _EARLY * self.period_s, jitter_s)
        # After one that came too early the next is looked for earlier. And a read must have ended.
        margin_s = min(margin_s * (1 << self.missed), self.period_s / 2) + self.call_s
        early_s = doubt_s + margin_s
        if count > 1 and now_s < last.time_s + math.floor(count) * self.period_s + early_s:
            # It was due a moment ago: late, not missed.
            return now_s
        due_s = last.time_s + math.ceil(count) * self.period_s - early_s
        return max(now_s, due_s)

    def learn(self) -> None:
        """Take the period from the ticks seen: over many periods its error is small.

        From the last tick back to the one before it, and on to earlier ones as long as the number
        of periods between is beyond doubt; the tightest bracket of all counts.
        """
        if not self.period_s:
            return
        self._scatter()
        jitter_s = _JITTER * self.period_s if math.isinf(self.jitter_s) else self.jitter_s
        last, *earlier = reversed(self.ticks)
        for first in earlier:
            count = round((last.time_s - first.time_s) / self.period_s)
            bracket_s = last.hi_s - first.lo_s - (last.lo_s - first.hi_s)
            if count < 1 or count * self.doubt_s + bracket_s / 2 > 0.4 * self.period_s:
                continue
            doubt_s = (bracket_s / 2 + jitter_s) / count
            if doubt_s <= self.doubt_s:
                self.period_s = (last.time_s - first.time_s) / count
                self.doubt_s = doubt_s

    def _scatter(self) -> None:
        """Find out how regular the ticks are, by those that were pinned down well."""
        widest_s = max(_SHARP_S, _EARLY * self.period_s)
        off_s = []
        for start, end in itertools.pairwise(self.ticks):
            gap_s = end.time_s - start.time_s
            count = round(gap_s / self.period_s)
            widths_s = (start.hi_s - start.lo_s, end.hi_s - end.lo_s)
            if max(widths_s) <= widest_s and 1 <= count <= _NEAR:
                off_s.append(abs(gap_s - count * self.period_s))
        if len(off_s) > 1:
            self.jitter_s = max(_JITTER * self.period_s, *off_s)


def probe(tracks: Sequence[Track], clock: Clock = time) -> dict[Track, str]:
    """Find the period of counters, all at the same time.

    Returns:
        Why there is none, of those that have none.
    """
    problems: dict[Track, str] = {}
    open_ = list(tracks)
    patience = Patience(_PROBE_S, clock)
    with prompt():
        while open_ and patience.lasts():
            for track in list(open_):
                try:
                    tick = track.look()
                except CounterLost as lost:
                    problems[track] = str(lost)
                    open_.remove(track)
                    continue
                if tick is not None and _is_probed(track):
                    open_.remove(track)
            _nap(tracks, patience)
    for track in set(tracks) - problems.keys():
        if track.period_s:
            continue
        problems[track] = (
            "the energy counter isn't renewed regularly, or this host is too busy to see when;"
            f" a read of it takes {track.call_s * 1e3:.2g} ms at least"
            if track.ticks
            else f"the energy counter didn't move within {_PROBE_S:g} s"
        )
    return problems


def _is_probed(track: Track) -> bool:
    """Whether a period is known; it is looked for among the ticks that were pinned down best."""
    if len(track.ticks) < _PROBED:
        return False
    widths = sorted(tick.hi_s - tick.lo_s for tick in track.ticks)
    sharp = [t for t in track.ticks if t.hi_s - t.lo_s <= 4 * widths[len(widths) // 4]]
    if len(sharp) < _PROBED:
        return False
    gaps = sorted(b.time_s - a.time_s for a, b in itertools.pairwise(sharp))
    # Changes that went unseen make gaps of several periods, but the two shortest must agree.
    period_s = (gaps[0] + gaps[1]) / 2
    if round(gaps[1] / gaps[0]) != 1 or not _fits(period_s, sharp, gaps, track.ticks):
        return False
    periods = sum(round(gap / period_s) for gap in gaps)
    track.ticks = deque(sharp, maxlen=_KEPT)
    track.period_s = (sharp[-1].time_s - sharp[0].time_s) / periods
    track.doubt_s = 0.1 * track.period_s
    track.learn()
    return track.doubt_s < _PROBE_DOUBT * period_s


def _fits(
    period_s: float, sharp: Sequence[Tick], gaps: Sequence[float], ticks: Iterable[Tick]
) -> bool:
    """Whether all ticks, also those that were hardly pinned down, are periods from each other."""
    if any(abs(gap / period_s - round(gap / period_s)) > 0.1 for gap in gaps):
        return False
    origin_s, slack_s = sharp[0].time_s, 0.1 * period_s
    return all(
        math.floor((tick.hi_s + slack_s - origin_s) / period_s)
        >= math.ceil((tick.lo_s - slack_s - origin_s) / period_s)
        for tick in ticks
    )


def _nap(tracks: Iterable[Track], patience: Patience) -> None:
    """Leave the processor to others, but not for longer than a fast counter allows."""
    gaps = [
        track.ticks[-1].time_s - track.ticks[-2].time_s for track in tracks if len(track.ticks) > 1
    ]
    if not gaps or min(gaps) > 20 * _NAP_S:
        patience.sleep(_NAP_S)


def gather(
    tracks: Iterable[Track],
    done: Callable[[Track], bool],
    lost: Callable[[Track, CounterLost], None],
    longest_s: float,
    clock: Clock = time,
) -> None:
    """Watch ticks of several counters until each has enough, or time is up.

    Args:
        tracks: what to watch.
        done: whether a counter has enough, asked after each of its ticks and before the first.
        lost: told of a counter that can't be read any more.
        longest_s: no longer than this, not counting a time in which the process didn't run.
        clock: the module ``time``, or a test's own.
    """
    open_ = [track for track in tracks if not done(track)]
    patience = Patience(longest_s, clock)
    with prompt():
        while open_ and patience.lasts():
            now_s = patience.now_s
            due_s = {track: track.due_s(now_s) for track in open_}
            ready = [track for track in open_ if due_s[track] <= now_s]
            if not ready:
                patience.sleep(min(due_s.values()) - now_s)
            for track in ready:
                seen = track.last
                try:
                    tick = track.look()
                except CounterLost as error:
                    lost(track, error)
                    open_.remove(track)
                    continue
                if tick is not None:
                    track.missed = 0
                    track.learn()
                    if done(track):
                        open_.remove(track)
                elif seen and track.last and seen.joules != track.last.joules:
                    track.missed = min(track.missed + 1, _MISSED)
