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
def draw(families: Mapping[str, Sequence[Spread]], *, width: int) -> str:
    """The figure: for each family (its title) a panel with a row for each experiment.

    Args:
        families: title to the rows; the same experiments in each.
        width: in pixels.
    """
    wide = width > 500
    count = len(families)
    most = max(len(spreads) for spreads in families.values())
    height = 62 + 24 * most
    shape = (1, count) if wide else (count, 1)
    figure, panels = blank(width, height if wide else height * count, axes=shape)
    for number, (title, spreads) in enumerate(families.items()):
        axes = panels[number] if count > 1 else panels
        _panel(axes, spreads, width=width, names=number == 0 or not wide)
        axes.set_title(title, loc="left", fontsize=11, color=INK)
    titles = {f"#{s.key}": s.name for spreads in families.values() for s in spreads}
    return svg(figure, "Distributions of latencies", salt=f"latency{width}", titles=titles)


def _panel(axes: Axes, spreads: Sequence[Spread], *, width: int, names: bool) -> None:
    values = [v for s in spreads for v in (*s.percentiles.values(), *s.values) if v > 0]
    log = value_axis(axes.xaxis, "s", values=values)
    rows(axes, [spread.name for spread in spreads], width=width)
    if not names:
        axes.set_yticklabels([])
    if not log and values:
        axes.set_xlim(0, max(values) * 1.05)
    marks: list[tuple[str, dict[str, Any]]] = [
        ("p50", {"marker": "o", "s": 34, "color": ACCENT}),
        ("p90", {"marker": "|", "s": 70, "color": INK, "linewidths": 1.4}),
        ("p95", {"marker": "|", "s": 70, "color": INK, "linewidths": 1.4}),
        ("p99", {"marker": "|", "s": 120, "color": INK, "linewidths": 1.8}),
    ]
    for row, spread in enumerate(spreads):
        found = spread.percentiles
        if found:
            axes.hlines(row, min(found.values()), max(found.values()), color=MUTED, linewidth=1.0)
        if spread.values:
            step = max(1, len(spread.values) / _TICKS)
            ticks = [
                spread.values[int(i * step)]
                for i in range(min(_TICKS, len(spread.values)))
            ]
            # One path with gaps: a path for each tick would be most of the page.
            xs = [x for tick in ticks for x in (tick, tick, float("nan"))]
            ys = [row - 0.28, row + 0.28, float("nan")] * len(ticks)
            axes.plot(xs, ys, color=ACCENT, linewidth=1.0, alpha=0.22)
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
