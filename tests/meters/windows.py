"""Windows on simulated GPUs whose energy is known, measured by the real meter in virtual time."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_llem.extensions import Target
from pytest_llem.meters.gpu_board import Counters
from pytest_llem.meters.nvml import NvmlMeter
from pytest_llem.meters.ticks import Clock
from pytest_llem.records import Reading
from tests.rig.nvml import Rig, Settings, VirtualClock

__all__ = ["QUICK_CALLS", "Bench", "Host", "Measured", "bench"]

QUICK_CALLS: Settings = {"latency_us": 20}
"""What a call of NVML takes at least."""

_READ = "nvmlDeviceGetTotalEnergyConsumption"


class Host:
    """A host's clock: each nap is a little too long, and now and then it doesn't run at all.

    Args:
        time: the virtual clock.
        rng: where the chances come from.
        stalls: the chance of a stall at each nap; a hundredth of it at each look at the clock.
        longest_s: of the stalls.
    """

    def __init__(
        self,
        time: VirtualClock,
        rng: random.Random,
        stalls: float = 0.0,
        longest_s: float = 0.04,
    ) -> None:
        self._time = time
        self._rng = rng
        self._stalls = stalls
        self._longest_s = longest_s
        self._due: list[tuple[float, float]] = []

    def stall(self, at_s: float, seconds: float) -> None:
        """Don't run for a while from a time on; sleeping then doesn't make that shorter."""
        self._due.append((at_s, at_s + seconds))

    def _run(self, chance: float) -> None:
        if chance and self._rng.random() < chance:
            self._time.sleep(self._rng.uniform(0.003, self._longest_s))
        now_s = self._time.monotonic()
        for begin_s, end_s in self._due:
            if begin_s <= now_s < end_s:
                self._time.sleep(end_s - now_s)

    def monotonic(self) -> float:
        self._run(self._stalls / 100)
        return self._time.monotonic()

    def sleep(self, seconds: float) -> None:
        self._time.sleep(seconds + self._rng.uniform(20e-6, 120e-6))
        self._run(self._stalls)


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
    start_s: float
    end_s: float
    edge_s: float
    calls_around: int
    calls_within: int

    @property
    def reading(self) -> Reading:
        """Of the first GPU."""
        return self.readings[0]

    @property
    def error_j(self) -> float:
        """Of the first GPU's energy; it must be known."""
        assert self.reading.energy_j is not None, self.reading.reason
        return self.reading.energy_j - self.exact_j[0]

    @property
    def error(self) -> float:
        """The same as a part of the exact energy."""
        return self.error_j / self.exact_j[0]

    def holds(self, sigmas: float = 1.96, gpu: int = 0) -> bool:
        """Whether the exact energy lies within the stated interval."""
        reading = self.readings[gpu]
        assert reading.energy_j is not None, reading.reason
        assert reading.uncertainty_j is not None
        return abs(reading.energy_j - self.exact_j[gpu]) <= sigmas * reading.uncertainty_j


class Bench:
    """A meter, and the machine that it measures."""

    def __init__(
        self,
        rig: Rig,
        time: VirtualClock,
        *,
        gpus: int = 1,
        host: Clock | None = None,
        library: Counters | None = None,
    ) -> None:
        self.rig = rig
        self.time = time
        self.host: Clock = host or time
        self._gpus = gpus
        target = Target(device="cuda", count=gpus)
        self.meter = NvmlMeter(target, library=library, clock=self.host)

    def calls(self) -> int:
        """All calls of NVML so far."""
        return sum(self.rig.calls().values())

    def window(
        self, duration_s: float, *, pause_s: float = 0.37, gate: float = 1.0, exact: bool = True
    ) -> Measured:
        """A pause, and a load that is measured; without a gate it goes on being idle."""
        self.time.sleep(pause_s)
        calls = [self.calls()]
        times_s = [self.host.monotonic()]
        token = self.meter.start(exact)
        calls.append(self.calls())
        times_s.append(self.host.monotonic())
        start_s = self.rig.mark(gate)
        self.time.sleep(duration_s)
        end_s = self.rig.mark(0)
        calls.append(self.calls())
        times_s.append(self.host.monotonic())
        readings = self.meter.stop(token, start_s, end_s)
        calls.append(self.calls())
        times_s.append(self.host.monotonic())
        truths = [self.rig.truth(gpu) for gpu in range(self._gpus)]
        return Measured(
            readings=readings,
            exact_j=[truth.energy(start_s, end_s) for truth in truths],
            to_idle_j=[
                truth.energy(start_s, end_s + 5) - truth.idle_w * (end_s + 5 - start_s)
                for truth in truths
            ],
            start_s=start_s,
            end_s=end_s,
            edge_s=times_s[1] - times_s[0] + times_s[3] - times_s[2],
            calls_around=calls[1] - calls[0] + calls[3] - calls[2],
            calls_within=calls[2] - calls[1],
        )


@contextlib.contextmanager
def bench(
    rig: Rig,
    *,
    gpus: int = 1,
    seed: int = 1,
    stalls: float = 0.0,
    library: Counters | None = None,
) -> Iterator[Bench]:
    """A meter on an opened rig, in virtual time."""
    with rig.virtual_time() as time:
        host = Host(time, random.Random(seed), stalls)
        made = Bench(rig, time, gpus=gpus, host=host, library=library)
        yield made
        made.meter.close()
