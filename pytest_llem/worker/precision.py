"""As many runs of a workload in one window as it takes to know its energy precisely enough.

A meter's uncertainty comes mostly from the two edges of a window, so that it is the same however
long the window is, and its relative size falls as 1/n with n runs. Some meters also have a part
that comes again and again, and falls as 1/√n. With both, u² = a² + c E, and u / E ≤ p asks for an
energy of E ≥ (c + √(c² + 4 p² a²)) / (2 p²) in one window. The first window tells only one sum,
all of which is taken for a²; any later one tells the two apart.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_llem.records import Figure, Precision, Window
from pytest_llem.worker.repeats import Repeater, Run

__all__ = ["TRIES", "Sample", "predict", "reach", "warning"]

TRIES = 3

_AIM = 0.9
"""The part of the asked uncertainty that is aimed at: a prediction may be a little off.

With each further try it is this part of what was aimed at before: the last one missed.
"""

_GROWTH = 100
"""A window is at most so many times longer than the one it is predicted from."""

_TELLING = 1.5
"""A window of so many times more energy tells whether length helps."""

_LITTLE = 0.9
"""Length doesn't help where the relative uncertainty fell to no less than this part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Energy and standard uncertainty of a window of so many runs."""

    repeats: int
    energy_j: float
    uncertainty_j: float

    @property
    def relative(self) -> float:
        """Relative uncertainty; infinite where there was no energy to be seen."""
        return self.uncertainty_j / self.energy_j if self.energy_j > 0 else math.inf


def predict(samples: Sequence[Sample], asked: float) -> int:
    """How many runs one window needs for a relative uncertainty.

    Args:
        samples: of all windows so far, at least one, in order.
        asked: relative standard uncertainty, above 0.

    Returns:
        1 or more, and at most 100 times the runs of the last sample.
    """
    last = samples[-1]
    most = _GROWTH * last.repeats
    if last.energy_j <= 0:
        return most
    aim = asked * _AIM ** len(samples)
    constant, growing = _parts(samples, aim)
    energy_j = (growing + math.hypot(growing, 2 * constant)) / 2
    runs = energy_j * last.repeats / last.energy_j
    return max(1, math.ceil(runs)) if runs < most else most


def _parts(samples: Sequence[Sample], aim: float) -> tuple[float, float]:
    """Energies that a window needs for its edges alone (a / p), and for the rest (c / p²).

    The last sample is matched; the first one as far as neither part is negative.
    """
    first, last = samples[0], samples[-1]
    edges = last.uncertainty_j / aim
    if last.energy_j <= first.energy_j or last.uncertainty_j <= first.uncertainty_j:
        return edges, 0.0
    before = first.uncertainty_j / aim
    # The difference of two squares, without their overflow.
    growing = (edges - before) * ((edges + before) / (last.energy_j - first.energy_j))
    # What grows can't be more than all there is: edges² = constant² + growing × energy.
    share = min(1.0, growing * last.energy_j / edges / edges)
    return edges * math.sqrt(1 - share), share * edges * (edges / last.energy_j)


def reach(
    repeater: Repeater,
    pilot: Run,
    energy: Callable[[Window], Figure],
    asked: float,
    most: int,
    latest_s: float,
) -> tuple[Run, Precision]:
    """Measure the workload in a window long enough for a precision, if there is time for that.

    The pilot itself is the measurement where it is precise enough, or nothing better can be had.
    Among the windows, the measurement's is named ``measure`` and all others ``pilot``.

    Args:
        repeater: runs the workload.
        pilot: one run of it, in a window of its own.
        energy: of a window, with its standard uncertainty.
        asked: relative standard uncertainty to reach.
        most: runs of the longest window.
        latest_s: time of the repeater's clock by which all must be done.
    """
    search = _Search(energy, asked, pilot)
    while (why_not := search.end()) is None:
        last = search.last
        wanted = predict(search.samples, asked)
        fits = last.fits(latest_s - repeater.clock())
        count = min(wanted, fits, most)
        if count <= last.repeats:
            why_not = _too_few(wanted, last.repeats, in_memory=fits >= most)
            break
        search.take(repeater.run("measure", count, latest_s - last.edges_s))
    best, relative = search.best
    _name(repeater.windows.windows, best.window)
    return best, Precision(
        asked=asked,
        reached=None if math.isinf(relative) else relative,
        tries=len(search.samples) - 1,
        why_not=why_not or None,
    )


class _Search:
    """The windows measured so far.

    Attributes:
        samples: of all of them.
        last: the latest.
        best: the most precise, of equals the later, and its relative uncertainty.
    """

    def __init__(self, energy: Callable[[Window], Figure], asked: float, pilot: Run) -> None:
        self._energy = energy
        self._asked = asked
        self.samples: list[Sample] = []
        self.best = (pilot, math.inf)
        self.take(pilot)

    def take(self, run: Run) -> None:
        """Note a window; its requests are let go where a more precise one was before."""
        figure = self._energy(run.window)
        self._unjudged = _unjudged(figure)
        sample = Sample(
            repeats=run.repeats,
            energy_j=0.0 if self._unjudged else figure.value or 0.0,
            uncertainty_j=figure.uncertainty or 0.0,
        )
        self.samples.append(sample)
        self.last = dataclasses.replace(run, completions=())
        if sample.relative <= self.best[1]:
            self.best = (run, sample.relative)

    def end(self) -> str | None:
        """Why to end here: empty for success; None to go on."""
        last = self.samples[-1]
        if self._unjudged:
            return self._unjudged
        if last.relative <= self._asked:
            return ""
        if len(self.samples) > TRIES:
            return f"{TRIES} tries were not enough; make the workload longer"
        if len(self.samples) > 1:
            if math.isinf(last.relative):
                return "the meter saw no energy; use another meter"
            before = self.samples[-2]
            longer = last.energy_j >= _TELLING * before.energy_j
            if longer and last.relative >= _LITTLE * before.relative:
                return "a longer window doesn't make it smaller; use a more precise meter"
        return None


def _unjudged(figure: Figure) -> str:
    """Why there is no uncertainty to judge, and what to do; empty where there is."""
    remedy = "use a meter that measures, or leave precision out"
    if figure.value is None:
        return f"{figure.reason}; {remedy}"
    if figure.quality == "estimated":
        return f"the energy is an estimate; {remedy}"
    return "" if figure.uncertainty is not None else f"the meter tells no uncertainty; {remedy}"


def _too_few(wanted: int, made: int, *, in_memory: bool) -> str:
    """Why a window isn't as long as wanted, and what to do."""
    takes = f"it takes {wanted} repeats in one window"
    if in_memory:
        return f"{takes}, and the requests of {made} fit into memory; ask for less"
    return f"{takes}, and timeout_s leaves time for {made}; raise timeout_s"


def _name(windows: list[Window], measured: Window) -> None:
    """Leave one window the name ``measure``: the others only led to it."""
    for index, window in enumerate(windows):
        if window is measured:
            windows[index] = dataclasses.replace(window, phase="measure")
        elif window.phase == "measure":
            windows[index] = dataclasses.replace(window, phase="pilot")


def warning(precision: Precision, repeats: int) -> str | None:
    """What to know about a precision that wasn't reached, and what can be done."""
    if precision.why_not is None:
        return None
    asked = f"precision {precision.asked * 100:g} %"
    if precision.reached is None:
        return f"{asked} can't be judged: {precision.why_not}"
    runs = f"{repeats} {'run' if repeats == 1 else 'runs'}"
    got = f"{precision.reached * 100:.2g} % with {runs}"
    return f"{asked} was not reached, but {got}: {precision.why_not}"
