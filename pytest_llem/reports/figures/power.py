"""Power over the time of one measurement, its phases marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llem.reports.figures.canvas import (
    ACCENT,
    BANDS,
    INK,
    MUTED,
    blank,
    svg,
    themed,
    value_axis,
)

__all__ = ["Phase", "Power", "draw"]

_HEIGHT = 180
_SAMPLES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A window of the measurement; seconds since the measured one began.

    Attributes:
        mean_w: by the meters' own energy; None where none was read.
    """

    name: str
    start_s: float
    end_s: float
    mean_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Power of an experiment's devices over a measurement.

    Attributes:
        trace: time and power of the samples of all devices together; empty where there is none.
        idle_w: power with the engine loaded and no request.
    """

    name: str
    phases: Sequence[Phase]
    trace: Sequence[tuple[float, float]] = ()
    idle_w: float | None = None
    estimated: bool = False


@themed
def draw(power: Power, *, width: int, salt: str) -> str:
    """The figure, a given number of pixels wide."""
    figure, axes = blank(width, _HEIGHT)
    phases = [phase for phase in power.phases if phase.end_s > phase.start_s]
    means = [phase.mean_w for phase in phases if phase.mean_w is not None]
    value_axis(axes.yaxis, "W", values=())
    value_axis(axes.xaxis, "s", values=())
    start = min((p.start_s for p in phases if p.name != "load"), default=0.0)
    end = max((phase.end_s for phase in phases), default=1.0)
    if power.trace:
        start, end = min(start, power.trace[0][0]), max(end, power.trace[-1][0])
    top = max([*means, *(watts for _, watts in power.trace), 1e-9]) * 1.18
    axes.set_xlim(start, end)
    axes.set_ylim(0, top)
    for number, phase in enumerate(phases):
        if phase.end_s <= start:
            continue
        left = max(phase.start_s, start)
        measured = phase.name == "measure"
        axes.axvspan(left, phase.end_s, facecolor=BANDS[measured], linewidth=0, zorder=0)
        if (phase.end_s - left) > 0.055 * len(phase.name) * (end - start) * 130 / width:
            axes.text(
                (left + phase.end_s) / 2,
                top * 0.985,
                phase.name,
                ha="center",
                va="top",
                fontsize=9,
                color=INK if measured else MUTED,
            )
        if phase.mean_w is not None and (measured or not power.trace):
            style = (0, (4, 3)) if power.estimated else "-"
            color = ACCENT if not power.trace else INK
            thick = 2.2 if not power.trace else 1.2
            axes.hlines(
                phase.mean_w, left, phase.end_s, color=color, linewidth=thick, linestyles=style
            )
        if number:
            axes.axvline(left, color=MUTED, linewidth=0.5, alpha=0.4)
    if power.idle_w is not None:
        axes.axhline(power.idle_w, color=MUTED, linewidth=1.0, linestyle=(0, (1, 2)))
    if power.trace:
        axes.plot(*zip(*thinned(power.trace), strict=True), color=ACCENT, linewidth=1.4)
    return svg(figure, f"Power over time of {power.name}", salt=salt)


def thinned(trace: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """As many samples as a figure can show: the extremes of each stretch, in their order."""
    if len(trace) <= _SAMPLES:
        return list(trace)
    size = -(-len(trace) * 2 // _SAMPLES)
    found: list[tuple[float, float]] = []
    for start in range(0, len(trace), size):
        stretch = trace[start : start + size]
        ends = {min(stretch, key=lambda s: s[1]), max(stretch, key=lambda s: s[1])}
        found += sorted(ends)
    return found
