"""The session as one HTML page that holds all it shows: report -> text.

jinja2 escapes every value. What a browser may do with the page stands in its own head: no request
to anywhere, and no script but the page's own, by its digest.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from pytest_llem.metrics import METRICS, PERCENTILES, show
from pytest_llem.reports import columns, html_figures, methods, points
from pytest_llem.reports.document import Report
from pytest_llem.reports.marks import MARKS
from pytest_llem.reports.view import Row, View
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.raw import Series
from pytest_llem.wire import to_dict

__all__ = ["missing", "page", "wanted"]

_NEEDS = ("jinja2", "matplotlib")
"""Packages of the extra ``html``."""

_MOST_ROWS = 1_000
_MOST_PROBLEMS = 20
_MOST_COMPARISONS = 200
_SIGNS = {"passed": "✓", "failed": "✕", "nothing": "–"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tile:
    what: str
    cell: columns.Cell
    unit: str
    row: Row


def missing() -> str:
    """What an HTML report lacks here, and the command that mends it; empty where nothing is."""
    absent = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if not absent:
        return ""
    names = " and ".join(absent)
    return f'needs {names}; install what it needs with: pip install "pytest-llem[html]"'


def wanted(report: Report) -> dict[str, Outcome]:
    """Which measurements' raw series the page would show, by a key for :func:`page`."""
    view = View(report).first(_MOST_ROWS)
    return {row.key: outcome for row, outcome in html_figures.close_ups(view)}


def page(report: Report, series: Mapping[str, Series] | None = None) -> str:
    """The page.

    Args:
        report: of a session.
        series: raw series of what :func:`wanted` names; left out what isn't there.
    """
    # Late: a session without this report needs neither.
    import jinja2

    folder = resources.files("pytest_llem.reports") / "html"
    style, script, template = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html")
    )
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_printable
    )
    environment.filters.update(
        words=_words,
        figures=_figures,
        confidence=_confidence,
        missing=_missing,
        energies=_energies,
        moment=_moment,
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string(template).render(
        **_context(View(report), series or {}),
        style=style,
        script=script,
        script_hash=f"sha256-{digest}",
    )


def _context(whole: View, series: Mapping[str, Series]) -> dict[str, Any]:
    """All that the template asks for."""
    view = whole.first(_MOST_ROWS)
    report, overall, comparisons = view.report, whole.overall(), view.comparisons()
    shown = columns.columns(view)
    studies = dict.fromkeys(row.report.study for row in view.rows)
    used = {s.quality for row in view.rows for s in row.report.statistics.values()}
    return {
        "report": report,
        "environment": {"pytest_llem": "", **report.environment},
        "overall": overall,
        "sign": _SIGNS[overall.outcome],
        "studies": ", ".join(studies) or "no study",
        "several": len(studies) > 1,
        "finished": _moment(max((o.finished for o in report.measurements), default="")),
        "hardware": methods.hardware(view),
        "tiles": list(_tiles(view, shown)),
        "problems": view.problems(),
        "most_problems": _MOST_PROBLEMS,
        "charts": html_figures.charts(view),
        "rows": view.rows,
        "left_out": len(whole.rows) - len(view.rows),
        "states": list(dict.fromkeys(row.state for row in view.rows)),
        "series": list(dict.fromkeys(row.backend for row in view.rows)),
        "columns": shown,
        "marks": [(mark, meaning) for quality, (mark, meaning) in MARKS.items() if quality in used],
        "formulas": columns.formulas(view),
        "powers": html_figures.powers(view, series),
        "latencies": html_figures.latencies(view, series),
        "power_caption": _power_caption(view, series),
        "latency_caption": _latency_caption(view, series),
        "comparisons": comparisons,
        "most_comparisons": _MOST_COMPARISONS,
        "changes": html_figures.differences(comparisons),
        "notes": view.notes(),
        "readings": methods.readings(view),
        "facts": methods.facts(view),
        "notices": report.notices,
        "skipped": list(points.left_out([to_dict(point) for point in report.skipped_points])),
    }


_SUFFIXES = ("mean", *PERCENTILES, "max")
_BEST = {
    "energy/token": ("Least energy per output token", 1),
    "tok/s": ("Most output tokens per second", -1),
    "TTFT p50": ("Shortest time to first token", 1),
    "CO₂e/Mtok": ("Least CO₂e per million tokens", 1),
    "cost/Mtok": ("Lowest cost per million tokens", 1),
}


def _tiles(view: View, shown: Sequence[columns.Column]) -> Iterator[_Tile]:
    """The best of the session, each with the experiment that it is of."""
    for column in shown:
        if column.title not in _BEST:
            continue
        what, sign = _BEST[column.title]
        values = {key: cell for key, cell in column.cells.items() if cell.value is not None}
        # An estimate is never the best of those that were measured.
        guessed = {MARKS["estimated"][0], MARKS["shared"][0]}
        measured = [key for key, cell in values.items() if cell.mark not in guessed]
        if keys := measured or list(values):
            best = min(keys, key=lambda key: sign * (values[key].value or 0.0))
            row = next(row for row in view.rows if row.key == best)
            yield _Tile(what=what, cell=values[best], unit=column.unit or "per s", row=row)


def _moment(finished: str) -> str:
    """``2026-01-02 03:04 UTC``."""
    return f"{finished[:10]} {finished[11:16]} UTC" if finished else "nothing measured"


def _power_caption(view: View, series: Mapping[str, Series]) -> str:
    text = (
        "One cycle of each, the one whose energy is the middle one. Thick: mean power of a phase,"
        " by the energy that was read; dashed: estimated; dotted: idle power."
    )
    if any(one.trace for one in series.values()):
        text += " Thin: the power trace of all GPUs together."
    else:
        text += " No power trace: it is taken of GPUs only, and kept in the session's folder."
    return text + _left_out(view)


def _latency_caption(view: View, series: Mapping[str, Series]) -> str:
    text = "Dot: median; bars: 90th, 95th and 99th percentile; the line ends at the greatest."
    if any(one.ttft_s for one in series.values()):
        text += " Behind them a tick for each request of one cycle."
    else:
        text += " Times of single requests were not found."
    return text + _left_out(view)


def _left_out(view: View) -> str:
    measured = sum(bool(row.measurements) for row in view.rows)
    shown = html_figures.MOST_CLOSE
    if measured <= shown:
        return ""
    return (
        f" Shown are {shown} of {measured} experiments: those that failed, then those that no other"
        " beats, then the first ones."
    )


# --- filters of the template ---------------------------------------------------------------


def _printable(value: Any) -> Any:
    """A text without control characters; what is none, and markup, as it is."""
    if type(value) is not str:
        return value
    return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in value)


def _words(row: Row) -> str:
    """What the filter looks in, in small letters."""
    config = row.report.config or {}
    said = [row.name, row.report.study, row.state, str(config.get("model")), row.backend]
    said += [f"{name}={value}" for name, value in row.differs.items()]
    said += ["estimated"] if row.estimated else []
    return " ".join(said).lower()


def _figures(row: Row) -> Iterator[tuple[str, str]]:
    """Metrics that have a value, with unit and interval; the latencies of a family together."""
    families: dict[str, list[str]] = {}
    for name, summary in row.report.statistics.items():
        if summary.median is None or name not in METRICS:
            continue
        unit = METRICS[name].unit
        text = show(summary.median, unit)
        family, _, suffix = name.removesuffix("_s").rpartition("_")
        if suffix in _SUFFIXES:
            families.setdefault(f"{family}_…_s", []).append(f"{suffix} {text}")
            continue
        if summary.n > 1 and summary.low is not None and summary.high is not None:
            text += f" ({show(summary.low, unit)} to {show(summary.high, unit)})"
        yield name, f"{text} {MARKS.get(summary.quality, ('', ''))[0]}".strip()
    yield from ((family, " · ".join(texts)) for family, texts in families.items())


def _confidence(row: Row) -> str:
    found = {s.confidence for s in row.report.statistics.values() if s.confidence is not None}
    return f"{min(found) * 100:.0f} %" if found and min(found) > 0 else ""


def _missing(row: Row) -> list[tuple[str, list[str]]]:
    """Reasons, each with the metrics that are null for it."""
    found: dict[str, list[str]] = {}
    for name, summary in row.report.statistics.items():
        if summary.median is None:
            found.setdefault(summary.reason or "no reason is known", []).append(name)
    return list(found.items())


def _energies(outcome: Outcome) -> str:
    """What was read over the measured window, or what became of it instead."""
    if outcome.measurement is None:
        failure = outcome.failure.message if outcome.failure else ""
        return f"failed: {failure}" if outcome.failure else f"skipped: {outcome.skipped}"
    said = []
    for window in outcome.measurement.windows:
        for reading in window.readings if window.phase == "measure" else ():
            text = "n/a" if reading.energy_j is None else show(reading.energy_j, "J")
            if reading.energy_j is not None and reading.uncertainty_j is not None:
                text += f" ± {show(reading.uncertainty_j, 'J')}"
            how = f"{reading.meter}, {reading.method}, {reading.quality}"
            said.append(f"{reading.domain}: {text} ({how})")
    return "; ".join(said) or "nothing was read"
