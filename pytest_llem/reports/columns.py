"""The columns of the table of experiments, for every report that has one. Pure.

Figures of a column share a unit, so that the longer number is the greater one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llem.metrics import METRICS, digits, scale
from pytest_llem.records import Summary
from pytest_llem.reports.marks import MARKS
from pytest_llem.reports.view import Row, View
from pytest_llem.results.carbon import per_million_tokens

__all__ = ["Cell", "Column", "columns", "formulas"]

_ALWAYS = {
    "energy_per_output_token_j": "energy/token",
    "output_tokens_per_s": "tok/s",
    "ttft_p50_s": "TTFT p50",
    "tpot_p50_s": "TPOT p50",
}
_IF_ANY = {"power_mean_w": "power"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A figure for reading, without its unit.

    Attributes:
        text: ``n/a`` where it is missing, ``-`` where nothing was measured.
        value: to sort by; None where there is none.
        interval: from where to where; empty of a single cycle.
        mark: word for a quality that isn't ``ok``.
        reason: for the mark, or for what is missing.
    """

    text: str
    value: float | None = None
    interval: str = ""
    mark: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column.

    Attributes:
        title: of the heading, without the unit.
        unit: that all its figures have; empty where the title tells it.
        about: what it is, in a sentence.
        cells: key of a row to its cell.
    """

    title: str
    unit: str
    about: str
    cells: Mapping[str, Cell]

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


def columns(view: View) -> list[Column]:
    """What the table shows of each experiment; power, carbon and cost only where there are any."""
    known = set(view.metrics)
    found = [
        _column(view.rows, metric, title)
        for metric, title in (_ALWAYS | _IF_ANY).items()
        if metric in _ALWAYS or metric in known
    ]
    currency = str(_given(view).get("currency") or "")
    carbon = {row.key: per_million_tokens("carbon_g", row.report.statistics) for row in view.rows}
    cost = {row.key: per_million_tokens("cost", row.report.statistics) for row in view.rows}
    if any(carbon.values()):
        about = "CO₂ equivalent of the energy of a million output tokens"
        found.append(_made(carbon, "CO₂e/Mtok", "g", about))
    if any(cost.values()):
        found.append(
            _made(cost, "cost/Mtok", currency, "price of the energy of a million output tokens")
        )
    return found


def _given(view: View) -> Mapping[str, Any]:
    return view.report.environment.get("carbon") or {}


def _column(rows: Sequence[Row], metric: str, title: str) -> Column:
    summaries = {row.key: row.report.statistics.get(metric) for row in rows}
    about = METRICS[metric].title
    return _made(summaries, title, METRICS[metric].unit, about)


def _made(summaries: Mapping[str, Summary | None], title: str, unit: str, about: str) -> Column:
    sizes = [abs(s.median) for s in summaries.values() if s and s.median]
    factor, scaled = scale(min(sizes, default=0.0), unit)
    return Column(
        title=title,
        unit="" if unit == "1/s" else scaled,
        about=about,
        cells={key: _cell(summary, factor) for key, summary in summaries.items()},
    )


def _cell(summary: Summary | None, factor: float) -> Cell:
    if summary is None:
        return Cell(text="-")
    if summary.median is None:
        return Cell(text="n/a", reason=summary.reason or "")
    interval = ""
    if summary.n > 1 and summary.low is not None and summary.high is not None:
        interval = f"{_number(summary.low / factor)}–{_number(summary.high / factor)}"
    mark = MARKS.get(summary.quality, ("", ""))[0]
    return Cell(
        text=_number(summary.median / factor),
        value=summary.median,
        interval=interval,
        mark=mark,
        reason=summary.reason or "" if mark else "",
    )


def _number(value: float) -> str:
    """Three digits, also of what has no prefix: 0.000430."""
    return digits(value) if abs(value) >= 0.995 or value == 0 else f"{value:#.3g}"


def formulas(view: View) -> list[str]:
    """How carbon and cost were made, where they were: formula, numbers and source."""
    given, known = _given(view), set(view.metrics)
    pue = given.get("pue")
    times = f" × PUE {pue:g}" if pue else ""
    found = []
    if "carbon_g" in known and given.get("intensity_g_per_kwh") is not None:
        found.append(
            f"CO₂e = energy / 3.6e6 J/kWh × {given['intensity_g_per_kwh']:g} g/kWh{times}: the"
            " operational part of the Software Carbon Intensity (ISO/IEC 21031:2024)."
        )
    if "cost" in known and given.get("price_per_kwh") is not None:
        currency = f" {given['currency']}" if given.get("currency") else ""
        found.append(
            f"Cost = energy / 3.6e6 J/kWh × {given['price_per_kwh']:g}{currency}/kWh{times}."
        )
    if found:
        source = f": {given['source']}" if given.get("source") else ""
        found.append(f"Mtok is a million output tokens. The factors: the user's settings{source}.")
    return found
