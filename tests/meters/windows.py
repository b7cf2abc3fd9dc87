"""Windows on simulated GPUs whose energy is known, measured by the real meter in virtual time."""
# ruff: noqa: N802  the names of NVML's functions are NVML's own

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pynvml

from pytest_llem.extensions import Target
from pytest_llem.meters.gpu_board import Counters
from pytest_llem.meters.nvml import NvmlMeter
from pytest_llem.records import Reading
from tests.rig.nvml import Rig, Settings, VirtualClock

__all__ = ["BEGIN_S", "CALL", "READ", "Bench", "Host", "Library", "Measured", "bench"]

READ = "nvmlDeviceGetTotalEnergyConsumption"

BEGIN_S = 15.0
"""When it begins, after the epoch."""

CALL: Settings = {"latency_us": 20}
"""What a call of NVML takes at least."""


class Host:
    """A host's clock: naps are a little too long, and now and then nothing runs at all.

    Args:
        time: the virtual clock.
        seed: of the chances.
        stalls: the chance of a stall at each nap; a hundredth of it at each look at the clock.
    """

    def __init__(self, time: VirtualClock, seed: int = 1, stalls: float = 0.0) -> None:
        self._time = time
        self._rng = random.Random(seed)
        self.stalls = stalls
        self._due: list[tuple[float, float]] = []

    def stall(self, at_s: float, seconds: float) -> None:
        """From a time on don't run for a while, whether asleep or not."""
        self._due.append((at_s, at_s + seconds))

    def _run(self, chance: float) -> None:
        if self._rng.random() < chance:
            self._time.sleep(self._rng.uniform(0.003, 0.04))
        now_s = self._time.monotonic()
        for begin_s, end_s in self._due:
            if begin_s <= now_s < end_s:
                self._time.sleep(end_s - now_s)

    def monotonic(self) -> float:
        self._run(self.stalls / 100)
        return self._time.monotonic()

    def sleep(self, seconds: float) -> None:
        self._time.sleep(seconds + self._rng.uniform(20e-6, 120e-6))
        self._run(self.stalls)


class Library:
    """pynvml whose reads of a counter can be late, or see it stand still; it lists them all.

    Args:
        time: the virtual clock.
    """

    def __init__(self, time: VirtualClock) -> None:
        self._time = time
        self._last = 0
        self.read_at_s: list[float] = []
        self.late_s = 0.0, 0.0
        self.frozen = False

    def __getattr__(self, name: str) -> Any:
        return getattr(pynvml, name)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:
        """The counter, after the first of two delays and before the second, which end here."""
        (before_s, after_s), self.late_s = self.late_s, (0.0, 0.0)
        self._time.sleep(before_s)
        self.read_at_s.append(self._time.monotonic())
        if not self.frozen:
            self._last = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        self._time.sleep(after_s)
        return self._last


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A window and what is true of it.

    Attributes:
        readings: of all GPUs.
        exact_j: of each GPU, within the window.
        to_idle_j: of each GPU, above idle from its start until long after its end.
        edge_s: what it took before and behind.
        calls_around: of NVML, before and behind.
        calls_within: of NVML, in the window.
    """

    readings: Sequence[Reading]
    exact_j: Sequence[float]
    to_idle_j: Sequence[float]
    edge_s: float
    calls_around: int
    calls_within: int

    @property
    def reading(self) -> Reading:
        """Of the first GPU."""
        return self.readings[0]

    def error_j(self, gpu: int = 0) -> float:
        """Of an energy, which must have been told."""
        reading = self.readings[gpu]
        assert reading.energy_j is not None, reading.reason
        return reading.energy_j - self.exact_j[gpu]

    def off(self, gpu: int = 0) -> float:
        """The error as a part of the exact energy."""
        return abs(self.error_j(gpu)) / self.exact_j[gpu]

    def width(self, gpu: int = 0) -> float:
        """Half of the 95 % interval as a part of the exact energy."""
        uncertainty_j = self.readings[gpu].uncertainty_j
        assert uncertainty_j is not None
        return 1.96 * uncertainty_j / self.exact_j[gpu]

    def holds(self, sigmas: float = 1.96, gpu: int = 0) -> bool:
        """Whether the exact energy lies within the stated interval."""
        return self.off(gpu) <= sigmas / 1.96 * self.width(gpu)


class Bench:
    """A meter, and the machine that it measures."""

    def __init__(
        self,
        rig: Rig,
        time: VirtualClock,
        host: Host,
        *,
        gpus: int = 1,
        library: Library | None = None,
    ) -> None:
        self.rig = rig
        self.time = time
        self.host = host
        self.tap = library or Library(time)
        self._gpus = gpus
        self.meter = NvmlMeter(
            Target(device="cuda", count=gpus), library=cast("Counters | None", library), clock=host
        )

    def calls(self) -> int:
        """All calls of NVML so far."""
        return sum(self.rig.calls().values())

    def window(
        self,
        duration_s: float,
        *,
        pause_s: float = 0.37,
        gate: float = 1.0,
        exact: bool = True,
        stall: tuple[float, float] | None = None,
    ) -> Measured:
        """A pause, and a load that is measured.

        Args:
            duration_s: of the load.
            pause_s: before it.
            gate: share of the load; with 0 it goes on being idle.
            exact: as the meter takes it.
            stall: the host doesn't run from a time behind the window's end, for so long.
        """
        self.time.sleep(pause_s)
        calls, times_s = [self.calls()], [self.time.monotonic()]
        token = self.meter.start(exact)
        calls.append(self.calls())
        times_s.append(self.time.monotonic())
        start_s = self.rig.mark(gate)
        self.time.sleep(duration_s)
        end_s = self.rig.mark(0)
        if stall is not None:
            self.host.stall(end_s + stall[0], stall[1])
        calls.append(self.calls())
        times_s.append(self.time.monotonic())
        readings = self.meter.stop(token, start_s, end_s)
        calls.append(self.calls())
        times_s.append(self.time.monotonic())
        # Settled by then, but not in the next window.
        truths = [self.rig.truth(gpu) for gpu in range(self._gpus)]
        late_s = end_s + 5
        return Measured(
            readings=readings,
            exact_j=[truth.energy(start_s, end_s) for truth in truths],
            to_idle_j=[
                truth.energy(start_s, late_s) - truth.idle_w * (late_s - start_s)
                for truth in truths
            ],
            edge_s=times_s[1] - times_s[0] + times_s[3] - times_s[2],
            calls_around=calls[1] - calls[0] + calls[3] - calls[2],
            calls_within=calls[2] - calls[1],
        )


@contextlib.contextmanager
def bench(
    rig: Rig, *, gpus: int = 1, seed: int = 1, stalls: float = 0.0, tapped: bool = False
) -> Iterator[Bench]:
    """A meter on an opened rig, in virtual time.

    Args:
        rig: the machine.
        gpus: how many are measured.
        seed: of the host's chances.
        stalls: the chance of one.
        tapped: whether calls go through a :class:`Library`, ``tap``.
    """
    with rig.virtual_time() as time:
        # At the same time after the epoch in each run, so that they are all alike.
        time.sleep(rig.epoch_ns * 1e-9 + BEGIN_S - time.monotonic())
        library = Library(time) if tapped else None
        made = Bench(rig, time, Host(time, seed, stalls), gpus=gpus, library=library)
        yield made
        made.meter.close()
