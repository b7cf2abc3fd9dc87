"""Idle power: measured, taken over from an earlier measurement, and checked for drift."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from pytest_llem.extensions import Meter
from pytest_llem.metrics import show
from pytest_llem.records import IDLE_LASTS_S, Idle, IdlePower, Reading, Window

__all__ = ["checked", "drifts", "measured", "shared"]

_SIGMAS = 3.0
_RELATIVE = 0.05
_REMEDY = "let it settle with a longer warm-up or idle, or check for other processes"


def measured(window: Window) -> Idle:
    """The idle power of each domain that was read over an idle phase."""
    powers = tuple(_power(reading, window.duration_s) for reading in window.readings)
    return Idle(powers=powers, duration_s=window.duration_s)


def _power(reading: Reading, duration_s: float) -> IdlePower:
    power_w = spread_w = None
    quality, reason = reading.quality, reading.reason
    if reading.energy_j is None or duration_s <= 0:
        quality = "unmeasured"
        reason = reason or ("could not be read" if duration_s > 0 else "there was no idle time")
    else:
        power_w = reading.energy_j / duration_s
        spread_w = None if reading.uncertainty_j is None else reading.uncertainty_j / duration_s
    return IdlePower(
        domain=reading.domain,
        meter=reading.meter,
        method=reading.method,
        power_w=power_w,
        uncertainty_w=spread_w,
        systematic=reading.systematic,
        quality=quality,
        reason=reason,
    )


def shared(
    given: Idle | None, wanted_s: float, meters: Iterable[Meter], passed_s: float
) -> Idle | None:
    """The idle power that came with the request, should it do here.

    Args:
        given: what came; None where nothing did.
        wanted_s: how long the experiment would measure it.
        meters: must read what was read then: the same domains, each by the same meter.
        passed_s: since it came.
    """
    if given is None or given.duration_s < wanted_s:
        return None
    now = {(domain, meter.name) for meter in meters for domain in meter.domains}
    if now != {(power.domain, power.meter) for power in given.powers}:
        return None
    age_s = given.age_s + passed_s
    return dataclasses.replace(given, age_s=age_s) if age_s <= IDLE_LASTS_S else None


def checked(
    idle: Idle | None, window: Window, prefix: str, ended_s: float
) -> tuple[Idle | None, tuple[str, ...]]:
    """Idle power with its age and what the measured window says of it, and warnings.

    Args:
        idle: as measured or taken over.
        window: the measured one.
        prefix: of the experiment's own domains.
        ended_s: when ``idle.age_s`` was right, on the clock of the window.
    """
    if idle is None:
        return None, ()
    found = tuple(drifts(idle, window.readings, prefix))
    age_s = idle.age_s + max(0.0, window.start_s - ended_s)
    return dataclasses.replace(idle, age_s=age_s, drifted=bool(found)), found


def drifts(idle: Idle, readings: Sequence[Reading], prefix: str) -> Iterable[str]:
    """A line for each own domain that drew something else just before the measured window.

    Something else is a difference of more than 5 % and of more than three standard uncertainties
    of the idle power. Net energy then has a wrong base, by that difference times the duration.
    """
    powers = {power.domain: power for power in idle.powers}
    for reading in readings:
        power = powers.get(reading.domain)
        if not reading.domain.startswith(prefix) or power is None:
            continue
        before_w, idle_w = reading.before_w, power.power_w
        if before_w is None or idle_w is None:
            continue
        allowed_w = max(_SIGMAS * (power.uncertainty_w or 0.0), _RELATIVE * abs(idle_w))
        if abs(before_w - idle_w) > allowed_w:
            origin = f" (by {idle.origin})" if idle.origin else ""
            yield (
                f"{reading.domain} drew {show(before_w, 'W')} just before the window,"
                f" {show(idle_w, 'W')} when idle was measured{origin}: {_REMEDY}"
            )
