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
from pytest_llem.results.testbeds import (
    TESTBED,
    differing,
    origin_of,
    parted,
    readings_of,
    shown,
    subject_of,
)
from pytest_llem.wire import to_dict

__all__ = [
    "Reference",
    "References",
    "changed_subject",
    "changed_testbed",
    "load",
    "of_outcomes",
    "report_files",
]

_NEWEST = 1
"""``schema_version`` of reports that are understood."""


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

    def kind(self, metric: str) -> str:
        """``estimated`` or ``shared`` where any of them is; else empty. Only equals compare."""
        found = {figure.get("quality") for figure in self.figures.get(metric, ())}
        return next((quality for quality in ("estimated", "shared") if quality in found), "")


@dataclass(frozen=True, slots=True)
class References:
    """All that is compared with, by study and experiment."""

    found: Mapping[tuple[str, str], Sequence[Reference]] = field(default_factory=dict)

    def each(self) -> Iterator[tuple[tuple[str, str], Reference]]:
        """All, with their study and name; a single report has several only of other testbeds."""
        for key, rows in self.found.items():
            for row in rows:
                yield key, row

    def plain(self) -> list[list[Any]]:
        """As plain JSON data, for another process."""
        return [[*key, to_dict(reference)] for key, reference in self.each()]

    @classmethod
    def from_plain(cls, rows: Sequence[Sequence[Any]]) -> References:
        """What :meth:`plain` was of."""
        found: dict[tuple[str, str], list[Reference]] = {}
        for study, experiment, row in rows:
            found.setdefault((study, experiment), []).append(Reference(**row))
        return cls(found)

    def of(self, study: str, experiment: str) -> Sequence[Reference]:
        """Those of one experiment; a session each."""
        return self.found.get((study, experiment), ())


def load(paths: Sequence[Path]) -> References:
    """Read reports, and all reports of directories.

    Raises:
        ResultsError: when one isn't there, or isn't a report.
    """
    found: dict[tuple[str, str], list[Reference]] = {}
    for path in report_files(paths):
        for key, reference in _read(path):
            found.setdefault(key, []).append(reference)
    return References(found)


def report_files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files that paths name: themselves, and of a directory all reports.

    Raises:
        ResultsError: when there is none in a directory.
    """
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
    """The measured ones of an experiment's cycles in the same form; None where there is none.

    They are all of one testbed.
    """
    rows = [to_dict(outcome) for outcome in outcomes if outcome.measurement]
    return next((reference for _, reference in _grouped(name, rows)), None)


def _grouped(
    name: str, rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[tuple[str, str], Reference]]:
    """A reference of each experiment, or several where it was measured on several testbeds.

    All rows are of one arm, where there are two. Of a cycle that a session ran again the last
    counts.
    """
    grouped: dict[tuple[str, str], dict[tuple[Any, int], Mapping[str, Any]]] = {}
    for row in rows:
        if row["measurement"]:
            cycles = grouped.setdefault((row["study"], row["experiment"]), {})
            cycles[row.get("session"), row["cycle"]] = row
    for key, cycles in grouped.items():
        for part in parted(list(cycles.values()), origin_of).values():
            yield key, _reference(name, part)


def _reference(name: str, rows: Sequence[Mapping[str, Any]]) -> Reference:
    measured = [row["measurement"] for row in rows]
    metrics = dict.fromkeys(metric for one in measured for metric in one["metrics"])
    return Reference(
        name=name,
        figures={
            metric: [dict(one["metrics"].get(metric) or {}) for one in measured]
            for metric in metrics
        },
        testbed={**measured[0]["testbed"], "readings": readings_of(measured[0])},
        subject=subject_of(rows[0]),
    )


def changed_testbed(now: Reference, then: Reference, *, energy: bool) -> list[str]:
    """What makes two measurements incomparable, then and now; empty where nothing does.

    Args:
        now: this session.
        then: an earlier one.
        energy: whether meters matter.
    """
    keys = {**TESTBED, "readings": "read"} if energy else TESTBED
    return list(differing(now.testbed, then.testbed, keys))


def changed_subject(now: Reference, then: Reference) -> list[str]:
    """What differs in what was measured, then and now."""
    keys = dict.fromkeys((*then.subject, *now.subject))
    return [
        f"{key} {shown(then.subject.get(key))} → {shown(now.subject.get(key))}"
        for key in keys
        if then.subject.get(key) != now.subject.get(key)
    ]
