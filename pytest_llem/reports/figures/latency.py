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
    room,
    rows,
    shortened,
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
    names = shortened([spread.name for spread in shown], width)
    figure, axes = blank(width, 40 + 24 * len(shown), left=room(names))
    values = [v for s in shown for v in (*s.percentiles.values(), *s.values) if v > 0]
    log = value_axis(axes.xaxis, "s", values=values, width=width)
    rows(axes, names)
    if not log and values:
        axes.set_xlim(0, max(values) * 1.05)
    _requests(axes, shown)
    _percentiles(axes, shown)
    titles = {f"#{spread.key}": spread.name for spread in shown}
    return svg(figure, title, salt=f"{salt}{width}", titles=titles)


def _requests(axes: Axes, spreads: Sequence[Spread]) -> None:
    """A tick for each request, or for as many as can be told apart; a line to the greatest."""
    xs: list[float] = []
    ys: list[float] = []
    for row, spread in enumerate(spreads):
        count = min(_TICKS, len(spread.values))
        for i in range(count):
            value = spread.values[i * len(spread.values) // count]
            xs += (value, value, float("nan"))
            ys += (row - 0.28, row + 0.28, float("nan"))
    # One path with gaps: a path for each tick would be most of the page.
    axes.plot(xs, ys, color=ACCENT, linewidth=1.0, alpha=0.22)
    found = [(row, s.percentiles.values()) for row, s in enumerate(spreads) if s.percentiles]
    ends = [(row, min(values), max(values)) for row, values in found]
    if ends:
        axes.hlines(*zip(*ends, strict=True), color=MUTED, linewidth=1.0)


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
