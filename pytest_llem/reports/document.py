"""A report as its readers find it: the types of the JSON document, and how it is read.

The types mirror the document field by field: ``from_document(to_dict(report)) == report``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pytest_llem.demands import Arm, Limit
from pytest_llem.errors import ResultsError
from pytest_llem.records import Comparison, Judgement, Summary, Verdict
from pytest_llem.reports.places import line_of
from pytest_llem.results.outcome import Outcome
from pytest_llem.wire import Misfit, from_dict

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "ExperimentReport",
    "GateReport",
    "MergedFrom",
    "NotCompared",
    "Report",
    "SkippedPoint",
    "from_document",
    "read_report",
]

SCHEMA_VERSION = 1
"""Raised when a field changes its meaning or goes away."""

SCHEMA = Path(__file__).with_name("report.schema.json")
"""The JSON Schema of a report; ``python docs/build_reference.py`` writes it anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCompared:
    """Why a metric isn't beside those of earlier sessions."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentReport:
    """An experiment over its cycles.

    Attributes:
        arm: of an A/B comparison; null elsewhere.
        config: its fields, defaults included; null where no cycle has an outcome.
        cycles: how many have an outcome.
        measured: how many of them are measurements.
        comparisons: by metric; of those that no gate judged.
        doubts: what speaks against its figures.
        statistics: by metric; empty when nothing was measured.
    """

    study: str
    file: str
    experiment: str
    config: Mapping[str, Any] | None
    cycles: int
    measured: int
    comparisons: Mapping[str, Comparison | NotCompared]
    doubts: tuple[str, ...]
    statistics: Mapping[str, Summary]
    arm: Arm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """The verdicts of a gate, and what they come to.

    Attributes:
        cycles: that were judged.
        limits: that they were judged by.
    """

    study: str
    file: str
    node: str
    experiment: str
    cycles: int
    verdicts: tuple[Verdict, ...]
    outcome: Judgement
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedPoint:
    """A point of a study's grid that could not be measured."""

    file: str
    study: str
    experiment: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedFrom:
    """A session of a merged report: what it says of itself."""

    session: str
    exit_status: int
    environment: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole session.

    Attributes:
        session: name of its results directory.
        exit_status: of pytest.
        environment: of the host: versions, git commit, the settings for carbon.
        measurements: every outcome in the order they ended; of a cycle that was run again there
            are several, and the last counts.
        notices: what was said about runners, settings and order.
        redacted: whether names of hosts and users, and paths, were left out.
        extra: what hooks of the user added.
        merged_from: the sessions whose reports were merged; empty in a session's own.
    """

    schema_version: int
    session: str
    exit_status: int
    environment: Mapping[str, Any]
    measurements: tuple[Outcome, ...]
    experiments: tuple[ExperimentReport, ...]
    notices: tuple[str, ...]
    skipped_points: tuple[SkippedPoint, ...]
    gates: tuple[GateReport, ...]
    redacted: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    merged_from: tuple[MergedFrom, ...] = ()


def read_report(path: str | Path) -> Report:
    """Read a report that ``--llem-json`` or ``--llem-save`` wrote.

    Raises:
        ResultsError: when it can't be read, isn't a report, is one of another version or damaged.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        data = json.loads(text, parse_constant=_refuse)
    except OSError as error:
        raise ResultsError(f"{path}: can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        cause = str(error).partition("\n")[0]
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ResultsError(
            f"{path}{line}: is no report, or a part of one: {cause}; --llem-json writes reports"
        ) from error
    return _read(data, str(path), text)


def from_document(data: Any, name: str = "the report") -> Report:
    """A report from plain data.

    Args:
        data: what JSON made of a file.
        name: of the file, for messages.

    Raises:
        ResultsError: when it isn't a report, is one of another version or damaged.
    """
    return _read(data, name)


def _read(data: Any, name: str, text: str = "") -> Report:
    """A report from plain data, and from its text where there is one: for the lines in messages."""
    version = data.get("schema_version") if isinstance(data, dict) else None
    if type(version) is not int or "measurements" not in data:
        raise ResultsError(f"{name}: is no report; --llem-json and --llem-save write reports")
    if version != SCHEMA_VERSION:
        other = "a later" if version > SCHEMA_VERSION else "an earlier"
        raise ResultsError(
            f"{name}: a report of version {version}, and this pytest-llem reads version"
            f" {SCHEMA_VERSION}; read it with {other} pytest-llem{_written_by(data)}"
        )
    try:
        return from_dict(Report, data)
    except Misfit as error:
        line = f":{line_of(text, error.where)}" if text else ""
        raise ResultsError(
            f"{name}{line}: is damaged, or was changed: {error}{_written_by(data)}"
        ) from error


def _written_by(data: Mapping[str, Any]) -> str:
    """Which version wrote it, as far as it can be told."""
    environment = data.get("environment")
    wrote = environment.get("pytest_llem") if isinstance(environment, dict) else None
    return f" (pytest-llem {wrote} wrote it)" if isinstance(wrote, str) else ""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number that was measured")
