"""Energy per token against throughput, with those that no other beats in both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llem.metrics import show
from pytest_llem.reports.figures.canvas import (
    ACCENT,
    INK,
    MARKERS,
    MUTED,
    NARROW,
    PANEL,
    SERIES,
    blank,
    short,
    svg,
    themed,
    value_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Point", "draw", "pareto"]

_WITH_INTERVALS = 60
"""More points than that, and their intervals are a thicket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """An experiment.

    Attributes:
        key: of its row in the page.
        series: what it is coloured by: its backend.
        number: of that among all of the page, from 0: its colour and form.
        rate: output tokens a second.
        energy_j: per output token.
        low_j: of the interval of that, as ``high_j``; None for a single cycle.
    """

    key: str
    name: str
    series: str
    number: int
    rate: float
    energy_j: float
    low_j: float | None = None
    high_j: float | None = None
    estimated: bool = False


def pareto(points: Sequence[Point]) -> list[Point]:
    """Points that no other beats in rate or energy without being worse in the other.

    By rate. What is estimated is compared with estimates only, and the other way round: of points
    of both kinds there is no common front, and this is that of the measured ones.
    """
    measured = [point for point in points if not point.estimated] or points
    front: list[Point] = []
    for point in sorted(measured, key=lambda p: (-p.rate, p.energy_j)):
        if not front or point.energy_j < front[-1].energy_j:
            front.append(point)
    return front[::-1]


@themed
def draw(points: Sequence[Point], *, width: int) -> str:
    """The figure, a given number of pixels wide; a legend tells the series where there are some."""
    legend = len(dict.fromkeys((p.series, p.estimated) for p in points)) > 1
    height = 400 if width > NARROW else 330
    figure, axes = blank(width, height, left=72, top=32 if legend else 8, bottom=46)
    front = pareto(points)
    value_axis(axes.xaxis, "1/s", values=[point.rate for point in points], width=width)
    value_axis(axes.yaxis, "J", values=[point.energy_j for point in points])
    axes.set_xlabel("output tokens per second →")
    axes.set_ylabel("← energy per output token")
    if len(front) > 1:
        xs, ys = [p.rate for p in front], [p.energy_j for p in front]
        axes.plot(xs, ys, color=ACCENT, linewidth=1.5, alpha=0.55, zorder=1.5)
    for series in dict.fromkeys(point.series for point in points):
        _scatter(axes, [point for point in points if point.series == series])
    if len(points) <= _WITH_INTERVALS:
        _intervals(axes, points)
    axes.margins(0.12, 0.12)
    for point, offset in _places(axes, front, width=width):
        axes.annotate(
            short(point.name, 30 if width > NARROW else 18),
            (point.rate, point.energy_j),
            xytext=offset,
            textcoords="offset points",
            ha="left" if offset[0] > 0 else "right",
            va="center",
            fontsize=11,
            color=INK,
        )
    if legend:
        figure.legend(loc="upper left", ncols=3, frameon=False, handletextpad=0.2, borderpad=0)
    titles = {f"#{point.key}": _title(point) for point in points}
    label = "Energy per output token against output tokens per second"
    return svg(figure, label, salt=f"front{width}", titles=titles)


def _scatter(axes: Axes, points: Sequence[Point]) -> None:
    """The points of one series: full for what was measured, hollow for estimates."""
    series, number = points[0].series, points[0].number
    color = SERIES[number % len(SERIES)]
    for estimated in (False, True):
        own = [point for point in points if point.estimated is estimated]
        if own:
            marks = axes.scatter(
                [point.rate for point in own],
                [point.energy_j for point in own],
                s=34 if len(points) < 100 else 18,
                marker=MARKERS[number % len(MARKERS)],
                facecolors=PANEL if estimated else color,
                edgecolors=color if estimated else PANEL,
                linewidths=1.6 if estimated else 0.8,
                label=f"{series}, estimated" if estimated else series,
                zorder=3,
            )
            marks.set_urls([f"#{point.key}" for point in own])


def _intervals(axes: Axes, points: Sequence[Point]) -> None:
    for point in points:
        if point.low_j is not None and point.high_j is not None:
            ends = (point.low_j, point.high_j)
            axes.vlines(point.rate, *ends, color=MUTED, linewidth=1.0, alpha=0.7, zorder=2)


def _places(
    axes: Axes, front: Sequence[Point], *, width: int
) -> Iterator[tuple[Point, tuple[float, float]]]:
    """Which points have a name, and where: below them, on the side that has room.

    A name that would lie on another one is left out; it is there beside the mouse.
    """
    axes.autoscale_view()
    taken: list[tuple[float, float]] = []
    for point in front:
        at = axes.transScale.transform((point.rate, point.energy_j))
        across, up = axes.transLimits.transform(at)
        x, y = across * width * 0.85, up * 300
        if all(abs(x - left) > 130 or abs(y - low) > 13 for left, low in taken):
            taken.append((x, y))
            yield point, ((9.0, -9.0) if across < 0.55 else (-9.0, -9.0))


def _title(point: Point) -> str:
    energy = show(point.energy_j, "J") + (" (estimated)" if point.estimated else "")
    return f"{point.name}\n{show(point.rate, '1/s')}, {energy} per token"
