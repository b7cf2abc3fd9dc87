"""Changes against earlier sessions, with what noise explains of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llem.reports.figures.canvas import (
    BAD,
    INK,
    MUTED,
    NARROW,
    SERIES,
    blank,
    rows,
    short,
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
        name: of the experiment.
        metric: in short.
        percent: worse where positive.
        noise_percent: twice the standard error: what is within isn't told from nothing.
        worse: whether a budget is broken beyond noise.
    """

    key: str
    name: str
    metric: str
    percent: float
    noise_percent: float
    worse: bool = False


@themed
def draw(bars: Sequence[Bar], *, width: int) -> str:
    """The figure, a given number of pixels wide, of the bars in their order."""
    shown = bars[:MOST]
    figure, axes = blank(width, 72 + 24 * len(shown))
    value_axis(axes.xaxis, "%", values=(), width=width)
    room = 34 if width > NARROW else 18
    rows(axes, [_label(bar, shown, room) for bar in shown], width=width)
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
            f"{bar.percent:+.1f} %".replace("-", "\u2212"),
            (bar.percent, row),
            xytext=(8 if bar.percent >= 0 else -8, 0),
            textcoords="offset points",
            ha="left" if bar.percent >= 0 else "right",
            va="center",
            fontsize=11,
            color=BAD if bar.worse else INK,
        )
    titles = {f"#{bar.key}": f"{bar.name} {bar.metric}" for bar in shown}
    return svg(figure, "Changes against earlier sessions", salt=f"changes{width}", titles=titles)


def _label(bar: Bar, bars: Sequence[Bar], room: int) -> str:
    """The name, and the metric where they aren't all of one."""
    if len({other.metric for other in bars}) == 1:
        return short(bar.name, room)
    return f"{short(bar.name, room - len(bar.metric) - 3)} · {bar.metric}"
