"""Counters that see only part of the time. Pure.

On some GPUs the sensor behind power readings and counter looks for 25 ms of every 100 ms (Yang,
Adamek and Armour, "Part-time Power Measurements: nvidia-smi's Lack of Attention",
arXiv:2312.02741). What such a counter adds at a tick is the power it saw last, times the period. At
the end of a window that shows: the last step is what the sensor sees then, and not a share of load
and a share of rest.

Edges can't mend this. The energy is taken from the steps that lie within the window, and what was
not seen is an uncertainty that comes from how much the load varies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pytest_llem.meters.edges import Attributed, Evidence, attribute, slopes

__all__ = ["EITHER", "SEEN", "Sees", "attribute_sampled", "sees_part"]

SEEN = "the sensor behind the energy counter sees only part of the time"

EITHER = (
    "no load shows in the last period: it ended before the window, or the sensor behind the energy"
    " counter didn't see it"
)

_TELLING = 0.06
_SAME = 0.02
_LOADED = 0.05
_UNKNOWN = 0.3
_FEW = 3
_LEAST = 0.02
_CHANCE = 0.45
_RHYTHM = 0.22
_LAST = 0.9
"""Standard uncertainties relative to how much the load's power varies: of a period of which a part
was seen, by chance and common to all; and of the rest of a period, of which nothing was seen. Set
so that 95 % intervals hold 95 % of simulated windows (perf/energy_accuracy.py)."""


Sees = Literal["all", "part", "either", "unknown"]


def sees_part(evidence: Evidence, instants_w: Sequence[float]) -> Sees:
    """Whether a counter's steps are the sensor's readings and not the energy of the periods.

    Args:
        evidence: of a window under load.
        instants_w: the sensor's power, read just behind each of the ticks after the window.

    Returns:
        ``all`` where a step shows load and isn't what the sensor saw at its end. ``part`` where
        steps that show load are just that, although the load ended within the period. ``either``
        where no step shows load: the sensor didn't see it, or it was over before the window's end.
        ``unknown`` where nothing can be told: there was no load, the window ended near a tick,
        the device wasn't at rest before and behind, or nothing is known of its sensor.
    """
    period_s, look = evidence.period_s, evidence.at_end
    before = slopes(evidence.before, period_s, evidence.unit_j)
    after = slopes(evidence.after, period_s, evidence.unit_j)
    if not after or not instants_w:
        return "unknown"
    first = evidence.after[0]
    rest_w = min(slope.power_w for slope in (*before[-1:], *after))
    whole_j = first.joules - evidence.before[-1].joules
    load_w = whole_j / (first.time_s - evidence.before[-1].time_s) - rest_w
    if load_w < _LOADED * rest_w:
        return "unknown"
    steps_w = [(first.joules - look.joules) / period_s, *(slope.power_w for slope in after)]
    told = [
        abs(step_w - instant_w) / load_w
        for step_w, instant_w in zip(steps_w, instants_w, strict=False)
        if step_w - rest_w > _LOADED * load_w
    ]
    if any(apart > 2 * _SAME for apart in told):
        return "all"
    outside_s = first.time_s - evidence.end_s
    ended_within = min(outside_s, period_s - outside_s) > _TELLING * period_s
    if not ended_within or not before or not after[-1].agrees(before[-1]):
        return "unknown"
    if not told:
        return "either"
    return "part" if max(told) < _SAME else "unknown"


def attribute_sampled(evidence: Evidence, varies_w: float | None) -> Attributed | None:
    """The energy of a window by a counter that sees part of the time; None if it saw nothing of it.

    Args:
        evidence: as for :func:`edges.attribute`.
        varies_w: standard deviation of the load's power from one look of the sensor to the next;
            None where that isn't known.
    """
    plain = attribute(evidence)
    anchor, period_s = evidence.before[-1], evidence.period_s
    first = evidence.after[0]
    back = max(1, math.ceil((first.time_s - evidence.end_s) / period_s - 1e-3))
    last_s = first.time_s - back * period_s
    count = round((last_s - anchor.time_s) / period_s)
    if count < 1:
        return None
    inside_j = evidence.at_end.joules - anchor.joules
    power_w = inside_j / (count * period_s)
    remaining_s = max(0.0, evidence.end_s - last_s)
    lead_s = max(0.0, evidence.start_s - anchor.time_s)
    rest_w = slopes(evidence.after, period_s, evidence.unit_j)[-1].power_w
    load_w = max(0.0, power_w - rest_w)
    spread_w = max(varies_w or 0.0, _LEAST * load_w)
    if varies_w is None or count < _FEW:
        # A short window may have met the load in one mood only.
        spread_w = math.hypot(spread_w, _UNKNOWN * load_w)
    # What isn't seen differs from what is by chance, and by as much each time where the load's own
    # rhythm and the sensor's go together.
    by_chance_j = _CHANCE * spread_w * period_s * math.sqrt(count)
    each_time_j = _RHYTHM * spread_w * period_s * count
    unseen_j = _LAST * spread_w * remaining_s
    return Attributed(
        # Of the first period, too, the sensor saw the end only.
        energy_j=inside_j + power_w * (remaining_s - lead_s),
        uncertainty_j=math.hypot(by_chance_j, each_time_j, unseen_j, plain.uncertainty_j),
        before=plain.before,
        tail_j=plain.tail_j,
        to_idle=plain.to_idle,
    )
