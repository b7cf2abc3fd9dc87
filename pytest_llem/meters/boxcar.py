"""Energy where there is no counter, from power readings that are means over a time. Pure.

A reading at time t is the mean power over the ``span_s`` before it (a boxcar). Two readings a span
apart join without a gap or an overlap, so their sum is an energy, exact to the last joule of
the readings: C(t) = C(t − span) + span × reading(t). Begun while power was at rest, that
gives what a counter would have shown at every renewal of the reading, and the window is taken from
it as from a counter (``edges``). Nothing is averaged over a time it doesn't belong to.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llem.meters.ticks import Tick

__all__ = ["LIKELY_SPAN_S", "Mean", "at_rest", "counter", "find_span"]

_SPANS = 40
_ALIKE = 0.02
_CALM = 0.03

LIKELY_SPAN_S = 1.0
"""Documented of nvmlDeviceGetPowerUsage, for Ampere except GA100 and newer."""
_REST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A reading, renewed some time between ``lo_s`` and ``hi_s``: mean power until then."""

    lo_s: float
    hi_s: float
    power_w: float

    @property
    def time_s(self) -> float:
        """The middle of its bracket."""
        return (self.lo_s + self.hi_s) / 2


def at_rest(means: Sequence[Mean], count: int) -> bool:
    """Whether there are so many readings, and the last of them are all alike."""
    powers = [mean.power_w for mean in means[-count:]]
    return len(powers) == count and max(powers) - min(powers) <= _ALIKE * max(powers)


def counter(
    means: Sequence[Mean], start_s: float, period_s: float, span_s: float
) -> list[Tick] | None:
    """What a counter would have shown at each reading.

    Args:
        means: every reading, from a rest of a span before ``start_s`` on.
        start_s: until when power was at rest, as the last reading before shows it.
        period_s: from reading to reading.
        span_s: over which a reading is the mean.

    Returns:
        Ticks in joules, 0 at the last reading before ``start_s``; None where readings are missing
        that others are made of, or there is no rest to begin with.
    """
    before = [mean for mean in means if mean.time_s <= start_s]
    steps = max(1, round(span_s / period_s))
    # A load that is over goes on in the readings, all the same height, for as long as a span.
    if not at_rest(before, steps + _REST):
        return None
    rest_w, base_s = before[-1].power_w, before[-1].time_s
    known: dict[int, float] = {}
    ticks: list[Tick] = []
    for mean in means:
        number = round((mean.time_s - base_s) / period_s)
        joules = rest_w * (mean.time_s - base_s)
        if number > 0:
            earlier = known.get(number - steps)
            if earlier is None and number - steps > 0:
                # Without the reading a span before, this one can't be joined to anything.
                continue
            if earlier is None:
                earlier = rest_w * (number - steps) * period_s
            joules = earlier + steps * period_s * mean.power_w
        known[number] = joules
        ticks.append(Tick(mean.lo_s, mean.hi_s, joules))
    return ticks


def find_span(means: Sequence[Mean], start_s: float, end_s: float, period_s: float) -> float | None:
    """Over which time readings are means, from how they follow a load that began and ended.

    With the right span the power between readings, taken from :func:`counter`, is at rest soon
    after the window; with a wrong one what went in doesn't come out, and it swings on.

    Args:
        means: readings from a rest before the load to a rest after it.
        start_s: when the load began.
        end_s: when it ended.
        period_s: from reading to reading.

    Returns:
        Seconds; None where the readings don't tell.
    """
    if not at_rest(means, _REST):
        return None
    rest_w = means[-1].power_w
    peak_w = max(mean.power_w for mean in means)
    if peak_w < rest_w * (1 + 5 * _ALIKE):
        return None
    scored = []
    for steps in range(1, _SPANS):
        ticks = counter(means, start_s, period_s, steps * period_s)
        behind = [tick for tick in ticks or () if tick.time_s > end_s + 3 * period_s]
        if len(behind) < steps + _REST:
            break
        powers = [
            (after.joules - before.joules) / (after.time_s - before.time_s)
            for before, after in itertools.pairwise(behind)
        ]
        swing_w = math.sqrt(sum((power - rest_w) ** 2 for power in powers) / len(powers))
        scored.append((swing_w, steps))
    if not scored:
        return None
    calm = [steps for swing_w, steps in scored if swing_w < _CALM * (peak_w - rest_w)]
    # A load about as long as a span fits its neighbours too: the documented one comes first.
    likely = round(LIKELY_SPAN_S / period_s)
    return (likely if likely in calm else min(scored)[1]) * period_s if calm else None
