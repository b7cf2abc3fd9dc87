"""Changes against earlier sessions, with what noise explains of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llem.reports.figures.canvas import (
    BAD,
    INK,
    MUTED,
    SERIES,
    blank,
    rows,
    svg,
    themed,
    value_axis,
)

__all__ = ["MOST", "Bar", "draw"]

MOST = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A metric of an experiment beside earlier sessions.

    Attributes:
        label: experiment and metric.
        percent: worse where positive.
        noise_percent: twice the standard error: what is within isn't told from nothing.
        worse: whether a budget is broken beyond noise.
    """

    key: str
    label: str
    percent: float
    noise_percent: float
    worse: bool = False


@themed
def draw(bars: Sequence[Bar], *, width: int) -> str:
    """The figure, a given number of pixels wide, of the bars in their order."""
    shown = bars[:MOST]
    figure, axes = blank(width, 72 + 24 * len(shown))
    value_axis(axes.xaxis, "%", values=())
    rows(axes, [bar.label for bar in shown], width=width)
    reach = max(max(abs(b.percent), b.noise_percent) for b in shown) * 1.35 or 1.0
    axes.set_xlim(-reach, reach)
    axes.axvline(0, color=MUTED, linewidth=1.2)
    axes.set_xlabel("← better      change      worse →")
    for row, bar in enumerate(shown):
        color = BAD if bar.worse else SERIES[0]
        band = (-bar.noise_percent, bar.noise_percent)
        axes.hlines(row, *band, color=MUTED, linewidth=9, alpha=0.22)
        axes.hlines(row, 0, bar.percent, color=color, linewidth=3)
        mark = axes.scatter([bar.percent], [row], s=34, color=color, zorder=3)
        mark.set_urls([f"#{bar.key}"])
        axes.annotate(
            f"{bar.percent:+.1f} %",
            (bar.percent, row),
            xytext=(8 if bar.percent >= 0 else -8, 0),
            textcoords="offset points",
            ha="left" if bar.percent >= 0 else "right",
            va="center",
            fontsize=10,
            color=BAD if bar.worse else INK,
        )
    titles = {f"#{bar.key}": bar.label for bar in shown}
    return svg(figure, "Changes against earlier sessions", salt=f"changes{width}", titles=titles)
