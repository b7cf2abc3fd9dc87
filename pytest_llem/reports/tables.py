"""Reports as tables: a row for each measurement, each figure or each statistic. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pytest_llem.metrics import METRICS
from pytest_llem.records import Figure, Measurement, Summary
from pytest_llem.reports.document import Report
from pytest_llem.results.outcome import Outcome

__all__ = ["TABLES", "Cell", "Table", "as_csv"]

Cell = str | int | float | bool | None
"""Null is a missing value: never 0, and never an empty text."""

_Row = dict[str, Cell]


@dataclass(frozen=True, slots=True)
class Table:
    """Columns with a name and a value for each row; all values of a column are of one kind.

    Attributes:
        columns: by name.
        numbers: names of those that hold floats, and do so where all values are missing.
    """

    columns: Mapping[str, Sequence[Cell]]
    numbers: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[_Row], numbers: Collection[str]) -> Table:
        """From rows, not all of which have every column."""
        names = dict.fromkeys(name for row in rows for name in row)
        return cls(
            {
                name: _one_kind([row.get(name) for row in rows], floats=name in numbers)
                for name in names
            },
            frozenset(numbers) & names.keys(),
        )

    @property
    def rows(self) -> Iterator[tuple[Cell, ...]]:
        """Row by row."""
        return zip(*self.columns.values(), strict=True)


def measurements(reports: Sequence[Report]) -> Table:
    """A row for each measurement that was to be made, with every metric in a column of its own.

    Of a metric of energy there are also ``.uncertainty``, ``.systematic`` and ``.quality``: an
    estimate must not be taken for a measurement. What the experiment, the testbed and the subject
    say stands in columns with dots: ``config.prompts.count``. Of a cycle that was run again the
    last try counts.
    """
    rows = [_measurement(report, outcome) for report, outcome in _last(reports)]
    parts = ("", ".uncertainty", ".systematic")
    return Table.of(rows, {f"{name}{part}" for name in METRICS for part in parts})


def figures(reports: Sequence[Report]) -> Table:
    """A row for each figure of each measurement: long, and the same columns for any report."""
    return Table.of(
        [
            {
                **_whose(report, outcome),
                "cycle": outcome.cycle,
                "metric": metric,
                "unit": METRICS[metric].unit if metric in METRICS else None,
                **{field.name: getattr(figure, field.name) for field in fields(Figure)},
            }
            for report, outcome in _last(reports)
            if outcome.measurement
            for metric, figure in outcome.measurement.metrics.items()
        ],
        ("value", "uncertainty", "systematic"),
    )


def statistics(reports: Sequence[Report]) -> Table:
    """A row for each metric of each experiment, over its cycles."""
    return Table.of(
        [
            {
                "session": report.session,
                "study": experiment.study,
                "file": experiment.file,
                "experiment": experiment.experiment,
                "arm": experiment.arm,
                "metric": metric,
                "unit": METRICS[metric].unit if metric in METRICS else None,
                **{field.name: getattr(summary, field.name) for field in fields(Summary)},
            }
            for report in reports
            for experiment in report.experiments
            for metric, summary in experiment.statistics.items()
        ],
        ("median", "mean", "stdev", "low", "high", "confidence"),
    )


TABLES: Mapping[str, Callable[[Sequence[Report]], Table]] = {
    "measurements": measurements,
    "figures": figures,
    "statistics": statistics,
}
"""By the names that ``export --table`` takes."""


def as_csv(table: Table) -> str:
    """Comma-separated values (RFC 4180, but for lines that end as Unix's); null is an empty cell.

    Numbers are written such that reading them gives the same ones; true and false in small letters.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([_shown(cell) for cell in row] for row in table.rows)
    return text.getvalue()


def _shown(cell: Cell) -> Cell:
    return str(cell).lower() if isinstance(cell, bool) else cell


def _last(reports: Sequence[Report]) -> Iterator[tuple[Report, Outcome]]:
    """The last try of each cycle, in the order of the first ones."""
    for report in reports:
        found = {
            (o.session, o.study, o.file, o.experiment, o.arm, o.cycle): o
            for o in report.measurements
        }
        yield from ((report, outcome) for outcome in found.values())


def _whose(report: Report, outcome: Outcome) -> _Row:
    return {
        "session": outcome.session or report.session,
        "study": outcome.study,
        "file": outcome.file,
        "experiment": outcome.experiment,
        "arm": outcome.arm,
    }


def _measurement(report: Report, outcome: Outcome) -> _Row:
    failure, measured = outcome.failure, outcome.measurement
    row = {
        **_whose(report, outcome),
        "cycle": outcome.cycle,
        "digest": outcome.digest,
        "outcome": "measured" if measured else "failed" if failure else "skipped",
        "reason": failure.message if failure else outcome.skipped,
        "finished": outcome.finished,
        "runner": outcome.runner.value,
    }
    row |= _flat("config", outcome.config)
    return row if measured is None else row | _measured(measured)


def _measured(measured: Measurement) -> _Row:
    row: _Row = {
        **_flat("testbed", measured.testbed),
        **_flat("subject", measured.subject),
        **_flat("workload", measured.workload),
        **_flat("model", measured.model),
        **_flat("tokens", measured.tokens),
        "repeats": measured.repeats,
        "integrity": "; ".join(measured.integrity) or None,
        "warnings": "; ".join(measured.warnings) or None,
    }
    for name, figure in measured.metrics.items():
        row[name] = figure.value
        if name not in METRICS or METRICS[name].uses_energy:
            row[f"{name}.uncertainty"] = figure.uncertainty
            row[f"{name}.systematic"] = figure.systematic
            row[f"{name}.quality"] = figure.quality
    return row


def _flat(name: str, value: Any) -> _Row:
    """Mappings as dotted names; lists as JSON."""
    if not isinstance(value, Mapping):
        return {name: value if isinstance(value, Cell) else json.dumps(value)}
    row: _Row = {}
    for key, item in value.items():
        row |= _flat(f"{name}.{key}", item)
    return row


def _one_kind(values: Sequence[Cell], *, floats: bool) -> Sequence[Cell]:
    """Values of one kind: numbers as floats where any is one, as texts where kinds are mixed."""
    kinds = {type(value) for value in values if value is not None}
    if floats or kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    if len(kinds) > 1 or str in kinds:
        return [None if value is None else _text(value) for value in values]
    return values


def _text(value: Cell) -> str:
    """A text that every file can hold: JSON may bring halves of characters."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(errors="backslashreplace").decode()
