"""A window in real time, and what a meter may say of it though no process ran when it wanted to."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llem.records import Reading
from tests.rig.powercap import Powercap

__all__ = ["STILL_S", "Span", "wrong"]

_SIGMAS = 4
_ROUNDING = 0.02
STILL_S = 0.2
"""A counter that doesn't move for so long may be said to stand still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Times of a window and around it, in order, in seconds of ``time.monotonic()``.

    Attributes:
        asked_s: when the meter was asked to begin.
        start_s: of the window.
        end_s: of the window.
        told_s: when the meter had answered.
    """

    asked_s: float
    start_s: float
    end_s: float
    told_s: float


def wrong(reading: Reading, tree: Powercap, key: str, span: Span, late_s: float) -> str:
    """What is wrong with a reading of a steady load; empty where it is right.

    It should be the energy of the window, give or take what the meter itself says and what the
    counter was behind. Where its ends weren't aligned to ticks, it was read once on either side of
    the window, some time between being asked and having answered.

    Args:
        reading: of the window.
        tree: that was read.
        key: of the zone.
        span: the window.
        late_s: for how long the tree stood still since the meter was made.
    """
    if reading.energy_j is None and late_s > STILL_S:
        return ""
    if reading.energy_j is None or reading.uncertainty_j is None:
        return f"no energy: {reading.reason}"
    least_j = most_j = tree.energy(key, span.start_s, span.end_s)
    if "not aligned" in (reading.reason or ""):
        most_j = tree.energy(key, span.asked_s, span.told_s)
    behind_j = late_s * tree.truth(key).power(span.start_s)
    doubt_j = _SIGMAS * reading.uncertainty_j + _ROUNDING * most_j + behind_j
    if least_j - doubt_j <= reading.energy_j <= most_j + doubt_j:
        return ""
    return f"{reading.energy_j} J isn't {least_j} to {most_j} J, give or take {doubt_j} J"
