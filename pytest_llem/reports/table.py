"""A study's table on the terminal: a row for each experiment, as wide as the terminal allows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pytest_llem.metrics import METRICS, show
from pytest_llem.records import Summary
from pytest_llem.reports.collected import ExperimentResult
from pytest_llem.reports.marks import MARKS
from pytest_llem.results.carbon import per_million_tokens

__all__ = ["Legend", "Line", "table"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line, and how it looks where there are colours: ``bold``, ``red``, ``yellow``, or plain."""

    text: str
    style: str = ""


_COLUMNS = {
    "tok/s": "output_tokens_per_s",
    "energy/token": "energy_per_output_token_j",
    "TTFT p50": "ttft_p50_s",
    "TPOT p50": "tpot_p50_s",
}
"""Heading to metric; each shows the median of the cycles."""

_SPREAD = ("tok/s", "energy/token")
"""Headings that have a column of their interval behind them."""

_LEFT_OUT = (
    *("TPOT p50", "TTFT p50", "± tok/s", "± energy/token", "cycles"),
    *("cost/Mtok", "CO2e/Mtok"),
)
"""What a narrow terminal goes without, the least missed first."""

_SHORTEST = 10
"""Characters that a name keeps at least."""

_TOKENS = "/Mtok = of the energy of a million output tokens, by carbon: of .lem-config.yaml"
_BEST = "* = best of its column, or not told apart from the best by its cycles"


@dataclass(slots=True)
class Legend:
    """What the tables' signs mean, each said once, below all of them.

    Attributes:
        lines: in the order in which they came up.
        confidences: number of cycles to the confidence of their interval.
        hidden: headings that some table had no room for.
    """

    lines: dict[str, None] = field(default_factory=dict)
    confidences: dict[int, float] = field(default_factory=dict)
    hidden: dict[str, None] = field(default_factory=dict)

    def texts(self, width: int | None) -> list[str]:
        """A line each."""
        found = list(self.lines)
        if self.confidences:
            by_count = sorted(self.confidences.items())
            said = " or ".join(f"{share:.0%} ({n} cycles)" for n, share in by_count)
            found.append(
                "± = half of the interval that holds the median with a confidence of "
                + said.replace("%", " %")
            )
        if self.hidden:
            found.append(f"not shown in {width} columns: {', '.join(self.hidden)}")
        return found


def table(
    results: Mapping[str, ExperimentResult], legend: Legend, width: int | None = None
) -> list[Line]:
    """Rows below a row of headings.

    Args:
        results: by the name of the experiment; one at least.
        legend: gets what the signs of this table mean.
        width: characters that a row may have; None for any.
    """
    columns = {"experiment": list(results)}
    columns["cycles"] = [f"{len(r.measurements)}/{len(r.outcomes)}" for r in results.values()]
    for heading, metric in _COLUMNS.items():
        summaries = [result.summary.get(metric) for result in results.values()]
        columns[heading] = _figures(metric, summaries, legend)
        if heading in _SPREAD and any(spreads := [_spread(each, legend) for each in summaries]):
            columns[f"± {heading}"] = spreads
    columns |= _of_tokens(results, legend)
    columns["gate"] = [r.gate.outcome if r.gate else "-" for r in results.values()]
    headings = {name: "±" if name.startswith("±") else name for name in columns}
    _fit(columns, headings, legend, width)
    rows = [
        [headings[name] for name in columns],
        *map(list, zip(*columns.values(), strict=True)),
    ]
    styles = ["bold", *("red" if outcome == "failed" else "" for outcome in columns["gate"])]
    return [Line(text, style) for text, style in zip(_aligned(rows), styles, strict=True)]


def _of_tokens(results: Mapping[str, ExperimentResult], legend: Legend) -> dict[str, list[str]]:
    """Carbon and cost of a million output tokens, where the user's settings tell them."""
    found = {}
    wanted: tuple[tuple[Literal["carbon_g", "cost"], str], ...]
    wanted = (("carbon_g", "CO2e/Mtok"), ("cost", "cost/Mtok"))
    for metric, heading in wanted:
        summaries = [per_million_tokens(metric, each.summary) for each in results.values()]
        if any(summaries):
            found[heading] = [_figure(metric, summary, legend) for summary in summaries]
            legend.lines[_TOKENS] = None
    return found


def _figures(metric: str, summaries: Sequence[Summary | None], legend: Legend) -> list[str]:
    best = _best(metric, summaries)
    if any(best):
        legend.lines[_BEST] = None
    cells = [_figure(metric, summary, legend) for summary in summaries]
    return [f"*{cell}" if star else cell for cell, star in zip(cells, best, strict=True)]


def _figure(metric: str, summary: Summary | None, legend: Legend) -> str:
    if summary is None:
        return "-"
    if summary.median is None:
        legend.lines[f"n/a: {metric}: {summary.reason}"] = None
        return "n/a"
    text = show(summary.median, METRICS[metric].unit)
    if METRICS[metric].unit == "1/s":
        text = text.removesuffix("/s")
    if summary.quality in MARKS:
        mark, meaning = MARKS[summary.quality]
        legend.lines[f"{mark} = {meaning}: {summary.reason}"] = None
        text += f" {mark}"
    return text


def _best(metric: str, summaries: Sequence[Summary | None]) -> list[bool]:
    """Which are best: those whose interval reaches that of the best median.

    None of them, should that be all, or should one have a single cycle and so no interval. What is
    estimated is never better than what was measured.
    """
    known = {i: s for i, s in enumerate(summaries) if s is not None and s.median is not None}
    rivals = {i: s for i, s in known.items() if s.quality != "estimated"} or known
    if len(rivals) < 2 or any(s.n < 2 for s in rivals.values()):
        return [False] * len(summaries)
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0

    def reach(summary: Summary) -> tuple[float, float]:
        """The worse and the better end of its interval, where more is better."""
        worse, better = sorted((sign * (summary.low or 0.0), sign * (summary.high or 0.0)))
        return worse, better

    leader = max(rivals.values(), key=lambda s: sign * (s.median or 0.0))
    best = {i for i, s in rivals.items() if reach(s)[1] >= reach(leader)[0]}
    return [i in best and len(best) < len(rivals) for i in range(len(summaries))]


def _spread(summary: Summary | None, legend: Legend) -> str:
    """Half the width of the median's interval, as a share of it.

    Not of an estimate, whose cycles agree with each other and say nothing of how true it is.
    """
    if summary is None or not summary.median or summary.n < 2:
        return ""
    if summary.quality == "estimated" or summary.low is None or summary.high is None:
        return ""
    legend.confidences[summary.n] = summary.confidence or 0.0
    share = abs((summary.high - summary.low) / 2 / summary.median) * 100
    return f"{share:.1f} %" if share < 9.95 else f"{share:.0f} %"


def _fit(
    columns: dict[str, list[str]], headings: Mapping[str, str], legend: Legend, width: int | None
) -> None:
    """Take away columns until the rest fits; then parts of names."""
    if width is None:
        return

    def excess() -> int:
        widest = (max(len(headings[name]), *map(len, cells)) for name, cells in columns.items())
        return sum(widest) + 2 * (len(columns) - 1) - width

    for name in _LEFT_OUT:
        if excess() > 0 and name in columns:
            del columns[name]
            legend.hidden[name] = None
    if (more := excess()) > 0:
        names = columns["experiment"]
        room = max(_SHORTEST, max(map(len, names)) - more)
        columns["experiment"] = _shortened(names, room)


def _shortened(names: Sequence[str], room: int) -> list[str]:
    """Names without what all of them begin with, and cut off where that isn't enough.

    So they differ in what stays, as experiments of a sweep differ in one place.
    """
    places = zip(*names, strict=False)
    same = itertools.takewhile(lambda characters: len(set(characters)) == 1, places)
    shared = len(list(same)) if len(names) > 1 else 0
    ends = [f"…{name[shared:]}" if shared > 1 else name for name in names]
    return [end if len(end) <= room else f"{end[: room - 1]}…" for end in ends]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their content; the first to the left, figures to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
