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
    room,
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
    names = [_label(bar, shown, 32 if width > NARROW else 18) for bar in shown]
    figure, axes = blank(width, 62 + 24 * len(shown), left=room(names), bottom=46)
    value_axis(axes.xaxis, "%", values=())
    rows(axes, names)
    reach = max(max(abs(b.percent), b.noise_percent) for b in shown) * 1.35 or 1.0
    axes.set_xlim(-reach, reach)
    axes.axvline(0, color=MUTED, linewidth=1.2)
    axes.set_xlabel("← better      change      worse →")
    at = range(len(shown))
    noise = [bar.noise_percent for bar in shown]
    axes.hlines(at, [-n for n in noise], noise, color=MUTED, linewidth=9, alpha=0.22)
    percents = [bar.percent for bar in shown]
    colors = [BAD if bar.worse else SERIES[0] for bar in shown]
    axes.hlines(at, 0, percents, colors=colors, linewidth=3)
    marks = axes.scatter(percents, at, s=34, c=colors, zorder=3)
    marks.set_urls([f"#{bar.key}" for bar in shown])
    for row, bar in enumerate(shown):
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


def _label(bar: Bar, bars: Sequence[Bar], most: int) -> str:
    """The name, and the metric where they aren't all of one."""
    if len({other.metric for other in bars}) == 1:
        return short(bar.name, most)
    return f"{short(bar.name, most - len(bar.metric) - 3)} · {bar.metric}"
