"""Earlier sessions to compare with: read from their reports, and only what can be compared.

A report may be of another version of this package, so nothing is asked of it but what a comparison
needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llem.errors import ResultsError
from pytest_llem.records import Figure
from pytest_llem.results.outcome import Outcome
from pytest_llem.wire import to_dict

__all__ = [
    "TESTBED",
    "Reference",
    "References",
    "changed_subject",
    "changed_testbed",
    "load",
    "of_outcomes",
    "shown",
]

_NEWEST = 1
"""``schema_version`` of reports that are understood."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An experiment in one earlier session, or in this one.

    Attributes:
        name: of the report.
        figures: each metric to the figures of its cycles, as plain data.
        testbed: of its first measurement; ``readings`` are domains, meters and methods.
        subject: what was measured: versions, digest, image.
    """

    name: str
    figures: Mapping[str, Sequence[Mapping[str, Any]]]
    testbed: Mapping[str, Any]
    subject: Mapping[str, Any]

    def values(self, metric: str) -> list[float] | None:
        """The metric's values; None where any cycle has none."""
        found = [figure.get("value") for figure in self.figures.get(metric, ())]
        known = [float(value) for value in found if isinstance(value, (int, float))]
        return known if known and len(known) == len(found) else None

    def read(self, metric: str) -> list[Figure]:
        """The metric's figures; unmeasured where a report doesn't have it at all."""
        rows = self.figures.get(metric) or [{}]
        return [
            Figure(
                value=row.get("value"),
                quality=row.get("quality", "unmeasured"),
                reason=row.get("reason") if row else "the report doesn't have it",
            )
            for row in rows
        ]

    def estimated(self, metric: str) -> bool:
        """Whether any of them is an estimate."""
        return any(f.get("quality") == "estimated" for f in self.figures.get(metric, ()))


@dataclass(frozen=True, slots=True)
class References:
    """All that is compared with, by study and experiment."""

    found: Mapping[tuple[str, str], Sequence[Reference]] = field(default_factory=dict)

    def single(self) -> dict[tuple[str, str], Reference]:
        """Of a single report: its experiments, by study and name."""
        return {key: rows[-1] for key, rows in self.found.items()}

    def of(self, study: str, experiment: str) -> Sequence[Reference]:
        """Those of one experiment; a session each."""
        return self.found.get((study, experiment), ())


def load(paths: Sequence[Path]) -> References:
    """Read reports, and all reports of directories.

    Raises:
        ResultsError: when one isn't there, or isn't a report.
    """
    found: dict[tuple[str, str], list[Reference]] = {}
    for path in _files(paths):
        for key, reference in _read(path):
            found.setdefault(key, []).append(reference)
    return References(found)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        files = sorted(path.glob("*.json"))
        if not files:
            raise ResultsError(f"{path}: no report is there (*.json); --llem-save makes one")
        yield from files


def _read(path: Path) -> Iterator[tuple[tuple[str, str], Reference]]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ResultsError(f"{path}: can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path}: is no report: {str(error).partition(chr(10))[0]}") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, int) or not isinstance(document.get("measurements"), list):
        raise ResultsError(f"{path}: is no report of --llem-json or --llem-save")
    if version > _NEWEST:
        raise ResultsError(
            f"{path}: a report of version {version}, and this pytest-llem reads {_NEWEST};"
            " pip install --upgrade pytest-llem"
        )
    try:
        # What the session was about; of its base it says no more than of any other session's.
        rows = [row for row in document["measurements"] if row.get("arm") != "base"]
        yield from _grouped(path.name, rows)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultsError(f"{path}: is damaged: {type(error).__name__}: {error}") from error


def of_outcomes(name: str, outcomes: Sequence[Outcome]) -> Reference | None:
    """The measured ones of an experiment's cycles in the same form; None where there is none."""
    rows = [to_dict(outcome) for outcome in outcomes if outcome.measurement]
    return next((reference for _, reference in _grouped(name, rows)), None)


def _grouped(
    name: str, rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[tuple[str, str], Reference]]:
    """A reference of each experiment; of a cycle that was run again the last counts.

    All rows are of one arm, where there are two.
    """
    grouped: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        if row["measurement"]:
            grouped.setdefault((row["study"], row["experiment"]), {})[row["cycle"]] = row
    for key, cycles in grouped.items():
        measured = [row["measurement"] for row in cycles.values()]
        first = next(iter(cycles.values()))
        metrics = dict.fromkeys(metric for one in measured for metric in one["metrics"])
        yield (
            key,
            Reference(
                name=name,
                figures={
                    metric: [dict(one["metrics"].get(metric) or {}) for one in measured]
                    for metric in metrics
                },
                testbed={**first["measurement"]["testbed"], "readings": _readings(measured[0])},
                subject=_subject(first),
            ),
        )


def _readings(measurement: Mapping[str, Any]) -> list[str]:
    """What was read over the measured window, by which meter and method; GPUs without a number."""
    rows = [
        f"{reading['domain'].partition(':')[0]} by {reading['meter']} ({reading['method']})"
        for window in measurement["windows"]
        if window["phase"] == "measure"
        for reading in window["readings"]
    ]
    return sorted(rows)


def _subject(row: Mapping[str, Any]) -> dict[str, Any]:
    place = row.get("place") or {}
    versions = row["measurement"]["subject"].get("versions")
    found: dict[str, Any] = dict(versions) if isinstance(versions, dict) else {}
    image = place.get("image_digest") or place.get("image_id")
    if image:
        found["image"] = f"{place.get('image')} {str(image).rpartition(':')[2][:12]}"
    found["experiment"] = str(row.get("digest"))[:12]
    return found


def changed_testbed(now: Reference, then: Reference, *, energy: bool) -> list[str]:
    """What makes two measurements incomparable, then and now; empty where nothing does.

    Args:
        now: this session.
        then: an earlier one.
        energy: whether meters matter.
    """
    keys = {**TESTBED, "readings": "read"} if energy else TESTBED
    return [
        f"{title}: {shown(then.testbed.get(key))} → {shown(now.testbed.get(key))}"
        for key, title in keys.items()
        if then.testbed.get(key) != now.testbed.get(key)
    ]


def changed_subject(now: Reference, then: Reference) -> list[str]:
    """What differs in what was measured, then and now."""
    keys = dict.fromkeys((*then.subject, *now.subject))
    return [
        f"{key} {shown(then.subject.get(key))} → {shown(now.subject.get(key))}"
        for key in keys
        if then.subject.get(key) != now.subject.get(key)
    ]


def shown(value: Any) -> str:
    """A fact of a testbed or a subject, for people."""
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "nothing"
    return "none" if value is None else str(value)
