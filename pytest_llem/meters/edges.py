"""The energy of a window, from a counter that only tells it at ticks. Pure.

Nobody reads the counter within the window. Its energy is that between the last tick before and
the first tick behind it, less what was drawn outside:

    E = E(c) − E(a) − P_before (t0 − a) − [P_after (c − t1) + X]

with a and c the two ticks, t0 and t1 the window, P the power outside, seen from tick to tick, and X
what a decaying load still drew above P_after until c (``tails``). A window that begins right at a
tick leaves nothing to the second term. What remains uncertain is the time of the ticks times the
power *outside*, not the load's power times the period.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llem.meters.tails import Tail, before_first_tick, beside_load, hidden_j
from pytest_llem.meters.ticks import Look, Tick
from pytest_llem.records import ToIdle

__all__ = ["AFTER", "Attributed", "Evidence", "Slope", "attribute", "is_settled", "slopes"]

AFTER = 4
"""Ticks after a window that are waited for at most: the first, and three periods from there."""

_LONG_READ = 0.3
"""Part of a period that a read may take and still belong to one tick."""

_LATE = 1.2
"""Periods after the window's end by which a tick is seen, unless the host kept us from it."""

_TOLERANCE = 0.02
"""Two powers outside that differ by less are the same, beside their uncertainty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Mean power from one tick to the next.

    Attributes:
        spread_w: standard uncertainty, of the ticks' times and the counter's steps.
    """

    power_w: float
    spread_w: float
    start: Tick
    end: Tick

    @property
    def duration_s(self) -> float:
        """From tick to tick."""
        return self.end.time_s - self.start.time_s

    def agrees(self, other: Slope) -> bool:
        """Whether two powers are the same, as far as can be told."""
        apart = abs(self.power_w - other.power_w)
        doubt = 3 * math.hypot(self.spread_w, other.spread_w)
        return apart <= doubt + _TOLERANCE * max(abs(self.power_w), abs(other.power_w))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that was seen of a counter around a window.

    Attributes:
        start_s: of the window.
        end_s: of the window.
        before: ticks up to its start, in order; the last is the anchor.
        at_end: the first read after its end.
        after: ticks behind that read, in order.
        period_s: from tick to tick.
        unit_j: the counter's smallest step.
        doubt_s: how far a tick may be from where the period puts it.
    """

    start_s: float
    end_s: float
    before: Sequence[Tick]
    at_end: Look
    after: Sequence[Tick]
    period_s: float
    unit_j: float
    doubt_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributed:
    """The energy of a window.

    Attributes:
        uncertainty_j: standard uncertainty without the sensor's gain.
        before: power just before the window; None where only one tick was seen.
        tail_j: what a decaying load drew outside of the window before the first tick.
        to_idle: above the power before, until it was reached again.
    """

    energy_j: float
    uncertainty_j: float
    before: Slope | None
    tail_j: float
    to_idle: ToIdle


def slopes(ticks: Sequence[Tick], period_s: float, unit_j: float) -> list[Slope]:
    """Power between each two neighbouring ticks; over a gap it is that of several periods."""
    found = []
    for start, end in itertools.pairwise(ticks):
        duration_s = end.time_s - start.time_s
        if duration_s < 0.5 * period_s:
            continue
        power_w = (end.joules - start.joules) / duration_s
        time_w = power_w * math.hypot(start.spread_s, end.spread_s) / duration_s
        count_w = unit_j / math.sqrt(6) / duration_s
        found.append(
            Slope(power_w=power_w, spread_w=math.hypot(time_w, count_w), start=start, end=end)
        )
    return found


def is_settled(before: Sequence[Slope], after: Sequence[Slope]) -> bool:
    """Whether the power behind a window is at rest: as before it, or the same twice."""
    if not after:
        return False
    if len(after) > 1 and after[-1].agrees(after[-2]):
        return True
    return bool(before) and after[-1].agrees(before[-1])


def attribute(evidence: Evidence) -> Attributed:
    """The energy of a window; see the module for the formula.

    There must be a tick before, and two behind it.
    """
    unit_j, period_s = evidence.unit_j, evidence.period_s
    anchor = evidence.before[-1]
    before = slopes(evidence.before, period_s, unit_j)
    first, last_inside_j = _first(evidence)
    behind = [first, *(tick for tick in evidence.after if tick.lo_s > first.hi_s)]
    after = slopes(behind, period_s, unit_j)
    rest = _rest(before, after)
    outside_s = max(0.0, first.time_s - evidence.end_s)
    lead_s = max(0.0, evidence.start_s - anchor.time_s)
    lead = before[-1] if before else rest
    tail_j, tail_spread_j = _tail(evidence, first, last_inside_j, after, rest)
    energy_j = (
        first.joules - anchor.joules - lead.power_w * lead_s - rest.power_w * outside_s - tail_j
    )
    parts = (
        _lead_spread_w(before) * lead_s,
        lead.power_w * anchor.spread_s,
        rest.spread_w * outside_s,
        # While a tail falls, an error of the tick's time is one of the power at that time.
        (rest.power_w + _falling_w(after, rest)) * first.spread_s,
        unit_j / math.sqrt(6),
        tail_spread_j,
    )
    return Attributed(
        energy_j=energy_j,
        uncertainty_j=math.hypot(*parts),
        before=before[-1] if before else None,
        tail_j=tail_j,
        to_idle=_to_idle(evidence, before, after),
    )


def _first(evidence: Evidence) -> tuple[Tick, float | None]:
    """The first tick behind the window, and the counter at the last one in it, if that is known.

    A tick may come after the window's end and before the first read: the read has its value
    already, and its time is some periods before the next tick that was seen.
    """
    first, look, period_s = evidence.after[0], evidence.at_end, evidence.period_s
    if look.hi_s - look.lo_s > _LONG_READ * period_s:
        # The counter was read some time during a stall: at which of its ticks can't be told.
        return first, None
    back_s = period_s * max(1, math.ceil((first.time_s - look.hi_s) / period_s))
    lo_s = first.lo_s - back_s - evidence.doubt_s
    hi_s = first.hi_s - back_s + evidence.doubt_s
    if hi_s <= evidence.end_s:
        return first, look.joules
    if evidence.end_s <= lo_s and hi_s <= look.lo_s:
        return Tick(lo_s, hi_s, look.joules), None
    # On which side of the window's end it came, or of the read, can't be told: the next will do.
    return first, None


def _rest(before: Sequence[Slope], after: Sequence[Slope]) -> Slope:
    """The power that a device fell to behind a window, or the lowest seen where it still falls."""
    last = after[-1]
    alike = [slope for slope in (*before[-1:], *after[-2:-1]) if slope.agrees(last)]
    if not alike:
        return min((*before[-1:], last), key=lambda slope: slope.power_w)
    return _mean(last, alike[0])


def _mean(one: Slope, other: Slope) -> Slope:
    """Two powers that agree as one, weighed by their uncertainties; what is left apart is doubt."""
    weights = [1 / max(slope.spread_w, 1e-9) ** 2 for slope in (one, other)]
    whole = sum(weights)
    power_w = (one.power_w * weights[0] + other.power_w * weights[1]) / whole
    noise_w = math.hypot(one.spread_w, other.spread_w)
    drift_w = max(0.0, abs(one.power_w - other.power_w) - 2 * noise_w)
    spread_w = math.hypot(1 / math.sqrt(whole), drift_w / math.sqrt(12))
    return Slope(power_w=power_w, spread_w=spread_w, start=one.start, end=one.end)


def _lead_spread_w(before: Sequence[Slope]) -> float:
    """Uncertainty of the power between the last tick and the window, by how it changed before."""
    if not before:
        return 0.0
    if len(before) == 1:
        return math.hypot(before[-1].spread_w, _TOLERANCE * before[-1].power_w)
    return math.hypot(before[-1].spread_w, before[-1].power_w - before[-2].power_w)


def _falling_w(after: Sequence[Slope], rest: Slope) -> float:
    """Power above rest right behind the first tick."""
    return max(0.0, after[0].power_w - rest.power_w) if not after[0].agrees(rest) else 0.0


def _tail(
    evidence: Evidence,
    first: Tick,
    last_inside_j: float | None,
    after: Sequence[Slope],
    rest: Slope,
) -> tuple[float, float]:
    """What was drawn above rest between the window's end and the first tick, and its spread."""
    outside_s = first.time_s - evidence.end_s
    if outside_s <= 0:
        return 0.0, 0.0
    missed = outside_s > _LATE * evidence.period_s
    tail = _tail_evidence(evidence, first, last_inside_j, after, rest)
    if after[0].agrees(rest) and not missed:
        doubt_w = max(0.0, abs(after[0].power_w - rest.power_w) - 2 * after[0].spread_w)
        return 0.0, math.hypot(doubt_w * outside_s, hidden_j(tail)) / math.sqrt(3)
    return beside_load(tail) if missed else before_first_tick(tail)


def _tail_evidence(
    evidence: Evidence,
    first: Tick,
    last_inside_j: float | None,
    after: Sequence[Slope],
    rest: Slope,
) -> Tail:
    """All of the above that concerns the tail."""
    outside_s = first.time_s - evidence.end_s
    excess = [max(0.0, (slope.power_w - rest.power_w) * slope.duration_s) for slope in after]
    anchor = evidence.before[-1]
    # Usually one period; more where the first tick behind the window went unseen.
    around_s = evidence.period_s * max(1, math.ceil(outside_s / evidence.period_s - 1e-3))
    inside_s = max(0.0, around_s - outside_s)
    around_j = None
    load_j, load_s = first.joules - anchor.joules, evidence.end_s - anchor.time_s
    if last_inside_j is not None:
        around_j = first.joules - last_inside_j - rest.power_w * around_s
        # With a whole period in the window the load's power is known without the part around it.
        if evidence.end_s - inside_s - anchor.time_s > 0.5 * evidence.period_s:
            load_j, load_s = last_inside_j - anchor.joules, load_s - inside_s
    return Tail(
        until_first_s=outside_s,
        period_s=evidence.period_s,
        after_j=excess,
        load_w=load_j / load_s - rest.power_w if load_s > 0 else 0.0,
        around_j=around_j,
        inside_s=inside_s,
    )


def _to_idle(evidence: Evidence, before: Sequence[Slope], after: Sequence[Slope]) -> ToIdle:
    """Energy above the power before, from the window's start until that is reached again."""
    if not before:
        return ToIdle(reason="the power before the window wasn't seen")
    idle, last = before[-1], after[-1]
    if not last.agrees(idle):
        gone_s = last.end.time_s - evidence.end_s
        return ToIdle(
            reason=f"{gone_s:.2g} s after the window the device drew {last.power_w:.3g} W,"
            f" and {idle.power_w:.3g} W before it"
        )
    back = next(slope for slope in after if slope.agrees(idle))
    anchor = evidence.before[-1]
    rest = _mean(back, idle)
    power_w, spread_w = rest.power_w, rest.spread_w
    duration_s = back.start.time_s - anchor.time_s
    above_j = back.start.joules - anchor.joules - power_w * duration_s
    ends_j = power_w * math.hypot(anchor.spread_s, back.start.spread_s)
    return ToIdle(
        above_j=above_j,
        uncertainty_j=math.hypot(spread_w * duration_s, ends_j, evidence.unit_j / math.sqrt(6)),
        settled_s=max(0.0, back.start.time_s - evidence.end_s),
    )
