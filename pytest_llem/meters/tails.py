"""How much of a decaying load fell between its end and the first tick of the counter.

A device doesn't fall to idle at once. What it drew above idle from tick to tick is known exactly
for the ticks after the window's end, but not for the part of a period before the first of them.
That part is inferred: a tail begins near the power of the load and only falls; its energies after
the first tick are known; and so is the sum of itself and of the load since the last tick in the
window. Several shapes and starting powers are tried, weighed by how well they explain all three,
and the spread of their answers is the uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Tail", "before_first_tick", "beside_load", "hidden_j"]

Shape = Callable[[float, float], float]

_STEEPEST = 0.01
_LONGEST = 60.0
"""Least and greatest length of a tail that is tried, in periods."""

_POWERS = [0.15 + 0.05 * step for step in range(42)]
"""Starting powers that are tried, relative to the load's mean: 0.15 to 2.2."""

_START_SPREAD = 0.4
_END_SPREAD = 0.35
"""Standard deviation, relative to the load's mean power above idle, of its power at the end, and
between that and the mean since the last tick. Loads do vary: prefill and decode, batch by batch."""

_SPLIT_SPREAD = 0.05
_WELL_SEEN = 0.05
"""How far a real tail may be from the shapes tried, as part of its energy."""

_CAUTION = 1.05
"""Real loads and tails differ from those tried by more than the spread of the answers shows."""

_FLOOR = 0.002
_FLOOR_STEEP = 0.028
"""Least relative uncertainty of the answer, and how much more where the tail falls away at once."""

_NOTHING = 1e-6
"""What of a load's energy in a period is none."""

_LEAST = 0.01
_STRANGE = 2 * _END_SPREAD
"""A load that draws so much more at its end than on the mean is taken to be one with a tail,
where it isn't less than it draws in this part of a period."""


def _linear(length_s: float, time_s: float) -> float:
    """Integral of 1 − t/length from 0 to a time."""
    t = min(time_s, length_s)
    return t - t * t / (2 * length_s)


def _exponential(length_s: float, time_s: float) -> float:
    """Integral of exp(−t/length) from 0 to a time."""
    return -length_s * math.expm1(-time_s / length_s)


def _bent(length_s: float, time_s: float) -> float:
    """Integral of 1 − (t/length)² from 0 to a time: slow at first."""
    t = min(time_s, length_s)
    return t - t**3 / (3 * length_s**2)


_SHAPES: tuple[Shape, ...] = (_linear, _exponential, _bent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """What is known of a tail; energies and powers are those above idle.

    Attributes:
        until_first_s: from the window's end to the first tick after it.
        period_s: from tick to tick.
        after_j: of the first period after that tick, of the second and so on.
        load_w: mean of the load over the window.
        around_j: from the last tick in the window to the first behind it; None if not known.
        inside_s: how much of that time lies in the window.
    """

    until_first_s: float
    period_s: float
    after_j: Sequence[float]
    load_w: float
    around_j: float | None = None
    inside_s: float = 0.0


def before_first_tick(tail: Tail) -> tuple[float, float]:
    """Energy above idle between the window's end and the first tick, and its standard uncertainty.

    Zero where the ticks show no tail: one that is over before the first of them isn't seen.
    """
    if tail.load_w <= 0 or tail.until_first_s <= 0:
        return 0.0, 0.0
    total_j = sum(tail.after_j)
    if total_j <= _NOTHING * tail.load_w * tail.period_s:
        return 0.0, 0.0
    # A tail that falls little from tick to tick is seen well, and known well before the first.
    begun_j, then_j = [*tail.after_j, 0.0][:2]
    fall = 1.0 - then_j / begun_j if begun_j > then_j else 0.0
    split_j = _SPLIT_SPREAD * (_WELL_SEEN + (1 - _WELL_SEEN) * fall) * total_j
    found = [
        _explained(tail, shape, relative * tail.load_w, split_j)
        for shape in _SHAPES
        for relative in _POWERS
    ]
    best = max(log for _, log in found)
    weights = [math.exp(log - best) for _, log in found]
    whole = math.fsum(weights)
    mean = math.fsum(w * joules for w, (joules, _) in zip(weights, found, strict=True)) / whole
    square = math.fsum(
        w * (joules - mean) ** 2 for w, (joules, _) in zip(weights, found, strict=True)
    )
    floor_j = (_FLOOR + _FLOOR_STEEP * fall**2) * mean
    return mean, _CAUTION * math.hypot(math.sqrt(square / whole), floor_j)


def beside_load(tail: Tail) -> tuple[float, float]:
    """The same where the first ticks went unseen, and with them the tail's shape.

    What is left of the energy around the window's end when the load has its share.
    """
    if tail.around_j is None:
        # Anything up to the load's power, for the length of a period.
        most_j = tail.load_w * tail.period_s
        return most_j / 2, most_j / math.sqrt(12)
    load_j = tail.load_w * tail.inside_s
    joules = max(0.0, tail.around_j - load_j)
    return joules, math.hypot(_END_SPREAD * load_j, _END_SPREAD * joules)


def hidden_j(tail: Tail) -> float:
    """What a tail may have drawn that was over before the first tick, and so left no other sign.

    Zero where the load itself accounts for the energy around the window's end.
    """
    if tail.around_j is None or tail.load_w <= 0:
        return 0.0
    load_j = tail.load_w * tail.inside_s
    excess_j = tail.around_j - load_j
    return excess_j if excess_j > _STRANGE * load_j + _LEAST * tail.load_w * tail.period_s else 0.0


def _explained(tail: Tail, shape: Shape, power_w: float, split_j: float) -> tuple[float, float]:
    """Energy before the first tick by one shape and starting power, and its log-likelihood."""
    length_s = _length(tail, shape, power_w)
    first_s, period_s = tail.until_first_s, tail.period_s
    log = -0.5 * ((power_w - tail.load_w) / (_START_SPREAD * tail.load_w)) ** 2
    begin = shape(length_s, first_s)
    for number, joules in enumerate(tail.after_j, 1):
        end = shape(length_s, first_s + number * period_s)
        log -= 0.5 * ((power_w * (end - begin) - joules) / split_j) ** 2
        begin = end
    joules = power_w * shape(length_s, first_s)
    if tail.around_j is not None and tail.inside_s > 0:
        before_w = (tail.around_j - joules) / tail.inside_s
        # The shorter the time, the more the load's own changes show in its mean.
        spread_w = _END_SPREAD * tail.load_w
        log -= 0.5 * ((before_w - power_w) / spread_w) ** 2
    return joules, log


def _length(tail: Tail, shape: Shape, power_w: float) -> float:
    """The length with which a tail has the energy that is known; monotone, so by bisection."""
    first_s = tail.until_first_s
    last_s = first_s + len(tail.after_j) * tail.period_s
    total_j = sum(tail.after_j)
    low, high = _STEEPEST * tail.period_s, _LONGEST * tail.period_s
    for _ in range(24):
        middle = math.sqrt(low * high)
        if power_w * (shape(middle, last_s) - shape(middle, first_s)) < total_j:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)
