"""The energy of a window out of a load that goes on, by a counter that tells it at ticks. Pure.

Where a load begins and ends with its window, the rest on either side shows from tick to tick
(``edges``). Where it goes on, nothing tells how it varied between the window's end and the next
tick. So the window ends at a tick: the last one before the time at which it was to end. The first
read behind that time has its value, and its time is so many periods before the next one seen:

    E = E(c) − E(a) − P_before (t0 − a),  and  t1 = c

with a and c the ticks and t0 the window's start, which comes right behind a.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from pytest_llem.meters.edges import Attributed, Evidence, slopes
from pytest_llem.meters.ticks import Look, Tick
from pytest_llem.records import ToIdle

__all__ = ["VARIES", "attribute", "last_tick", "moved"]

VARIES = 0.1
"""Standard uncertainty of the power in a part of a period, relative to the mean of the window: what
a load of many requests at a time may differ by. Counts for the time that is no whole period."""

_LONG_READ = 0.3
"""Part of a period that a read may take and still belong to one tick."""

_GOES_ON = "the load went on behind the window"


def last_tick(look: Look, behind: Sequence[Tick], period_s: float, doubt_s: float) -> Tick:
    """The tick whose value a read shows; the first seen behind it, where that can't be told.

    Args:
        look: the read.
        behind: ticks seen behind it, one at least.
        period_s: from tick to tick.
        doubt_s: how far a tick may be from where the period puts it.
    """
    first = behind[0]
    back_s = period_s * max(1, math.ceil((first.time_s - look.hi_s) / period_s))
    lo_s, hi_s = first.lo_s - back_s - doubt_s, first.hi_s - back_s + doubt_s
    # Another may have come just before the read, or the next one just have been missed by it.
    clear = hi_s <= look.lo_s and look.hi_s <= lo_s + period_s
    if clear and look.hi_s - look.lo_s <= _LONG_READ * period_s:
        return Tick(lo_s, hi_s, look.joules)
    return first


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
