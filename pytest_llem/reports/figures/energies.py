"""Energy per token of each experiment, the least first, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_llem.metrics import show
from pytest_llem.reports.figures.canvas import (
    INK,
    MARKERS,
    MUTED,
    NARROW,
    PANEL,
    SERIES,
    blank,
    rows,
    svg,
    themed,
    value_axis,
)
from pytest_llem.reports.figures.front import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MOST", "draw"]

MOST = 30
"""Rows that the figure has at most."""


@themed
def draw(points: Sequence[Point], *, width: int) -> str:
    """The figure, a given number of pixels wide, of the points in their order."""
    shown = points[:MOST]
    figure, axes = blank(width, 52 + 24 * len(shown))
    ends = [end for p in shown for end in (p.energy_j, p.low_j, p.high_j) if end is not None]
    log = value_axis(axes.xaxis, "J", values=ends, width=width)
    rows(axes, [point.name for point in shown], width=width)
    if not log:
        _limits(axes, min(ends), max(ends), room=0.2 if width > NARROW else 0.45)
    for row, point in enumerate(shown):
        color = SERIES[point.number % len(SERIES)]
        if point.low_j is not None and point.high_j is not None:
            axes.hlines(row, point.low_j, point.high_j, color=color, linewidth=5, alpha=0.28)
        mark = axes.scatter(
            [point.energy_j],
            [row],
            s=38,
            marker=MARKERS[point.number % len(MARKERS)],
            facecolors=PANEL if point.estimated else color,
            edgecolors=color if point.estimated else PANEL,
            linewidths=1.6 if point.estimated else 0.8,
            zorder=3,
        )
        mark.set_urls([f"#{point.key}"])
        text = show(point.energy_j, "J") + (" est." if point.estimated else "")
        axes.annotate(
            text,
            (max(point.energy_j, point.high_j or point.energy_j), row),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=11,
            color=MUTED if point.estimated else INK,
        )
    titles = {f"#{point.key}": point.name for point in shown}
    return svg(figure, "Energy per output token", salt=f"energies{width}", titles=titles)


def _limits(axes: Axes, least: float, greatest: float, *, room: float) -> None:
    """From 0 where that leaves the points apart; else from below the least, which are positions.

    ``room`` is for the figure's number, to the right of the greatest.
    """
    start = (
        0.0 if 0 <= least < 0.4 * greatest else min(least, greatest) - 0.15 * abs(greatest - least)
    )
    span = (greatest - start) or abs(greatest) or 1.0
    axes.set_xlim(start - 0.03 * span, greatest + room * span)
