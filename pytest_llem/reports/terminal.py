"""What a person reads after the run: tables, then what needs saying below them."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from pytest_llem.reports.collected import Collected, ExperimentResult
from pytest_llem.reports.table import Legend, Line, table

__all__ = ["Line", "lines", "wrapped"]

_TOLD = ("within noise", "cycles measured")
"""Words of a verdict that passed which make it worth a line."""

_MANY = 3
"""Rows without a figure that a line stands for."""


def lines(collected: Collected, width: int | None = None, *, brief: bool = False) -> Iterator[Line]:
    """A table for each study, then what needs saying below it.

    Args:
        collected: of a session.
        width: of the terminal, which tables keep to; None for any.
        brief: count what is to be said of single experiments, and leave it out; not of gates.
    """
    legend = Legend()
    skipped: list[str] = []
    experiments = collected.experiments
    for study, file in dict.fromkeys(key[:2] for key in experiments):
        own = {key[2]: result for key, result in experiments.items() if key[:2] == (study, file)}
        if reason := _skipped(list(own.values())):
            skipped.append(f"{file}: all {len(own)} experiments skipped: {reason}")
            continue
        yield Line(f"{study} ({file}){_workers(own.values())}", "bold")
        yield from table(own, legend, width)
        yield Line("")
    yield from map(Line, skipped)
    yield from map(Line, _resumed(list(experiments.values())))
    yield from _judged(collected)
    yield from map(Line, legend.texts(width))
    doubtful = list(dict.fromkeys(_doubtful(collected)))
    if brief and doubtful:
        yield Line(f"{len(doubtful)} warnings: run without -q to read them", "yellow")
    else:
        yield from (Line(text, "yellow") for text in _remedies_once(doubtful))


def wrapped(found: Line, width: int | None) -> list[Line]:
    """A line in as many as it takes, those after the first set in; for a terminal that wide."""
    if width is None or len(found.text) <= width:
        return [found]
    parts = textwrap.wrap(
        found.text,
        width,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [Line(part, found.style) for part in parts]


def _judged(collected: Collected) -> Iterator[Line]:
    """What was compared, and what gates have to say beyond that all is well."""
    for (_, _, name), result in collected.experiments.items():
        for metric, found in result.comparisons.items():
            yield Line(f"{name}: {metric}: {found if isinstance(found, str) else found.text}")
    for gate in collected.gates:
        for verdict in gate.verdicts:
            doubtful = any(words in verdict.reason for words in _TOLD) or verdict.quality != "ok"
            if verdict.outcome != "passed" or doubtful or verdict.comparison:
                style = "red" if verdict.outcome == "failed" else ""
                yield Line(f"{gate.experiment}: gate {verdict.outcome}: {verdict.text}", style)


def _doubtful(collected: Collected) -> Iterator[str]:
    """What speaks against figures, each with what to do about it."""
    for (_, _, name), result in collected.experiments.items():
        for measurement in result.measurements:
            yield from (f"{name}: integrity: {problem}" for problem in measurement.integrity)
            yield from (f"{name}: warning: {text}" for text in measurement.warnings)
        yield from (f"{name}: {text}" for text in result.doubts)
        for earlier in result.replaced:
            cause = earlier.failure.message if earlier.failure else earlier.skipped or "measured"
            yield f"{name}: c{earlier.cycle}: the last try counts; one before: {cause}"


def _remedies_once(texts: Sequence[str]) -> Iterator[str]:
    """Of lines in a row that end in the same advice, only the last gives it."""
    for text, following in itertools.zip_longest(texts, texts[1:]):
        what, _, advice = text.partition("; ")
        same = following is not None and advice and following.partition("; ")[2] == advice
        yield what if same else text


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


def _workers(results: Iterable[ExperimentResult]) -> str:
    """How a study's workers came to be, where they weren't all new processes."""
    found = [m.testbed.get("worker", "fresh") for each in results for m in each.measurements]
    modes = dict.fromkeys(map(str, found))
    return "" if modes.keys() <= {"fresh"} else f", worker: {', '.join(modes)}"
