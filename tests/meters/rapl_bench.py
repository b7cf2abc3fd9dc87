"""A RAPL meter on a simulated tree: in virtual time with a load of its own, and in real time."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

from pytest_llem.extensions import Target
from pytest_llem.meters.rapl import RaplMeter
from pytest_llem.records import Reading
from tests.rig.fixtures import MakePowercap
from tests.rig.powercap import Powercap, Zone
from tests.rig.spans import Span
from tests.rig.truth import Marks

__all__ = ["CPU", "LOAD", "RANGE_UJ", "TWO", "Bench", "VirtualTime", "read"]

CPU = Target(device="cpu")
RANGE_UJ = 262_143_328_850
LOAD = Zone(name="package-0", wave="square:60,180,0.037", idle_w=25, gated=True, quantum_uj=61)


class VirtualTime:
    """A clock that moves when it is looked at, and takes the tree's counters along.

    Args:
        tree: whose counters tick.
        stall: how probable it is that the process doesn't run for some milliseconds.

    Attributes:
        looks: how often it was looked at.
        away: how long the process doesn't run before such a look.
    """

    def __init__(self, tree: Powercap, stall: float = 0.0) -> None:
        self._tree = tree
        self._stall = stall
        self._random = random.Random(5)
        self._now_s = tree.epoch_ns * 1e-9
        self._ticks = 0
        self.looks = 0
        self.away: dict[int, float] = {}

    def monotonic(self) -> float:
        self.looks += 1
        self._move(self.away.get(self.looks, 0.0))
        late_s = self._random.uniform(5e-4, 8e-3) if self._random.random() < self._stall else 0
        return self._move(self._random.uniform(2e-6, 6e-6) + late_s)

    def sleep(self, seconds: float) -> None:
        self._move(seconds + 6e-5)

    def _move(self, seconds: float) -> float:
        self._now_s += seconds
        ticks = int((self._now_s - self._tree.epoch_ns * 1e-9) * 1000)
        if ticks != self._ticks:
            self._ticks = ticks
            self._tree.tick(self._now_s)
        return self._now_s


class Bench:
    """A meter on a tree, with a load that is only there in the windows."""

    def __init__(
        self, make: MakePowercap, folder: Path, zones: Sequence[Zone], stall: float = 0.0
    ) -> None:
        self.marks = Marks(folder / "marks")
        self.tree = make(zones, marks=self.marks, ticking=False)
        self.clock = VirtualTime(self.tree, stall)
        self.meter = RaplMeter(CPU, root=self.tree.root, clock=self.clock)

    def window(self, seconds: float, exact: bool = True) -> tuple[dict[str, Reading], float, float]:
        """Readings by domain, and when the window began and ended."""
        self.clock.sleep(0.0137)
        token = self.meter.start(exact)
        start_s = self.clock.monotonic()
        self.marks.mark(1, int(start_s * 1e9))
        self.clock.sleep(seconds)
        end_s = self.clock.monotonic()
        self.marks.mark(0, int(end_s * 1e9))
        readings = self.meter.stop(token, start_s, end_s)
        return {reading.domain: reading for reading in readings}, start_s, end_s

    def errors(self, seconds: float, count: int, keys: dict[str, str]) -> list[tuple[float, float]]:
        """Error and standard uncertainty of each reading of some windows, relative to the truth."""
        found = []
        for _ in range(count):
            readings, start_s, end_s = self.window(seconds)
            for domain, key in keys.items():
                exact_j = self.tree.energy(key, start_s, end_s)
                reading = readings[domain]
                assert reading.energy_j is not None
                assert reading.uncertainty_j is not None
                found.append((reading.energy_j / exact_j - 1, reading.uncertainty_j / exact_j))
        return found


TWO = {
    "cpu:0": "intel-rapl:0",
    "dram:0": "intel-rapl:0:0",
    "cpu:1": "intel-rapl:1",
    "dram:1": "intel-rapl:1:0",
}


def read(
    tree: Powercap, seconds: float, exact: bool = True
) -> tuple[dict[str, Reading], Span, float]:
    """Readings of a window in real time, its times, and for how long the tree stood still."""

    def measure() -> tuple[dict[str, Reading], Span]:
        meter = RaplMeter(CPU, root=tree.root)
        asked_s = time.monotonic()
        token = meter.start(exact)
        start_s = time.monotonic()
        time.sleep(seconds)
        end_s = time.monotonic()
        found = {reading.domain: reading for reading in meter.stop(token, start_s, end_s)}
        span = Span(asked_s=asked_s, start_s=start_s, end_s=end_s, told_s=time.monotonic())
        meter.close()
        return found, span

    # A hundredth of the window is little beside what is asked of a reading.
    (found, span), late_s = tree.calmly(measure, calm_s=max(0.02, 0.01 * seconds))
    return found, span, late_s
