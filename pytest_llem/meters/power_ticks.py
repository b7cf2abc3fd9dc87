"""Ticks: the moments at which a polled number is renewed, bracketed as narrowly as polling allows.

A sensor of a GPU renews its number once a period. Whoever polls sees only that it changed between
two calls. Once period and phase are known, it is enough to poll around the next tick. A number that
happens to be renewed by an equal one shows no tick: then it is where it was due.

The clock is an argument everywhere: nothing here waits, and nothing here asks a GPU.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Fit", "Tick", "TickFinder", "fit"]

_LEARN = 8
"""So many changes before a period is believed."""

_LEAST = 5
"""So few that are well known make no grid."""

_KEEP = 32
"""So many changes a period is worked out from: a clock that drifts is followed."""

_LOST = 3
"""So many changes where none was due, and the period is worked out anew."""

_LEAST_PERIOD_S = 0.004
"""What changes more often is renewed at each call, or as good as."""

_LEAST_MARGIN_S = 0.002
_CLOSE = 0.15
"""Ticks may be off a regular grid, and not known better, by this share of the period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A number was renewed between two moments.

    Attributes:
        lo_s: it was still the old one.
        hi_s: it was the new one.
        value: the new one; None where it wasn't read in time.
        seen: False where it did not change, so that the tick is only where it was due.
    """

    lo_s: float
    hi_s: float
    value: float | None
    seen: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A grid of ticks: number k is due at ``phase_s + k * period_s``, give or take ``spread_s``."""

    period_s: float
    phase_s: float
    spread_s: float

    def due_after(self, time_s: float) -> float:
        """The first tick that is due after a time."""
        k = math.floor((time_s - self.phase_s) / self.period_s) + 1
        return self.phase_s + k * self.period_s


def fit(changes: Sequence[Tick]) -> Fit | None:
    """The grid that changes lie on; None where they lie on none, or too few are well known.

    Changes may be missing. The period is the smallest distance, or a half or a third of it, that
    explains all: a least-squares line through the middles of the brackets. Brackets that are much
    wider than others, of polls that came late, say little and don't count.
    """
    widths = sorted(tick.hi_s - tick.lo_s for tick in changes)
    if len(widths) < _LEAST:
        return None
    widest_s = max(3 * widths[len(widths) // 4], _LEAST_MARGIN_S / 2)
    narrow = [tick for tick in changes if tick.hi_s - tick.lo_s <= widest_s]
    middles = [(tick.lo_s + tick.hi_s) / 2 for tick in narrow]
    gaps = [later - earlier for earlier, later in itertools.pairwise(middles)]
    if len(middles) < max(_LEAST, len(changes) // 2) or min(gaps) <= 0:
        return None
    bracket_s = statistics.median(tick.hi_s - tick.lo_s for tick in narrow)
    for divisor in (1, 2, 3):
        steps = [max(1, round(gap / min(gaps) * divisor)) for gap in gaps]
        numbers = [0, *itertools.accumulate(steps)]
        slope, start = statistics.linear_regression(numbers, middles)
        if slope < max(_LEAST_PERIOD_S, bracket_s / _CLOSE):
            return None
        errors = [abs(m - start - k * slope) for k, m in zip(numbers, middles, strict=True)]
        if max(errors) <= _CLOSE * slope:
            spread_s = max(math.sqrt(statistics.fmean(e * e for e in errors)), bracket_s / 2)
            return Fit(period_s=slope, phase_s=start, spread_s=spread_s)
    return None


class TickFinder:
    """Finds the ticks of one number: told what polls saw, tells when to poll next."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.fit: Fit | None = None
        self._changes: deque[Tick] = deque(maxlen=_KEEP)
        self._last: tuple[float, float] | None = None
        self._due_s = math.inf
        self._surprises = 0

    def next_poll_s(self) -> float:
        """When the next poll is of use; anything in the past while there is much to learn."""
        return -math.inf if self.fit is None else self._due_s - self._margin_s()

    def feed(self, asked_s: float, answered_s: float, value: float) -> Tick | None:
        """Take the answer to one poll; returns the tick that it shows.

        Args:
            asked_s: just before the call.
            answered_s: just after it.
            value: what it said.
        """
        last, self._last = self._last, (asked_s, value)
        if last is None:
            return None
        if value != last[1]:
            return self._changed(Tick(lo_s=last[0], hi_s=answered_s, value=value))
        margin_s = self._margin_s()
        if self.fit is None or asked_s <= self._due_s + margin_s:
            return None
        # Renewed by an equal one.
        tick = Tick(
            lo_s=self._due_s - margin_s, hi_s=self._due_s + margin_s, value=value, seen=False
        )
        # Where polls were late, those in between are gone.
        self._due_s = self.fit.due_after(asked_s - margin_s)
        return tick

    def _margin_s(self) -> float:
        if self.fit is None:
            return 0.0
        return min(max(4 * self.fit.spread_s, _LEAST_MARGIN_S), self.fit.period_s / 3)

    def _changed(self, tick: Tick) -> Tick:
        if self.fit is None:
            self._changes.append(tick)
            if len(self._changes) >= _LEARN:
                self._learn(tick.hi_s)
                if self.fit is None:
                    self._changes.popleft()
            return tick
        margin_s = self._margin_s()
        # Whoever polls late saw more than one tick at once: the newest one is meant.
        due_s = self.fit.due_after(tick.hi_s - self.fit.period_s + margin_s)
        lo_s, hi_s = max(tick.lo_s, due_s - margin_s), min(tick.hi_s, due_s + margin_s)
        if lo_s >= hi_s:
            return self._surprised(tick)
        self._surprises = 0
        tick = Tick(lo_s=lo_s, hi_s=hi_s, value=tick.value)
        if hi_s - lo_s <= margin_s:
            self._changes.append(tick)
            self._learn(hi_s)
        self._due_s = self.fit.due_after(due_s + self.fit.period_s / 2)
        return tick

    def _learn(self, now_s: float) -> None:
        found = fit(self._changes)
        if found is not None:
            self.fit = found
            self._due_s = found.due_after(now_s + found.period_s / 2)

    def _surprised(self, tick: Tick) -> Tick:
        """A change where none was due: once is an odd sensor, always is another grid."""
        self._surprises += 1
        if self._surprises >= _LOST:
            self.fit = None
            self._surprises = 0
            self._changes.clear()
            self._changes.append(tick)
        return tick
