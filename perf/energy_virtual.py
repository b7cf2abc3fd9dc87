"""Our meter on simulated boards in virtual time. Part of energy_accuracy.py."""

from __future__ import annotations

import itertools
import math
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perf.energy_cases import Case, judged, rig_of, steps_of
from perf.energy_meters import Ours, Step, measure
from pytest_llem.meters.boxcar import Mean
from pytest_llem.meters.mean_power import Means
from tests.rig.nvml import Rig, VirtualClock

__all__ = ["FAULTS", "faults", "virtual"]

_AGE_S = 12.0
"""Of the machine when the meter is made."""

_IDLE_S = 0.5
_WARM_UP_S = 1.0
_BRACKET_S = 0.0005
_UNIT_W = 0.001


class HostClock:
    """A clock of a host that wakes sleepers late, and is away for a while now and then.

    Args:
        clock: of the simulated time.
        rng: decides how late.
        stalls: share of sleeps after which the process doesn't run for 3 to 40 ms.
    """

    def __init__(self, clock: VirtualClock, rng: random.Random, stalls: float) -> None:
        self._clock, self._rng, self._stalls = clock, rng, stalls

    def monotonic(self) -> float:
        """Seconds."""
        if self._stalls and self._rng.random() < self._stalls / 100:
            self._clock.sleep(self._rng.uniform(0.003, 0.04))
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """At least so long."""
        late_s = self._rng.uniform(20e-6, 120e-6)
        if self._rng.random() < 0.02:
            late_s += self._rng.uniform(0, 1e-3)
        if self._rng.random() < self._stalls:
            late_s += self._rng.uniform(0.003, 0.04)
        self._clock.sleep(max(0.0, seconds) + late_s)


class SeenMeans:
    """The power readings that the process of the power trace would have seen, had it the time.

    That process lives in real time. Its readings are those that the driver would have given,
    renewed some time within half a millisecond. ``--real-time`` has the process itself.
    """

    def __init__(self, rig: Rig, rng: random.Random, since_s: float) -> None:
        """Watch from a time on."""
        self._truth, self._rng, self._since_s = rig.truth(), rng, since_s
        self._period_s = float(rig.setting("usage_period_ms")) / 1000
        self._span_s = float(rig.setting("usage_window_ms")) / 1000
        self._origin_s = rig.epoch_ns * 1e-9 + float(rig.setting("tick_phase_ms")) / 1000
        self._seen: dict[int, Mean] = {}

    def means(self, from_s: float, to_s: float) -> Sequence[Means]:
        """Readings between two times."""
        found: list[Mean] = []
        first = math.ceil((max(from_s, self._since_s) - self._origin_s) / self._period_s)
        for number in itertools.count(first):
            time_s = self._origin_s + number * self._period_s
            if time_s > to_s:
                return [Means(period_s=self._period_s, means=found)]
            found.append(self._seen.setdefault(number, self._mean(time_s)))
        return []

    def _mean(self, time_s: float) -> Mean:
        power_w = self._truth.energy(time_s - self._span_s, time_s) / self._span_s
        lo_s = time_s - self._rng.uniform(0, _BRACKET_S)
        power_w = round(power_w / _UNIT_W) * _UNIT_W
        return Mean(lo_s=lo_s, hi_s=lo_s + _BRACKET_S, power_w=power_w)

    def close(self) -> None:
        """Nothing was opened."""


def _run(
    rig: Rig, steps: Sequence[Step], rng: random.Random, stalls: float
) -> list[dict[str, Any]]:
    """A meter like a worker's: an idle window and a warm-up, then those asked for."""
    with rig.open(), rig.virtual_time() as time:
        # However long it took to get here: a seed always gives the same.
        time.sleep((rig.epoch_ns - time.time_ns()) * 1e-9 + _AGE_S)
        clock = HostClock(time, rng, stalls)
        begun_s = clock.monotonic()
        meter = Ours(clock, watch=lambda _: SeenMeans(rig, rng, begun_s))
        try:
            meter.start()
            start_s = clock.monotonic()
            clock.sleep(_IDLE_S)
            meter.stop(start_s, clock.monotonic())
            meter.start()
            start_s = rig.mark(1)
            clock.sleep(_WARM_UP_S)
            meter.stop(start_s, rig.mark(0))
            return measure(meter, steps, rig.mark, lambda: sum(rig.calls().values()), clock)
        finally:
            meter.close()


def virtual(
    case: Case,
    loads: Mapping[str, str],
    windows: Sequence[float],
    runs: int,
    seed: int,
    stalls: float = 0.0,
) -> list[dict[str, Any]]:
    """Our meter on one case, a new one for each load."""
    found: list[dict[str, Any]] = []
    for name, wave in loads.items():
        rng = random.Random(f"{seed} {case.board} {case.name} {name}")
        with tempfile.TemporaryDirectory() as folder:
            rig = rig_of(Path(folder), case, wave, rng)
            answers = _run(rig, steps_of(case, rng, windows, runs), rng, stalls)
            found += judged(rig, case, "ours", name, answers)
    return found


# --- faults ----------------------------------------------------------------------------------

_COUNTER = "nvmlDeviceGetTotalEnergyConsumption"

FAULTS: Mapping[str, Mapping[str, str | float]] = {
    "lost GPU": {f"err.{_COUNTER}": "15,20"},
    "reset": {"energy_reset_s": 20},
    "reset early": {"energy_reset_s": 20, "energy_base_mj": 1000},
    "wrap of 32 bits": {"energy_bits": 32, "energy_base_mj": 2**32 - 2_500_000},
    "function missing": {"missing": _COUNTER},
    "no permission": {f"err.{_COUNTER}": 4},
    "not supported": {"energy_supported": 0},
    "unknown errors at times": {f"err.{_COUNTER}": "999,15,40"},
}
"""Settings of the rig; 20 s after the epoch some windows have been measured, and some not."""


def faults(seed: int) -> list[dict[str, Any]]:
    """What our meter says when something is wrong with a board."""
    found: list[dict[str, Any]] = []
    for name, settings in FAULTS.items():
        case = Case(board="H100", name=name, group="faults", limits="faults")
        rng = random.Random(f"{seed} {name}")
        with tempfile.TemporaryDirectory() as folder:
            rig = rig_of(Path(folder), case, "square:250,550,0.2", rng, **settings)
            steps = steps_of(case, rng, (0.1, 0.5, 1.0), 3)
            found += judged(rig, case, "ours", "square", _run(rig, steps, rng, 0))
    return found
