"""Which meters are read for an experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import METERS, Meter, Target, find, names

__all__ = ["FindMeter", "choose_meters", "own_meter"]

FindMeter = Callable[[str, Target], Meter]
"""Makes a meter by its name, for a target."""


def own_meter(name: str, target: Target) -> Meter:
    """A meter that reads counters where this worker runs."""
    meter: Meter = find(METERS, name)(target)
    return meter


def choose_meters(
    experiment: Experiment, device: str, find_meter: FindMeter = own_meter
) -> tuple[list[Meter], str]:
    """The meters to read for an experiment, and why a device may be left without.

    ``auto`` takes every meter that has something to read here, and estimates only where nothing
    measures. No domain is read twice: its energy would be counted twice.

    Args:
        experiment: that names them, or not.
        device: that the engine computes on.
        find_meter: makes a meter by its name.

    Raises:
        LlemError: when a meter named by the experiment doesn't exist, has nothing to read, or
            reads what another one reads.
    """
    wanted = names(METERS) if experiment.meters == "auto" else list(experiment.meters)
    target = Target(device=device, count=experiment.devices)
    meters: list[Meter] = [find_meter(name, target) for name in wanted]
    usable = [meter for meter in meters if meter.domains]
    if experiment.meters == "auto":
        measuring = [meter for meter in usable if not meter.estimates]
        usable = [meter for meter, other in _claims(measuring or usable) if other is None]
    else:
        _check_named(meters)
    tried = [f"{meter.name}: {meter.reason}" for meter in meters if meter.reason]
    return usable, "; ".join([f"no meter here reads a {device} device", *tried])


def _claims(meters: Sequence[Meter]) -> list[tuple[Meter, Meter | None]]:
    """Each meter with the earlier one that reads one of its domains too, if any."""
    owners: dict[str, Meter] = {}
    claims: list[tuple[Meter, Meter | None]] = []
    for meter in meters:
        domains = meter.domains
        other = next((owners[domain] for domain in domains if domain in owners), None)
        if other is None:
            owners |= dict.fromkeys(domains, meter)
        claims.append((meter, other))
    return claims


def _check_named(meters: Sequence[Meter]) -> None:
    """Refuse a choice of meters that can't be read as it stands."""
    for meter, other in _claims(meters):
        if not meter.domains:
            raise LlemError(f"meter {meter.name} can't be used here: {meter.reason}")
        if other is not None:
            raise LlemError(f"meters {other.name} and {meter.name} read the same; name one of them")
