"""Energy per token against throughput, with those that no other beats in both."""

from __future__ import annotations

import itertools
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
    text_width,
    themed,
    value_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Point", "draw", "pareto"]

_WITH_INTERVALS = 60
"""More points than that, and their intervals are a thicket."""

_ALL_NAMED = 16
"""So many points are all named, where there is room; of more, those of the front."""

_SIDES = ((9.0, -9.0), (-9.0, -9.0), (9.0, 9.0), (-9.0, 9.0), (9.0, 0.0), (-9.0, 0.0))
"""Where a name may stand, the best first, in pixels to the right of its point, and above it."""


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
    for (rate, low_j), (_, high_j) in _ends(points):
        axes.vlines(rate, low_j, high_j, color=MUTED, linewidth=1.0, alpha=0.7, zorder=2)
    axes.margins(0.12, 0.12)
    most = 30 if width > NARROW else 18
    for point, offset in _places(axes, points, front, most):
        axes.annotate(
            short(point.name, most),
            (point.rate, point.energy_j),
            xytext=offset,
            textcoords="offset points",
            ha="left" if offset[0] > 0 else "right",
            va="center",
            fontsize=11,
            color=INK if point in front else MUTED,
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


_End = tuple[float, float]
"""Of an interval: output tokens per second, and joules per token."""


def _ends(points: Sequence[Point]) -> Iterator[tuple[_End, _End]]:
    """Lower and upper ends of the intervals that are drawn."""
    if len(points) <= _WITH_INTERVALS:
        for point in points:
            if point.low_j is not None and point.high_j is not None:
                yield (point.rate, point.low_j), (point.rate, point.high_j)


def _places(
    axes: Axes, points: Sequence[Point], front: Sequence[Point], most: int
) -> Iterator[tuple[Point, tuple[float, float]]]:
    """Which points have a name, and where it begins or ends, in pixels from the point.

    Those of the front come first. A name for which no side has room is left out, rather than
    written over something; it is there beside the mouse.
    """
    from matplotlib.transforms import Bbox

    axes.autoscale_view()
    area = axes.get_position()
    across, up = (side * 72 for side in axes.figure.get_size_inches())  # type: ignore[union-attr]
    across, up = across * area.width, up * area.height

    def pixels(rate: float, energy_j: float) -> tuple[float, float]:
        x, y = axes.transLimits.transform(axes.transScale.transform((rate, energy_j)))
        return x * across, y * up

    at = {point.key: pixels(point.rate, point.energy_j) for point in points}
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in at.values()]
    for low, high in _ends(points):
        (x, bottom), (_, top) = pixels(*low), pixels(*high)
        taken.append(Bbox.from_extents(x - 1, bottom, x + 1, top))
    for (x, y), (to_x, to_y) in itertools.pairwise(at[point.key] for point in front):
        steps = 1 + int(max(abs(to_x - x), abs(to_y - y)) / 4)
        line = [(x + (to_x - x) * i / steps, y + (to_y - y) * i / steps) for i in range(steps)]
        taken += [Bbox.from_extents(x - 1, y - 1, x + 1, y + 1) for x, y in line]
    others = [point for point in points if point not in front]
    for point in (*front, *(others if len(points) <= _ALL_NAMED else ())):
        x, y = at[point.key]
        length = text_width(short(point.name, most))
        for right, above in _SIDES:
            begin = x + right if right > 0 else x + right - length
            box = Bbox.from_extents(begin, y + above - 7, begin + length, y + above + 7)
            inside = box.x0 >= -60 and box.x1 <= across + 8 and box.y0 >= 0 and box.y1 <= up
            if inside and not box.count_overlaps(taken):
                taken.append(box)
                yield point, (right, above)
                break


def _title(point: Point) -> str:
    energy = show(point.energy_j, "J") + (" (estimated)" if point.estimated else "")
    return f"{point.name}\n{show(point.rate, '1/s')}, {energy} per token"
