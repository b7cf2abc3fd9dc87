"""Power over the time of one measurement, its phases marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    """The figure, a given number of pixels wide.

    The measured window takes much of it: of what came before as much is shown, of what came after a
    third.
    """
    figure, axes = blank(width, _HEIGHT)
    value_axis(axes.yaxis, "W", values=())
    value_axis(axes.xaxis, "s", values=(), width=width)
    phases = [phase for phase in power.phases if phase.end_s > phase.start_s]
    long_s = next((p.end_s - p.start_s for p in phases if p.name == "measure"), 1.0)
    start = max(-1.0 * long_s, min((p.start_s for p in phases if p.name != "load"), default=0.0))
    end = min(1.35 * long_s, max((phase.end_s for phase in phases), default=long_s))
    means = [phase.mean_w or 0.0 for phase in phases]
    top = max([*means, *(watts for _, watts in power.trace), 1e-9]) * 1.2
    axes.set_xlim(start, end)
    axes.set_ylim(0, top)
    for phase in phases:
        left, right = max(phase.start_s, start), min(phase.end_s, end)
        if right > left:
            _band(axes, phase, left, right, share=(right - left) / (end - start) * width)
            _mean(axes, phase, left, right, power)
    if power.idle_w is not None:
        axes.axhline(power.idle_w, color=MUTED, linewidth=1.0, linestyle=(0, (1, 2)))
    if power.trace:
        axes.plot(*zip(*thinned(power.trace), strict=True), color=ACCENT, linewidth=1.4)
    return svg(figure, f"Power over time of {power.name}", salt=salt)


def _band(axes: Axes, phase: Phase, left: float, right: float, *, share: float) -> None:
    """The phase's time, and its name where it has room: ``share`` is in pixels."""
    measured = phase.name == "measure"
    axes.axvspan(left, right, facecolor=BANDS[measured], linewidth=0, zorder=0)
    axes.axvline(left, color=MUTED, linewidth=0.5, alpha=0.4)
    if share > 7.5 * len(phase.name):
        axes.text(
            (left + right) / 2,
            0.98,
            phase.name,
            ha="center",
            va="top",
            fontsize=9,
            color=INK if measured else MUTED,
            transform=axes.get_xaxis_transform(),
        )


def _mean(axes: Axes, phase: Phase, left: float, right: float, power: Power) -> None:
    """The mean power of a phase; dashed where it is an estimate, thin behind a trace."""
    if phase.mean_w is None:
        return
    traced = bool(power.trace) and phase.name == "measure"
    axes.hlines(
        phase.mean_w,
        left,
        right,
        color=INK if traced else ACCENT,
        linewidth=1.0 if traced else 2.2,
        linestyles=(0, (4, 3)) if power.estimated else "-",
    )


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
