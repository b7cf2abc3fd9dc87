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

from pytest_llem.meters.edges import Attributed, Evidence, attribute, slopes

__all__ = ["SEEN", "attribute_sampled", "sees_part"]

SEEN = "the sensor behind the energy counter sees only part of the time"

_TELLING = 0.15
_DECAYED = 0.3
_TOLD = 0.1
_SAME = 0.02
_LOADED = 0.05
_UNKNOWN = 0.25
_FEW = 3
_LEAST = 0.02
_CHANCE = 0.45
_RHYTHM = 0.175
_LAST = 0.8
"""Standard uncertainties relative to how much the load's power varies: of a period of which a part
was seen, by chance and common to all; and of the rest of a period, of which nothing was seen. Set
so that 95 % intervals hold 95 % of simulated windows (perf/energy_accuracy.py)."""


def sees_part(evidence: Evidence, instant_w: float) -> bool | None:
    """Whether a counter's last step is the sensor's reading and not the energy of the period.

    Args:
        evidence: of a window under load.
        instant_w: the sensor's power, read just behind the first tick after the window.

    Returns:
        None where the two can't be told apart: the window ended near a tick, or there was no load.
    """
    first, period_s = evidence.after[0], evidence.period_s
    outside_s = first.time_s - evidence.end_s
    inside_s = period_s - outside_s
    duration_s = evidence.end_s - evidence.start_s
    rest = slopes(evidence.after, period_s, evidence.unit_j)
    if not rest or min(inside_s, outside_s) < _TELLING * period_s or inside_s > duration_s:
        return None
    anchor = evidence.before[-1]
    rest_w = rest[-1].power_w
    load_w = (first.joules - anchor.joules - rest_w * (first.time_s - anchor.time_s)) / duration_s
    if load_w < _LOADED * rest_w:
        return None
    # Of a counter that sees all, the last step has the load's share in it. After a load that
    # hardly decays until the first tick, that looks the same.
    fell_w = instant_w - rest[0].power_w
    ended_w = instant_w + 2 * fell_w * outside_s / period_s
    lowest_w = min(slope.power_w for slope in (*rest, *slopes(evidence.before, period_s, 0.0)))
    if instant_w - lowest_w < _DECAYED * load_w:
        ended_w = rest_w + load_w
    if (ended_w - instant_w) * inside_s / period_s < _TOLD * load_w:
        return None
    step_w = (first.joules - evidence.at_end.joules) / period_s
    return abs(step_w - instant_w) < _SAME * load_w


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
        settled=plain.settled,
        tail_j=plain.tail_j,
        to_idle=plain.to_idle,
    )
