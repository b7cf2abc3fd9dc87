"""Runs of one workload back to back in one window, and what a single one of them took."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from pytest_llem.extensions import Completion, Engine, Meter, Workload
from pytest_llem.records import Figure, Window

__all__ = ["Clock", "Emit", "Repeater", "Run", "Windows", "per_run", "progress"]

Emit = Callable[..., None]
"""Sends a frame: its kind, then its fields by name."""

Clock = Callable[[], float]
"""Tells the time in seconds."""

_PROGRESS_EVERY_S = 0.5

_TOTALS = frozenset(
    {
        "carbon_g",
        "cost",
        "cpu_energy_j",
        "dram_energy_j",
        "duration_s",
        "energy_j",
        "idle_energy_j",
        "net_energy_j",
    }
)
"""Metrics that grow with the window; all others are rates, or of single requests."""

_TO_IDLE = "energy_to_idle_j"


class Windows(Protocol):
    """Times phases and reads the meters around them: :class:`~.measure.Phases`."""

    windows: list[Window]
    meters: Sequence[Meter]

    def clock(self) -> float:
        """The time in seconds, by the clock that times the windows."""

    def phase(self, name: str, exact: bool | None = None) -> AbstractContextManager[None]:
        """A window around the body, which becomes the last of ``windows``."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A window in which a workload ran ``repeats`` times.

    Attributes:
        draw_s: time to draw one repeat's prompts, before the window.
        edges_s: time that the meters took around the window.
    """

    window: Window
    completions: tuple[Completion, ...]
    repeats: int
    draw_s: float = 0.0
    edges_s: float = 0.0

    @property
    def each_s(self) -> float:
        """Time of one repeat, prompts included."""
        return self.window.duration_s / self.repeats + self.draw_s

    def fits(self, left_s: float) -> int:
        """How many repeats like these can be drawn and measured in so many seconds."""
        left_s -= self.edges_s
        # Below any time that a run can take, should the clock have seen none pass.
        return max(0, int(left_s / max(self.each_s, 1e-9)))


class Repeater:
    """Runs a workload again and again, each time with other prompts."""

    def __init__(
        self,
        engine: Engine,
        windows: Windows,
        emit: Emit,
        draw: Callable[[int], Workload],
    ) -> None:
        """Take what runs, what brackets it, and what draws the requests of a repeat's number.

        The time is told by the clock of the windows.
        """
        self.clock = windows.clock
        self.windows = windows
        self._engine = engine
        self._emit = emit
        self._draw = draw
        self._drawn = 0

    def run(
        self, phase: str, count: int, until_s: float = float("inf"), exact: bool | None = None
    ) -> Run:
        """Run the workload ``count`` times in one window, prompts drawn before it.

        A repeat that would end after ``until_s`` is not begun, so there may be fewer; one is
        always made. ``until_s`` is a time of the clock.
        """
        begun_s = self.clock()
        workloads = [self._draw(self._drawn + number) for number in range(count)]
        self._drawn += count
        drawn_s = self.clock()
        done: list[Completion] = []
        repeats, longest_s = 0, 0.0
        total = sum(len(workload.prompts) for workload in workloads)
        report = progress(self._emit, total, self.clock)
        with self.windows.phase(phase, exact):
            for workload in workloads:
                start_s = self.clock()
                if repeats and start_s + longest_s > until_s:
                    break
                done += self._engine.run(workload, _behind(len(done), report))
                repeats += 1
                longest_s = max(longest_s, self.clock() - start_s)
        window = self.windows.windows[-1]
        return Run(
            window=window,
            completions=tuple(done),
            repeats=repeats,
            draw_s=(drawn_s - begun_s) / count,
            edges_s=max(0.0, self.clock() - drawn_s - window.duration_s),
        )


def _behind(before: int, report: Callable[[int], None]) -> Callable[[int], None]:
    """Counts on from the requests of earlier runs."""
    return lambda done: report(before + done)


def progress(emit: Emit, total: int, clock: Clock) -> Callable[[int], None]:
    """Report finished requests, seldom enough not to disturb the window."""
    last = clock()

    def report(done: int) -> None:
        nonlocal last
        now = clock()
        if now - last >= _PROGRESS_EVERY_S:
            last = now
            emit("progress", done=done, total=total)

    return report


def per_run(found: Mapping[str, Figure], repeats: int) -> dict[str, Figure]:
    """A window's figures as those of a single run of the workload, in the same order.

    Totals are divided by the runs, their uncertainties too: the mean of so many runs. The way back
    to idle comes once, behind the last run, so it isn't divided: what a single run takes with it
    is its share of the window and the whole way back.
    """
    if repeats == 1:
        return dict(found)
    made = {
        name: _scaled(figure, 1 / repeats) if name in _TOTALS else figure
        for name, figure in found.items()
    }
    if _TO_IDLE in found:
        made[_TO_IDLE] = _less(found[_TO_IDLE], found["energy_j"], 1 - 1 / repeats)
    return made


def _scaled(figure: Figure, factor: float) -> Figure:
    value, spread, gain = (
        None if number is None else number * factor
        for number in (figure.value, figure.uncertainty, figure.systematic)
    )
    return dataclasses.replace(figure, value=value, uncertainty=spread, systematic=gain)


def _less(whole: Figure, part: Figure, share: float) -> Figure:
    """A figure without a share of a part of it.

    Its uncertainty stays what it was, which is not too little. The meter's gain is relative.
    """
    if whole.value is None or part.value is None:
        return whole if whole.value is None else part
    value = whole.value - part.value * share
    gain = whole.systematic
    if gain is not None and whole.value:
        gain *= abs(value / whole.value)
    return dataclasses.replace(whole, value=value, systematic=gain)
