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
    room,
    rows,
    shortened,
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
    names = shortened([point.name for point in shown], width)
    figure, axes = blank(width, 40 + 24 * len(shown), left=room(names))
    ends = [end for p in shown for end in (p.energy_j, p.low_j, p.high_j) if end is not None]
    log = value_axis(axes.xaxis, "J", values=ends, width=width)
    rows(axes, names)
    if log:
        axes.set_xlim(min(ends) * 0.8, max(ends) * (2 if width > NARROW else 4))
    else:
        _limits(axes, min(ends), max(ends), more=0.2 if width > NARROW else 0.45)
    for kind in dict.fromkeys((point.number, point.estimated) for point in shown):
        own = [(row, p) for row, p in enumerate(shown) if (p.number, p.estimated) == kind]
        _marks(axes, own, *kind)
    for row, point in enumerate(shown):
        axes.annotate(
            show(point.energy_j, "J") + (" est." if point.estimated else ""),
            (max(point.energy_j, point.high_j or point.energy_j), row),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=11,
            color=MUTED if point.estimated else INK,
        )
    titles = {f"#{point.key}": point.name for point in shown}
    return svg(figure, "Energy per output token", salt=f"energies{width}", titles=titles)


def _marks(axes: Axes, own: Sequence[tuple[int, Point]], number: int, estimated: bool) -> None:
    """Points of one series, each in its row: full where measured, hollow where estimated."""
    color = SERIES[number % len(SERIES)]
    spans = [(r, p.low_j, p.high_j) for r, p in own if p.low_j is not None and p.high_j is not None]
    if spans:
        axes.hlines(*zip(*spans, strict=True), color=color, linewidth=5, alpha=0.28)
    marks = axes.scatter(
        [point.energy_j for _, point in own],
        [row for row, _ in own],
        s=38,
        marker=MARKERS[number % len(MARKERS)],
        facecolors=PANEL if estimated else color,
        edgecolors=color if estimated else PANEL,
        linewidths=1.6 if estimated else 0.8,
        zorder=3,
    )
    marks.set_urls([f"#{point.key}" for _, point in own])


def _limits(axes: Axes, least: float, greatest: float, *, more: float) -> None:
    """From 0 where that leaves the points apart; else from below the least, which are positions.

    ``more`` is for the figure's number, to the right of the greatest.
    """
    start = (
        0.0 if 0 <= least < 0.4 * greatest else min(least, greatest) - 0.15 * abs(greatest - least)
    )
    span = (greatest - start) or abs(greatest) or 1.0
    axes.set_xlim(start - 0.03 * span, greatest + more * span)
