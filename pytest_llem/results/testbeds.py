"""Which measurements of an experiment may be judged together: those of one testbed. Pure.

In one session the hardware may differ, where it runs on several hosts. Between sessions other
things may, too: what was read, by which method, the kind of worker, and what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pytest_llem.results.outcome import Outcome
from pytest_llem.wire import to_dict

__all__ = [
    "TESTBED",
    "Origin",
    "differing",
    "origin_of",
    "parted",
    "parts_of",
    "readings_of",
    "shown",
    "subject_of",
]

TESTBED = {
    "device": "device",
    "cpu": "CPU",
    "cpus": "CPUs",
    "system": "system",
    "worker": "worker",
    "gpus": "GPUs",
    "gpu_count": "number of GPUs",
    "power_limits_w": "power limits (W)",
    "driver_branch": "driver",
    "mig": "MIG",
}
"""What two measurements must share, and how people call it."""

_OF_SESSIONS = {"worker", "readings"}
_SHOWN = {**TESTBED, "readings": "read"}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a measurement comes from.

    Attributes:
        session: that made it; None for the one at hand.
        testbed: None where nothing was measured.
        readings: domains, meters and methods.
        subject: what was measured: versions, digest, image.
    """

    session: str | None
    testbed: Mapping[str, Any] | None
    readings: Sequence[str] = ()
    subject: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hardware(self) -> dict[str, Any]:
        """What no two measurements that are pooled may differ in."""
        testbed = self.testbed or {}
        return {key: testbed.get(key) for key in TESTBED if key not in _OF_SESSIONS}

    def of_session(self) -> dict[str, Any]:
        """What those of two sessions may not differ in, either."""
        worker = (self.testbed or {}).get("worker")
        return {**self.hardware, "worker": worker, "readings": self.readings, **self.subject}


def parted(rows: Sequence[_T], origin: Callable[[_T], Origin]) -> dict[str, list[_T]]:
    """Part an experiment's cycles by testbed.

    What wasn't measured has no testbed of its own: it goes with the first that its session knows,
    or else with the first of all.

    Args:
        rows: the cycles.
        origin: of one of them.

    Returns:
        What tells a part from the others, as text, to its cycles; the text of a single part is
        empty.
    """
    origins = [origin(row) for row in rows]
    if all(one.testbed is not None for one in origins):
        first = origins[0].of_session()
        if all(one.of_session() == first for one in origins):
            return {"": list(rows)}
    keys = [(one.session, _text(one.hardware)) for one in origins]
    abouts: dict[tuple[str | None, str], dict[str, Any]] = {}
    for key, one in zip(keys, origins, strict=True):
        if one.testbed is not None:
            # Of a session the first one tells: a counter that fails once is no other testbed.
            abouts.setdefault(key, one.of_session())
    parts: dict[str, tuple[dict[str, Any], list[_T]]] = {}
    for row, key, one in zip(rows, keys, origins, strict=True):
        if one.testbed is None:
            same = [other for other in abouts if other[0] == one.session]
            key = next(iter([*same, *abouts]), key)
        about = abouts.get(key, {})
        parts.setdefault(_text(about), (about, []))[1].append(row)
    found = [about for about, _ in parts.values()]
    return {_label(about, found): kept for about, kept in parts.values()}


def parts_of(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """:func:`parted` for an experiment's outcomes; a session of a single host takes no time."""
    first = outcomes[0]
    testbeds = [one.measurement.testbed for one in outcomes if one.measurement]
    equal = all(testbed == testbeds[0] for testbed in testbeds)
    if equal and all(one.session == first.session for one in outcomes):
        return {"": list(outcomes)}
    return parted(outcomes, lambda outcome: origin_of(_row(outcome)))


def _row(outcome: Outcome) -> dict[str, Any]:
    """Of an outcome as plain data what origins are made of; all of it would take long."""
    made = outcome.measurement
    return {
        "session": outcome.session,
        "digest": outcome.digest,
        "place": outcome.place,
        "measurement": made
        and {
            "testbed": made.testbed,
            "subject": made.subject,
            "windows": [to_dict(window) for window in made.windows if window.phase == "measure"],
        },
    }


def _text(about: Mapping[str, Any]) -> str:
    return json.dumps(about, sort_keys=True, default=list)


def _label(about: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """What of a part isn't the same in all: one thing, where it tells all of them apart."""
    keys = dict.fromkeys(key for one in others for key in one)
    values = {key: {_text({"": other.get(key)}) for other in others} for key in keys}
    own = [key for key in keys if len(values[key]) > 1]
    own = next(([key] for key in own if len(values[key]) == len(others)), own)
    return ", ".join(f"{_SHOWN.get(key, key)}: {shown(about.get(key))}" for key in own)


def origin_of(row: Mapping[str, Any]) -> Origin:
    """Of an outcome as plain data."""
    measurement = row.get("measurement")
    return Origin(
        session=row.get("session"),
        testbed=measurement["testbed"] if measurement else None,
        readings=readings_of(measurement) if measurement else (),
        subject=subject_of(row) if measurement else {},
    )


def readings_of(measurement: Mapping[str, Any]) -> list[str]:
    """What was read over the measured window, by which meter and method; GPUs without a number."""
    rows = [
        f"{reading['domain'].partition(':')[0]} by {reading['meter']} ({reading['method']})"
        for window in measurement["windows"]
        if window["phase"] == "measure"
        for reading in window["readings"]
    ]
    return sorted(rows)


def subject_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured, of an outcome as plain data: versions, image, the experiment itself."""
    place = row.get("place") or {}
    versions = row["measurement"]["subject"].get("versions")
    found: dict[str, Any] = dict(versions) if isinstance(versions, dict) else {}
    image = place.get("image_digest") or place.get("image_id")
    if image:
        found["image"] = f"{place.get('image')} {str(image).rpartition(':')[2][:12]}"
    found["experiment"] = str(row.get("digest"))[:12]
    return found


def differing(
    now: Mapping[str, Any], then: Mapping[str, Any], keys: Mapping[str, str] = TESTBED
) -> Iterator[str]:
    """How two testbeds differ, then and now."""
    for key, name in keys.items():
        if then.get(key) != now.get(key):
            yield f"{name}: {shown(then.get(key))} → {shown(now.get(key))}"


def shown(value: Any) -> str:
    """A value of a testbed, for people."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value)) or "nothing"
    return "none" if value is None else str(value)
