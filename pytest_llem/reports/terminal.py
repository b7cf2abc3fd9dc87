"""The table that a person reads after the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_llem.metrics import METRICS, show
from pytest_llem.records import Summary
from pytest_llem.reports.collected import Collected, ExperimentResult

__all__ = ["lines"]

_COLUMNS = {
    "tok/s": "output_tokens_per_s",
    "energy/token": "energy_per_output_token_j",
    "TTFT p50": "ttft_p50_s",
    "TPOT p50": "tpot_p50_s",
}
"""Heading to metric; each shows the median of the cycles."""


_MARKS = {
    "estimated": ("est.", "estimated, not measured"),
    "short": ("short", "the measured window is short for the meter"),
    "degraded": ("degr.", "a degraded reading"),
}
"""Quality to the word that stands behind a figure of that quality, and what it means."""


_TOLD = ("within noise", "cycles measured")
"""Words of a verdict that passed which make it worth a line."""

_MANY = 3
"""Rows without a figure that a line stands for."""


def lines(collected: Collected) -> Iterator[str]:
    """A table for each study, then what needs saying below it."""
    notes: dict[str, None] = {}
    skipped: list[str] = []
    experiments = collected.experiments()
    for study, file in dict.fromkeys(key[:2] for key in experiments):
        own = [result for key, result in experiments.items() if key[:2] == (study, file)]
        if reason := _skipped(own):
            skipped.append(f"{file}: all {len(own)} experiments skipped: {reason}")
            continue
        rows = [["experiment", "cycles", *_COLUMNS, "gate"]]
        for (s, f, name), result in experiments.items():
            if (s, f) == (study, file):
                rows.append(_row(name, result, notes))
        yield f"{study} ({file}){_workers(own)}"
        yield from _table(rows)
        yield ""
    yield from skipped
    yield from _resumed(list(experiments.values()))
    for (_, _, name), result in experiments.items():
        for metric, found in result.comparisons.items():
            yield f"{name}: {metric}: {found if isinstance(found, str) else found.text}"
    for gate in collected.gates:
        for verdict in gate.verdicts:
            doubtful = any(words in verdict.reason for words in _TOLD) or verdict.quality != "ok"
            if verdict.outcome != "passed" or doubtful or verdict.comparison:
                yield f"{gate.experiment}: gate {verdict.outcome}: {verdict.text}"
    yield from notes


def _skipped(results: Sequence[ExperimentResult]) -> str:
    """Why nothing of a study was measured, in short, should all of it have been skipped.

    Not of a few experiments: their table is as short. All reasons are shown by pytest's ``-rs``.
    """
    outcomes = [outcome for result in results for outcome in result.outcomes]
    reasons = [outcome.skipped for outcome in outcomes if outcome.skipped]
    if len(results) < _MANY or len(reasons) < len(outcomes):
        return ""
    first = reasons[0].partition(" (")[0].partition(";")[0]
    return first if len(set(reasons)) == 1 else f"{first}, and other reasons (-rs)"


def _resumed(results: Sequence[ExperimentResult]) -> Iterator[str]:
    """How many of the measurements are those of earlier sessions."""
    outcomes = [outcome for result in results for outcome in result.outcomes if outcome.measurement]
    taken = [outcome.resumed for outcome in outcomes if outcome.resumed]
    for session in dict.fromkeys(taken):
        yield f"resumed: {taken.count(session)} of {len(outcomes)} measurements made by {session}"


def _workers(results: Sequence[ExperimentResult]) -> str:
    """How a study's workers came to be, where they weren't all new processes."""
    found = [m.testbed.get("worker", "fresh") for each in results for m in each.measurements]
    modes = dict.fromkeys(map(str, found))
    return "" if modes.keys() <= {"fresh"} else f", worker: {', '.join(modes)}"


def _row(name: str, result: ExperimentResult, notes: dict[str, None]) -> list[str]:
    summary = result.summary
    cells = [_cell(metric, summary.get(metric), notes) for metric in _COLUMNS.values()]
    for measurement in result.measurements:
        for problem in measurement.integrity:
            notes[f"{name}: integrity: {problem}"] = None
        notes.update({f"{name}: warning: {text}": None for text in measurement.warnings})
    notes.update({f"{name}: {text}": None for text in result.doubts})
    for earlier in result.replaced:
        cause = earlier.failure.message if earlier.failure else earlier.skipped or "measured"
        notes[f"{name}: c{earlier.cycle}: the last try counts; one before: {cause}"] = None
    gate = result.gate.outcome if result.gate else "-"
    return [name, f"{len(result.measurements)}/{len(result.outcomes)}", *cells, gate]


def _cell(metric: str, summary: Summary | None, notes: dict[str, None]) -> str:
    if summary is None:
        return "-"
    if summary.median is None:
        notes[f"n/a: {metric}: {summary.reason}"] = None
        return "n/a"
    text = show(summary.median, METRICS[metric].unit)
    if METRICS[metric].unit == "1/s":
        text = text.removesuffix("/s")
    if summary.quality in _MARKS:
        mark, meaning = _MARKS[summary.quality]
        notes[f"{mark} = {meaning}: {summary.reason}"] = None
        text += f" {mark}"
    return text


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as their content; the first to the left, figures to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join(cells).rstrip()
