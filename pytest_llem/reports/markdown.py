"""The session as Markdown for a CI job's summary: report -> text.

GitHub shows a MiB of it at most; what doesn't fit is left out from the end, and said. Every text
that comes from elsewhere is escaped, as names and error messages hold whatever they like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pytest_llem.reports import columns, methods
from pytest_llem.reports.document import Report
from pytest_llem.reports.marks import MARKS
from pytest_llem.reports.view import Row, View

__all__ = ["MOST_BYTES", "code", "escaped", "page"]

MOST_BYTES = 1_000_000
"""Of a job summary that GitHub shows; it takes 1 MiB of each step."""

_MOST_NODES = 50
_MOST_NOTES = 20
_SIGNS = {"passed": "✅", "failed": "❌", "nothing": "⚪"}
_STATES = {"failed": "❌ failed", "passed": "✅ passed", "not judged": "⚠️ not judged"}

_SPECIAL = re.compile(r"([\\`*\[\]|<>~&$@#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
"""What means something within a line, to CommonMark or GitHub: a mention, an issue, a formula."""


def escaped(text: str) -> str:
    """A text that shows as it is, on one line, wherever it stands."""
    line = " ".join(_printable(text).split())
    return _SPECIAL.sub(r"\\\1", line)


def code(text: str) -> str:
    """A text in a code span, on one line; not for tables, where a bar would end the cell."""
    line = " ".join(_printable(text).split())
    runs = [len(run) for run in re.findall("`+", line)]
    fence = "`" * (max(runs, default=0) + 1)
    room = " " if runs else ""
    return f"{fence}{room}{line}{room}{fence}"


def _printable(text: str) -> str:
    """Without what no text should hold, and without what turns its direction around."""
    return "".join(char if char.isprintable() or char.isspace() else "\ufffd" for char in text)


def page(report: Report, *, most_bytes: int = MOST_BYTES) -> str:
    """The page.

    Args:
        report: of a session.
        most_bytes: how large it may be.
    """
    view = View(report)
    parts = [*_head(view), *_failed(view), *_again(view)]
    tail = [*_notes(view), *_end(view)]
    left = most_bytes - _size([*parts, *tail]) - 500
    parts += _table(view, left)
    text = "\n".join([*parts, *tail]) + "\n"
    # Only errors as long as a book come this far.
    data = text.encode()
    if len(data) <= most_bytes:
        return text
    return (
        data[: max(0, most_bytes - 100)].decode(errors="ignore") + "\n\n*The rest is left out.*\n"
    )


def _size(lines: Sequence[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)


def _head(view: View) -> Iterator[str]:
    overall = view.overall()
    yield f"## {_SIGNS[overall.outcome]} pytest-llem: {escaped(overall.headline)}"
    yield ""
    said = [*overall.counts, methods.hardware(view)]
    yield escaped(" · ".join(filter(None, said)))
    yield ""


def _failed(view: View) -> Iterator[str]:
    """What failed, a line each: regressions first."""
    for problem in view.problems():
        where = f" ({code(problem.where)})" if problem.where else ""
        fix = f"  \n  fix: {escaped(problem.fix)}" if problem.fix else ""
        yield f"- **{escaped(problem.row.name)}**: {escaped(problem.text)}{where}{fix}"
    if view.problems():
        yield ""


def _again(view: View) -> Iterator[str]:
    nodes = view.again()
    if not nodes:
        return
    yield "<details><summary>Run again what failed</summary>"
    yield ""
    yield "```sh"
    yield " ".join(["pytest", *(_quoted(node) for node in nodes[:_MOST_NODES])])
    yield "```"
    if len(nodes) > _MOST_NODES:
        yield ""
        yield f"{len(nodes) - _MOST_NODES} more are left out; `pytest --lf` runs them all."
    yield ""
    yield "</details>"
    yield ""


def _quoted(node: str) -> str:
    """A word for the shell; on one line, and never the end of a code block."""
    line = " ".join(_printable(node).split())
    quoted = line.replace("'", "'\\''")
    return f"'{quoted}'"


def _table(view: View, most_bytes: int) -> Iterator[str]:
    """A row for each experiment, those that failed first, as many as fit."""
    if not view.rows:
        return
    shown = columns.columns(view)
    yield f"| experiment | outcome | {' | '.join(escaped(c.heading) for c in shown)} | cycles |"
    yield f"| --- | --- |{' ---: |' * (len(shown) + 1)}"
    order = ("failed", "not judged")
    rows = sorted(view.rows, key=lambda row: order.index(row.state) if row.state in order else 2)
    size = 0
    for number, row in enumerate(rows):
        line = _row(row, shown)
        size += len(line.encode()) + 1
        if size > most_bytes:
            yield ""
            yield f"*{len(rows) - number} of {len(rows)} experiments are left out; the reports of"
            yield "`--llem-html` and `--llem-json` have all.*"
            break
        yield line
    yield ""
    used = {s.quality for row in view.rows for s in row.report.statistics.values()}
    for quality, (mark, meaning) in MARKS.items():
        if quality in used:
            yield f"*{mark}* = {meaning}"
            yield ""


def _row(row: Row, shown: Sequence[columns.Column]) -> str:
    cells = []
    for column in shown:
        cell = column.cells[row.key]
        text = f"{cell.text} *{cell.mark}*" if cell.mark else cell.text
        energy = column.title == "energy/token" and cell.interval
        cells.append(f"{text}<br><sub>{cell.interval}</sub>" if energy else text)
    state = _STATES.get(row.state, row.state)
    made = f"{row.report.measured}/{row.report.cycles}"
    return f"| {escaped(row.name)} | {state} | {' | '.join(cells)} | {made} |"


def _notes(view: View) -> Iterator[str]:
    notes = view.notes()
    if not notes:
        return
    yield "<details><summary>What to know beside the figures</summary>"
    yield ""
    for note in notes[:_MOST_NOTES]:
        yield f"- {note.kind}: {escaped(note.text)} ({escaped(note.names())})"
    if len(notes) > _MOST_NOTES:
        yield f"- and {len(notes) - _MOST_NOTES} more"
    yield ""
    yield "</details>"
    yield ""


def _end(view: View) -> Iterator[str]:
    for line in columns.formulas(view):
        yield escaped(line)
        yield ""
    for one in methods.readings(view):
        text = f"{one.domain} by {one.meter} ({one.method}), {one.windows} windows: {one.quality}"
        text += f", uncertainty {one.uncertainty}, systematic {one.systematic}"
        yield f"- {escaped(text + (f'; {one.reason}' if one.reason else ''))}"
    yield ""
    if view.report.redacted:
        yield "Names of hosts and users, and paths, were left out (`--llem-redact`)."
        yield ""
    version = view.report.environment.get("pytest_llem", "")
    yield f"<sub>pytest-llem {escaped(str(version))}, session {escaped(view.report.session)}</sub>"
