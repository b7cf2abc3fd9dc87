"""A window in real time, and what a meter may say of it though no process ran when it wanted to."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llem.records import Reading
from tests.rig.powercap import Powercap

__all__ = ["Span", "bounds_j"]

_SIGMAS = 4
_ROUNDING = 0.02


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


def bounds_j(
    reading: Reading, tree: Powercap, key: str, span: Span, late_s: float
) -> tuple[float, float]:
    """The least and the most energy that a reading of a steady load may tell.

    That of the window, give or take what the meter itself says and what the counter was behind.
    Where its ends weren't aligned to ticks, it was read once on either side of the window, some
    time between being asked and having answered.
    """
    assert reading.uncertainty_j is not None, reading.reason
    least_j = most_j = tree.energy(key, span.start_s, span.end_s)
    if "not aligned" in (reading.reason or ""):
        most_j = tree.energy(key, span.asked_s, span.told_s)
    behind_j = late_s * tree.truth(key).power(span.start_s)
    doubt_j = _SIGMAS * reading.uncertainty_j + _ROUNDING * most_j + behind_j
    return least_j - doubt_j, most_j + doubt_j
