"""Many windows of many loads, for figures of accuracy."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.meters.windows import CALL, Measured, bench
from tests.rig.nvml import Rig, Settings

__all__ = ["DURATIONS_S", "WAVES", "Figures", "figures", "random_waves", "windows"]

DURATIONS_S = (0.1, 0.5, 1.0, 5.0)

WAVES = (
    "const:400",
    "square:250,550,0.2",
    "square:200,600,0.037,0.3",
    "sine:400,150,0.37",
    "ramp:200,600,0.5",
    "steps:0.03,500,0.05,300,0.02,450",
    "square:150,600,1.3",
)

_LEARNT = 2
"""Windows before those that count: what a counter is like is learnt from the first ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of some windows of known energy; all relative to that.

    Attributes:
        error: mean absolute.
        bias: mean.
        width: median half-width of the 95 % interval.
        held: part of the windows whose interval holds the exact energy.
        idle_error: mean absolute, of the energy until idle.
    """

    error: float
    bias: float
    width: float
    held: float
    idle_error: float


def random_waves(seed: int, count: int) -> list[str]:
    """Loads of a few pieces: steady, or rising and falling."""
    rng = random.Random(seed)
    waves = []
    for number in range(count):
        durations_s = [rng.uniform(0.004, 0.4) for _ in range(rng.randint(2, 6))]
        powers_w = [rng.uniform(120, 650) for _ in durations_s]
        if number % 2:
            pieces = zip(durations_s, powers_w, strict=True)
            waves.append("steps:" + ",".join(f"{s:.4f},{w:.1f}" for s, w in pieces))
        else:
            times_s = [sum(durations_s[:n]) for n in range(len(durations_s))]
            pieces = zip([*times_s, sum(durations_s)], [*powers_w, powers_w[0]], strict=True)
            waves.append("pwl:" + ",".join(f"{s:.4f},{w:.1f}" for s, w in pieces))
    return waves


def windows(
    make: Callable[[Settings], Rig], waves: Sequence[str], per_wave: int, seed: int
) -> Iterator[tuple[float, Measured]]:
    """Windows of all durations, and their nominal ones.

    Args:
        make: a rig with settings.
        waves: of the loads.
        per_wave: windows of each duration.
        seed: of the counter's phase, the pauses and the parts of a tick.
    """
    for wave in waves:
        rng = random.Random(f"{wave} {seed}")
        rig = make({**CALL, "wave": wave, "tick_phase_ms": rng.uniform(0, 100)})
        with bench(rig, seed=seed) as on:
            durations_s = [*DURATIONS_S] * per_wave
            rng.shuffle(durations_s)
            for number, duration_s in enumerate([0.745] * _LEARNT + durations_s):
                length_s = duration_s + rng.uniform(0, 0.1)
                one = on.window(length_s, pause_s=rng.uniform(0.3, 0.5))
                if number >= _LEARNT:
                    yield duration_s, one


def figures(found: Sequence[Measured]) -> Figures:
    """Of windows that were all measured."""
    errors = [one.error_j() / one.exact_j[0] for one in found]
    idle = [
        abs(one.reading.to_idle.above_j - one.to_idle_j[0]) / one.to_idle_j[0]
        for one in found
        if one.reading.to_idle is not None and one.reading.to_idle.above_j is not None
    ]
    return Figures(
        error=statistics.mean(map(abs, errors)),
        bias=statistics.mean(errors),
        width=statistics.median(one.width() for one in found),
        held=statistics.mean(one.holds() for one in found),
        idle_error=statistics.mean(idle) if idle else float("nan"),
    )
