"""How figures were measured, and on what: for people. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llem.records import Reading
from pytest_llem.reports.view import View

__all__ = ["ReadingKind", "facts", "hardware", "readings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingKind:
    """Readings that were made alike.

    Attributes:
        domain: kind of what was read: ``gpu``, ``cpu``, ``dram``.
        windows: measured windows that have one.
        uncertainty: median of the relative statistical uncertainties, for reading.
        systematic: relative, for reading.
    """

    domain: str
    meter: str
    method: str
    quality: str
    windows: int
    uncertainty: str
    systematic: str
    reason: str


def readings(view: View) -> list[ReadingKind]:
    """The readings of all measured windows, those made alike together."""
    grouped: dict[tuple[str, str, str, str, str], list[Reading]] = {}
    for reading in _measured(view):
        kind = reading.domain.partition(":")[0]
        key = (kind, reading.meter, reading.method, reading.quality, reading.reason or "")
        grouped.setdefault(key, []).append(reading)
    return [
        ReadingKind(
            domain=domain,
            meter=meter,
            method=method,
            quality=quality,
            windows=len(rows),
            uncertainty=_relative(rows),
            systematic=_percent(max(reading.systematic for reading in rows)),
            reason=reason,
        )
        for (domain, meter, method, quality, reason), rows in grouped.items()
    ]


def _measured(view: View) -> Iterator[Reading]:
    for row in view.rows:
        for measurement in row.measurements:
            for window in measurement.windows:
                if window.phase == "measure":
                    yield from window.readings


def _relative(rows: Sequence[Reading]) -> str:
    found = [
        row.uncertainty_j / abs(row.energy_j)
        for row in rows
        if row.energy_j and row.uncertainty_j is not None
    ]
    return _percent(statistics.median(found)) if found else "not known"


def _percent(share: float) -> str:
    return f"{share * 100:.2g} %" if share else "0"


def hardware(view: View) -> str:
    """What was measured on, in a few words."""
    found = [_devices(m.testbed) for row in view.rows for m in row.measurements]
    return ", ".join(dict.fromkeys(filter(None, found)))


def _devices(testbed: Mapping[str, Any]) -> str:
    if gpus := testbed.get("gpus"):
        names = dict.fromkeys(gpus)
        return ", ".join(f"{gpus.count(name)} × {name}" for name in names)
    return str(testbed.get("cpu") or testbed.get("device") or "")


_TESTBED = {
    "device": "device",
    "gpus": "GPUs",
    "power_limits_w": "power limits (W)",
    "driver_branch": "driver",
    "cpu": "CPU",
    "cpus": "CPUs",
    "system": "system",
    "worker": "worker",
}


def facts(view: View) -> list[tuple[str, str]]:
    """The environment: name and value, a line each."""
    measurements = [m for row in view.rows for m in row.measurements]
    environment = view.report.environment
    found = [
        (title, values)
        for key, title in _TESTBED.items()
        if (values := _distinct(m.testbed.get(key) for m in measurements))
    ]
    versions: dict[str, list[Any]] = {}
    for measurement in measurements:
        for name, version in (measurement.subject.get("versions") or {}).items():
            versions.setdefault(name, []).append(version)
    found += [(name, values) for name, own in versions.items() if (values := _distinct(own))]
    found += [("container image", values) for values in [_distinct(_images(view))] if values]
    for name in ("pytest_llem", "python", "system"):
        if environment.get(name) is not None:
            found.append((f"{name.replace('_', '-')} (host)", str(environment[name])))
    if sessions := [merged.session for merged in view.report.merged_from]:
        found.append(("merged of the sessions", ", ".join(sessions)))
    if git := environment.get("git"):
        dirty = ", with changes that aren't committed" if git.get("dirty") else ""
        found.append(("git commit", f"{str(git.get('commit'))[:12]}{dirty}"))
    return found


def _images(view: View) -> Iterator[Any]:
    for row in view.rows:
        for outcome in row.outcomes:
            image = outcome.place.get("image")
            digest = outcome.place.get("image_digest") or outcome.place.get("image_id")
            if image:
                yield f"{image} {str(digest or '').rpartition(':')[2][:12]}".strip()


def _distinct(values: Any) -> str:
    """Values that are set, each once; empty for none."""
    said = [", ".join(map(str, v)) if isinstance(v, (list, tuple)) else str(v) for v in values if v]
    return " | ".join(dict.fromkeys(filter(None, said)))
