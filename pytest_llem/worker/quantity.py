"""Sums of what meters read, with both parts of their uncertainty.

The statistical parts of separate readings are independent: they add in quadrature. The systematic
part is a meter's gain. It is the same in all its readings, so that within a meter it adds linearly
and with its sign: of a difference it takes its share of the difference. Gains of separate meters
are independent of each other. (JCGM 100:2008, "Guide to the expression of uncertainty in
measurement", 5.1.2 and 5.2.2 with correlations of 0 and of 1.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pytest_llem.records import WORST_FIRST, Figure, IdlePower, Quality, Reading

__all__ = ["Quantity", "null", "of_power", "of_reading", "total"]

_MIXED = "some of the devices were measured and others only estimated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A value made of readings; null with a reason where one of them is.

    Attributes:
        value: in any unit, as the uncertainties are.
        spread: standard uncertainty without the systematic part; None where it isn't known.
        gains: each meter and method to what a relative error of one sigma of its gain adds to the
            value; of either sign.
        reasons: why the quality isn't ``ok``.
    """

    value: float | None
    spread: float | None = None
    gains: Mapping[tuple[str, str], float] = field(default_factory=dict)
    quality: Quality = "ok"
    reasons: tuple[str, ...] = ()

    @property
    def figure(self) -> Figure:
        """The value of a metric that this is."""
        known = self.value is not None
        return Figure(
            value=self.value,
            uncertainty=self.spread,
            systematic=math.hypot(*self.gains.values()) if known else None,
            quality=self.quality,
            reason="; ".join(self.reasons) or None,
        )

    def times(self, factor: float) -> Quantity:
        """It times an exact number."""
        return total([(factor, self)])

    def per(self, count: float, what: str) -> Quantity:
        """It divided by an exact number, which may be zero."""
        if self.value is None:
            return self
        return self.times(1 / count) if count > 0 else null(f"there were no {what}")


def null(reason: str) -> Quantity:
    """What can't be told."""
    return Quantity(value=None, quality="unmeasured", reasons=(reason,))


def of_reading(reading: Reading) -> Quantity:
    """The energy of one domain over a window, in J."""
    return _of(reading, reading.energy_j, reading.uncertainty_j)


def of_power(power: IdlePower) -> Quantity:
    """The idle power of one domain, in W."""
    return _of(power, power.power_w, power.uncertainty_w)


def _of(source: Reading | IdlePower, value: float | None, spread: float | None) -> Quantity:
    if value is None:
        return null(f"{source.domain}: {source.reason or 'could not be read'}")
    return Quantity(
        value=value,
        spread=spread,
        gains={(source.meter, source.method): source.systematic * value},
        quality=source.quality,
        reasons=(source.reason,) if source.reason else (),
    )


def total(terms: Iterable[tuple[float, Quantity]]) -> Quantity:
    """The sum of some quantities, one at least, each times an exact number.

    One that is null makes the sum null: a smaller sum would be a wrong one. Estimates are never
    added to measurements. The sum is as doubtful as the most doubtful of its terms.
    """
    terms = list(terms)
    parts = [part for _, part in terms]
    for part in parts:
        if part.value is None:
            return part
    qualities = {part.quality for part in parts}
    if "estimated" in qualities and len(qualities) > 1:
        return null(_MIXED)
    gains: dict[tuple[str, str], float] = {}
    for factor, part in terms:
        for source, gain in part.gains.items():
            gains[source] = gains.get(source, 0.0) + factor * gain
    return Quantity(
        value=math.fsum(factor * (part.value or 0.0) for factor, part in terms),
        spread=_quadrature((factor, part.spread) for factor, part in terms),
        gains=gains,
        quality=next(quality for quality in WORST_FIRST if quality in qualities),
        reasons=tuple(dict.fromkeys(reason for part in parts for reason in part.reasons)),
    )


def _quadrature(spreads: Iterable[tuple[float, float | None]]) -> float | None:
    """Root of the sum of squares; unknown when any is."""
    known = [None if spread is None else factor * spread for factor, spread in spreads]
    return None if None in known else math.hypot(*(spread or 0.0 for spread in known))
