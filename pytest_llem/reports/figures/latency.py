"""How latencies are spread: every request a tick, percentiles on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llem.reports.figures.canvas import (
    ACCENT,
    INK,
    MUTED,
    blank,
    rows,
    svg,
    themed,
    value_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MOST", "Spread", "draw"]

MOST = 24
_TICKS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Latencies of one experiment, in seconds.

    Attributes:
        percentiles: ``p50 p90 p95 p99 max`` to the median of the cycles.
        values: of single requests, in order; empty where they weren't kept.
    """

    key: str
    name: str
    percentiles: Mapping[str, float]
    values: Sequence[float] = ()


@themed
def draw(title: str, spreads: Sequence[Spread], *, width: int, salt: str) -> str:
    """The figure, a given number of pixels wide: a row for each experiment."""
    shown = spreads[:MOST]
    figure, axes = blank(width, 44 + 24 * len(shown))
    values = [v for s in shown for v in (*s.percentiles.values(), *s.values) if v > 0]
    log = value_axis(axes.xaxis, "s", values=values, width=width)
    rows(axes, [spread.name for spread in shown], width=width)
    if not log and values:
        axes.set_xlim(0, max(values) * 1.05)
    for row, spread in enumerate(shown):
        _requests(axes, row, spread)
    _percentiles(axes, shown)
    titles = {f"#{spread.key}": spread.name for spread in shown}
    return svg(figure, title, salt=f"{salt}{width}", titles=titles)


def _requests(axes: Axes, row: int, spread: Spread) -> None:
    """A tick for each request, or for as many as can be told apart; a line to the greatest."""
    found = spread.percentiles
    if found:
        axes.hlines(row, min(found.values()), max(found.values()), color=MUTED, linewidth=1.0)
    count = min(_TICKS, len(spread.values))
    step = len(spread.values) / max(1, count)
    ticks = [spread.values[int(i * step)] for i in range(count)]
    # One path with gaps: a path for each tick would be most of the page.
    xs = [x for tick in ticks for x in (tick, tick, float("nan"))]
    ys = [row - 0.28, row + 0.28, float("nan")] * len(ticks)
    axes.plot(xs, ys, color=ACCENT, linewidth=1.0, alpha=0.22)


def _percentiles(axes: Axes, spreads: Sequence[Spread]) -> None:
    marks: list[tuple[str, dict[str, Any]]] = [
        ("p50", {"marker": "o", "s": 34, "color": ACCENT}),
        ("p90", {"marker": "|", "s": 70, "color": INK, "linewidths": 1.4}),
        ("p95", {"marker": "|", "s": 70, "color": INK, "linewidths": 1.4}),
        ("p99", {"marker": "|", "s": 120, "color": INK, "linewidths": 1.8}),
    ]
    for name, style in marks:
        own = [(row, s) for row, s in enumerate(spreads) if name in s.percentiles]
        if own:
            drawn = axes.scatter(
                [spread.percentiles[name] for _, spread in own],
                [row for row, _ in own],
                zorder=3,
                **style,
            )
            if name == "p50":
                drawn.set_urls([f"#{spread.key}" for _, spread in own])
