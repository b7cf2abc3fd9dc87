"""The energy of a window out of a load that goes on, by a counter that tells it at ticks. Pure.

Where a load begins and ends with its window, the rest on either side shows from tick to tick
(``edges``). Where it goes on, nothing tells how it varied between the window's end and the next
tick. So the window ends at a tick: the last one before the time at which it was to end. The first
read behind that time has its value, and its time is so many periods before the next one seen:

    E = E(c) − E(a) − P_before (t0 − a),  and  t1 = c

with a and c the ticks and t0 the window's start, which comes right behind a.

Readings of mean power over a span W, where there is no counter, tell it just as well at times that
are a whole number of spans behind the start: E = W × (P(t1) + P(t1 − W) + … + P(t0 + W)).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from pytest_llem.meters.boxcar import Mean
from pytest_llem.meters.edges import Attributed, Evidence, slopes
from pytest_llem.meters.ticks import Look, Tick
from pytest_llem.records import ToIdle

__all__ = ["VARIES", "attribute", "last_tick", "moved", "of_means"]

VARIES = 0.2
"""Standard uncertainty of the power in a part of a period, relative to the mean of the window: what
a load of many requests at a time may differ by. Counts for the time that is no whole period."""

_LONG_READ = 0.3
"""Part of a period that a read may take and still belong to one tick."""

_APART = 0.6
"""Of a period: the most that a reading may be off a whole number of spans behind the start."""

_SAME = 0.3
"""Of a period: two times that are closer are those of the same reading."""

_GOES_ON = "the load went on behind the window"


def last_tick(look: Look, behind: Sequence[Tick], period_s: float, doubt_s: float) -> Tick:
    """The tick whose value a read shows; one seen behind it, where that can't be told.

    Args:
        look: the read.
        behind: ticks seen behind it, one at least.
        period_s: from tick to tick.
        doubt_s: how far a tick may be from where the period puts it.
    """
    # On a busy host some are seen late: the one whose time is known best tells that of the others.
    width_s = min(tick.hi_s - tick.lo_s for tick in behind)
    sharp = next(tick for tick in behind if tick.hi_s - tick.lo_s <= 2 * width_s)
    back_s = period_s * max(1, math.ceil((sharp.time_s - look.hi_s) / period_s))
    lo_s, hi_s = sharp.lo_s - back_s - doubt_s, sharp.hi_s - back_s + doubt_s
    # Another may have come just before the read, or the next one just have been missed by it.
    clear = hi_s <= look.lo_s and look.hi_s <= lo_s + period_s
    if clear and look.hi_s - look.lo_s <= _LONG_READ * period_s:
        return Tick(lo_s, hi_s, look.joules)
    return sharp


def attribute(evidence: Evidence, last: Tick) -> Attributed:
    """The energy from the window's start to a tick; there must be a tick before."""
    anchor, unit_j = evidence.before[-1], evidence.unit_j
    whole_j = last.joules - anchor.joules
    load_w = whole_j / max(last.time_s - anchor.time_s, 1e-9)
    before = slopes(evidence.before, evidence.period_s, unit_j)
    lead_s = max(0.0, evidence.start_s - anchor.time_s)
    lead_w = before[-1].power_w if before else load_w
    parts = (
        math.hypot(VARIES * load_w, lead_w - load_w) * lead_s,
        lead_w * anchor.spread_s,
        load_w * last.spread_s,
        unit_j / math.sqrt(6),
    )
    return Attributed(
        energy_j=whole_j - lead_w * lead_s,
        uncertainty_j=math.hypot(*parts),
        before=None,
        tail_j=0.0,
        to_idle=ToIdle(reason=_GOES_ON),
    )


def moved(found: Attributed, duration_s: float, by_s: float) -> Attributed:
    """The energy of a window whose end lies elsewhere than where it was told to.

    Args:
        found: of the window.
        duration_s: of the window.
        by_s: how much later its end is to be; negative for earlier.
    """
    power_w = found.energy_j / max(duration_s, 1e-9)
    spread_j = math.hypot(found.uncertainty_j, VARIES * power_w * by_s)
    return dataclasses.replace(
        found, energy_j=found.energy_j + power_w * by_s, uncertainty_j=spread_j
    )


def of_means(
    means: Sequence[Mean], span_s: float, period_s: float, start_s: float, latest_s: float
) -> tuple[float, Attributed] | None:
    """The end and the energy of a window by readings of mean power; None where some are missing.

    Args:
        means: readings, in order.
        span_s: over which each is the mean.
        period_s: from one to the next.
        start_s: of the window.
        latest_s: until when it may last.
    """
    for last in reversed(means):
        count = round((last.time_s - start_s) / span_s)
        rest_s = last.time_s - start_s - count * span_s
        if last.time_s > latest_s or abs(rest_s) > _APART * period_s:
            continue
        if count < 1:
            return None
        due = [last.time_s - number * span_s for number in range(count)]
        found = [_at(means, time_s, _SAME * period_s) for time_s in due]
        powers = [mean.power_w for mean in found if mean is not None]
        if len(powers) == count:
            return last.time_s, _whole_spans(powers, span_s, rest_s, last)
    return None


def _at(means: Sequence[Mean], time_s: float, near_s: float) -> Mean | None:
    return next((mean for mean in means if abs(mean.time_s - time_s) <= near_s), None)


def _whole_spans(powers: Sequence[float], span_s: float, rest_s: float, last: Mean) -> Attributed:
    whole_j = math.fsum(powers) * span_s
    power_w = whole_j / (len(powers) * span_s)
    doubt_s = math.hypot(rest_s, last.hi_s - last.lo_s)
    return Attributed(
        energy_j=whole_j + power_w * rest_s,
        uncertainty_j=VARIES * power_w * doubt_s,
        before=None,
        tail_j=0.0,
        to_idle=ToIdle(reason=_GOES_ON),
    )
