"""A report as people read it: a row for each experiment, and what it all comes to. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_llem.metrics import METRICS
from pytest_llem.records import Comparison, Failure, Measurement, Verdict
from pytest_llem.reports.collected import Collected, base_name
from pytest_llem.reports.document import ExperimentReport, GateReport, NotCompared, Report
from pytest_llem.results.outcome import Outcome
from pytest_llem.wire import dotted

__all__ = ["Compared", "Note", "Overall", "Problem", "Row", "View"]

State = Literal["failed", "passed", "not judged", "skipped", "measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An experiment.

    Attributes:
        key: short, for links within a page.
        name: of the experiment; the base of an A/B comparison has one of its own.
        outcomes: one of each cycle.
        replaced: of tries before that.
        differs: what its configuration has otherwise than others of its study.
    """

    key: str
    name: str
    report: ExperimentReport
    gate: GateReport | None
    outcomes: Sequence[Outcome]
    replaced: Sequence[Outcome]
    differs: Mapping[str, str] = field(default_factory=dict)

    @property
    def measurements(self) -> list[Measurement]:
        """Of the cycles that were measured."""
        return [outcome.measurement for outcome in self.outcomes if outcome.measurement]

    @property
    def backend(self) -> str:
        """Its engine."""
        return str((self.report.config or {}).get("backend", ""))

    @property
    def failed(self) -> list[Outcome]:
        """Cycles that failed."""
        return [outcome for outcome in self.outcomes if outcome.failure]

    @property
    def state(self) -> State:
        """What became of it."""
        if self.failed or (self.gate and self.gate.outcome == "failed"):
            return "failed"
        if not self.report.measured:
            return "skipped"
        if self.gate is None:
            return "measured"
        return "passed" if self.gate.outcome == "passed" else "not judged"

    def median(self, metric: str) -> float | None:
        """A metric's median; None where there is none."""
        summary = self.report.statistics.get(metric)
        return summary.median if summary else None

    @property
    def estimated(self) -> bool:
        """Whether its energy is an estimate."""
        summary = self.report.statistics.get("energy_per_output_token_j")
        return summary is not None and summary.quality == "estimated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that failed.

    Attributes:
        kind: ``regression``, ``limit`` or ``failure``.
        text: what happened.
        fix: what to do about it; empty where that isn't known.
        where: ``file:line`` of the study; empty where that isn't known.
        node: pytest's id of the test.
        log: the end of the worker's log.
    """

    kind: Literal["regression", "limit", "failure"]
    row: Row
    text: str
    node: str
    fix: str = ""
    where: str = ""
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something to know beside the figures, and the experiments that it is about."""

    kind: Literal["not judged", "judged with doubt", "integrity", "warning", "doubt", "retried"]
    text: str
    rows: Sequence[Row]

    def names(self, most: int = 3) -> str:
        """The experiments, in short."""
        more = len(self.rows) - most
        return ", ".join(r.name for r in self.rows[:most]) + (
            f" and {more} more" if more > 0 else ""
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A metric of an experiment beside earlier sessions."""

    row: Row
    metric: str
    found: Comparison | NotCompared
    verdict: Verdict | None = None

    @property
    def outcome(self) -> str:
        """``kept``, ``worse``, ``within noise``, ``inconclusive`` or ``not compared``."""
        return self.found.outcome if isinstance(self.found, Comparison) else "not compared"

    @property
    def worse(self) -> float | None:
        """Relative change, positive for worse; None where there is none."""
        change = self.found.change if isinstance(self.found, Comparison) else None
        if change is None:
            return None
        return -change if METRICS[self.metric].higher_is_better else change


@dataclass(frozen=True, slots=True, kw_only=True)
class Overall:
    """What a session came to.

    Attributes:
        headline: in a few words.
        counts: what stands behind it, a phrase each.
    """

    outcome: Literal["passed", "failed", "nothing"]
    headline: str
    counts: Sequence[str]


class View:
    """All that reports for people show."""

    def __init__(self, report: Report, rows: Sequence[Row] | None = None) -> None:
        """Group the report by experiment; or take some of its rows."""
        self.report = report
        self.rows = list(_rows(report) if rows is None else rows)

    def first(self, most: int) -> View:
        """The same with so many rows at most, those that failed before others, in their order."""
        ranked = sorted(self.rows, key=lambda row: row.state != "failed")
        kept = {row.key for row in ranked[:most]}
        return View(self.report, [row for row in self.rows if row.key in kept])

    @property
    def metrics(self) -> list[str]:
        """Metrics that any experiment has a value of."""
        return [name for name in METRICS if any(row.median(name) is not None for row in self.rows)]

    def problems(self) -> list[Problem]:
        """What failed: regressions first, then limits, then measurements."""
        order = ("regression", "limit", "failure")
        found = [problem for row in self.rows for problem in _problems(row)]
        return sorted(found, key=lambda problem: order.index(problem.kind))

    def notes(self) -> list[Note]:
        """What needs saying of figures that are there, each text once."""
        grouped: dict[tuple[Any, str], list[Row]] = {}
        for row in self.rows:
            for said in dict.fromkeys(_notes(row)):
                grouped.setdefault(said, []).append(row)
        notes = [Note(kind=kind, text=text, rows=rows) for (kind, text), rows in grouped.items()]
        order = ("integrity", "not judged", "judged with doubt", "warning", "doubt", "retried")
        return sorted(notes, key=lambda note: order.index(note.kind))

    def comparisons(self) -> list[Compared]:
        """What stands beside earlier sessions, the worst first."""
        found = [compared for row in self.rows for compared in _compared(row)]
        return sorted(found, key=lambda one: float("inf") if one.worse is None else -one.worse)

    def overall(self) -> Overall:
        """The verdict on the session."""
        gates = [row.gate for row in self.rows if row.gate]
        failed = [gate for gate in gates if gate.outcome == "failed"]
        unjudged = [gate for gate in gates if gate.outcome == "skipped"]
        wanted = sum(row.report.cycles for row in self.rows)
        made = sum(row.report.measured for row in self.rows)
        broken = sum(len(row.failed) for row in self.rows)
        counts = [f"{_of(made, wanted, 'measurement')} made"]
        if broken:
            counts.append(f"{broken} failed")
        if gates:
            passed = len(gates) - len(failed) - len(unjudged)
            counts.append(f"{_of(passed, len(gates), 'gate')} passed")
        if unjudged:
            counts.append(f"{_of(len(unjudged), len(gates), 'gate')} not judged")
        if failed:
            headline = f"Failed: {len(failed)} of {_counted(len(gates), 'gate')}"
        elif broken:
            headline = f"Failed: {broken} of {_counted(wanted, 'measurement')}"
        elif not made:
            headline = "Nothing was measured"
        elif self.report.exit_status:
            headline = f"Failed: pytest's exit status is {self.report.exit_status}"
        else:
            headline = "Passed" if gates else "Measured, nothing to judge"
        outcome: Literal["passed", "failed", "nothing"] = "passed"
        if headline.startswith("Failed"):
            outcome = "failed"
        elif not made:
            outcome = "nothing"
        return Overall(outcome=outcome, headline=headline, counts=counts)

    def again(self) -> list[str]:
        """Node ids of the tests that failed, each once."""
        return list(dict.fromkeys(problem.node for problem in self.problems() if problem.node))


def _of(count: int, whole: int, noun: str) -> str:
    """``all 8 gates``, ``2 of 8 gates``, ``1 gate``."""
    if count < whole:
        return f"{count} of {_counted(whole, noun)}"
    return f"all {_counted(whole, noun)}" if whole > 1 else _counted(whole, noun)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


# --- rows ----------------------------------------------------------------------------------


def _rows(report: Report) -> Iterator[Row]:
    collected = Collected(report.measurements, ()).experiments
    gates = {(gate.study, gate.file, gate.experiment): gate for gate in report.gates}
    varied = _varied(report.experiments)
    for number, one in enumerate(report.experiments, 1):
        name = base_name(one.experiment) if one.arm == "base" else one.experiment
        key = (one.study, one.file, name)
        found = collected.get(key)
        names = varied.get(key[:2], ())
        flat = dotted(one.config or {})
        yield Row(
            key=f"e{number}",
            name=name,
            report=one,
            gate=gates.get(key),
            outcomes=found.outcomes if found else (),
            replaced=found.replaced if found else (),
            differs={name: _said(flat.get(name)) for name in names},
        )


def _varied(experiments: Sequence[ExperimentReport]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Of each study the fields in which its experiments differ from each other."""
    values: dict[tuple[str, str], dict[str, set[str]]] = {}
    counts: dict[tuple[str, str], int] = {}
    for one in experiments:
        study = (one.study, one.file)
        counts[study] = counts.get(study, 0) + 1
        for name, value in dotted(one.config or {}).items():
            values.setdefault(study, {}).setdefault(name, set()).add(_said(value))
    return {
        study: tuple(name for name, found in fields.items() if len(found) > 1 and name != "id")
        for study, fields in values.items()
    }


def _said(value: Any) -> str:
    return "not set" if value is None else str(value)


# --- what needs saying ---------------------------------------------------------------------


def _problems(row: Row) -> Iterator[Problem]:
    for verdict in row.gate.verdicts if row.gate else ():
        if verdict.outcome == "failed" and not (verdict.metric == "cycles" and row.failed):
            yield Problem(
                kind="regression" if verdict.comparison else "limit",
                row=row,
                text=verdict.text,
                where=verdict.where,
                node=row.gate.node if row.gate else "",
            )
    for outcome in row.failed:
        failure = outcome.failure or Failure(kind="", message="")
        yield Problem(
            kind="failure",
            row=row,
            text=f"cycle {outcome.cycle}: {failure.message}",
            fix=failure.fix,
            node=outcome.node,
            log=failure.log_tail,
        )


def _notes(row: Row) -> Iterator[tuple[str, str]]:
    for measurement in row.measurements:
        yield from (("integrity", text) for text in measurement.integrity)
        yield from (("warning", text) for text in measurement.warnings)
    for verdict in row.gate.verdicts if row.gate else ():
        if verdict.outcome == "skipped":
            yield "not judged", verdict.text
        elif verdict.outcome == "passed" and (
            "within noise" in verdict.reason or verdict.quality != "ok"
        ):
            yield "judged with doubt", verdict.text
    yield from (("doubt", text) for text in row.report.doubts)
    for outcome in row.outcomes:
        if outcome.skipped:
            yield "not judged", f"skipped: {outcome.skipped}"
    for earlier in row.replaced:
        cause = earlier.failure.message if earlier.failure else earlier.skipped or "measured"
        yield "retried", f"cycle {earlier.cycle}: the last try counts; one before: {cause}"


def _compared(row: Row) -> Iterator[Compared]:
    for verdict in row.gate.verdicts if row.gate else ():
        if verdict.comparison:
            yield Compared(
                row=row, metric=verdict.metric, found=verdict.comparison, verdict=verdict
            )
    for metric, found in row.report.comparisons.items():
        yield Compared(row=row, metric=metric, found=found)
