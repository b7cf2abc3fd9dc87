"""One NVIDIA GPU as its energy meter sees it: counter, sensor, and what was learnt of them."""
# ruff: noqa: N802  the names of NVML's functions are NVML's own

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Sequence
from typing import Any, Protocol

from pytest_llem.gpus import Gpu
from pytest_llem.meters import ticks
from pytest_llem.meters.ticks import Clock, CounterLost, Look, Tick, Track
from pytest_llem.nvml import FIELD_POWER_INSTANT, Nvml, reason_of

__all__ = ["Board", "Counters", "probe", "recover"]

_UNIT_J = 0.001
_BITS_32 = 2**32
_ABSENT = {3, 13}
"""NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_FUNCTION_NOT_FOUND"""

_UNKNOWN_LIMIT_W = 1000.0

_TOTAL_POWER_SAMPLES = 0
"""NVML_TOTAL_POWER_SAMPLES"""

_ALL_LOAD_S = 0.03
"""Samples before are of a sensor that still sees some of the time before the window."""

_GAP = 3.5
"""Periods between two ticks that are still neighbours: some go unseen on a busy host."""

_MIG = (
    "the GPU is divided (MIG), and NVML tells of all instances together; measure a whole GPU:"
    " nvidia-smi -i {index} -mig 0"
)


class Counters(Nvml, Protocol):
    """What is used of ``pynvml`` here and nowhere else."""

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object, /) -> int:
        """Energy since the driver was loaded, in millijoules."""

    def nvmlDeviceGetSamples(self, handle: object, kind: int, after_us: int, /) -> Any:
        """The driver's own last samples: their type, and value and time of each."""


def probe(boards: Sequence[Board], clock: Clock) -> None:
    """Find period and phase of the counters of some GPUs, all at the same time."""
    tracks = {board.track: board for board in boards if board.track and not board.problem}
    for track, problem in ticks.probe(list(tracks), clock).items():
        tracks[track].problem = problem


def recover(boards: Sequence[Board], clock: Clock) -> None:
    """Look again for counters that were lost: an error need not be for good."""
    lost = [board for board in boards if board.lost]
    for board in lost:
        board.open()
    probe(lost, clock)
    for board in lost:
        board.lost = bool(board.problem)


class Board:
    """A GPU.

    Attributes:
        domain: ``gpu:<uuid>``.
        track: of its counter; None where that can't be read.
        problem: why its energy can't be told by a counter now; empty where it can.
        lost: it could be told before, and might be again.
        lacks_counter: that is the reason: the GPU has none.
        sees_part: by how many windows more its counter was seen to see only part of the time,
            than to see all of it.
        suspected: whether a window showed no load in its last period.
        rest_s: when the last window ended.
    """

    def __init__(self, gpu: Gpu, library: Counters, clock: Clock) -> None:
        """Find out what can be read, with a call of each kind."""
        self._library = library
        self._clock = clock
        self._gpu = gpu
        self._handle: object = None
        self.domain = f"gpu:{gpu.uuid}"
        self.track: Track | None = None
        self.sees_part = 0
        self.suspected = False
        self.rest_s = -math.inf
        self.lacks_counter = self.lost = False
        self.problem = ""
        self.open()

    def open(self) -> None:
        """Find out what can be read; once more where it was lost on the way."""
        self.track = None
        try:
            self.problem = self._open(self._gpu)
        except self._library.NVMLError as error:
            self.lacks_counter = getattr(error, "value", None) in _ABSENT
            self.problem = f"the energy counter can't be read: {reason_of(error)}"
        if not self.problem:
            self.track = Track(
                self._read,
                unit_j=_UNIT_J,
                modulus=_BITS_32,
                limit_w=self._gpu.power_limit_w or _UNKNOWN_LIMIT_W,
                clock=self._clock,
            )
            self.lost = False

    def lose(self, reason: str) -> None:
        """Its counter can't be read any more: what was seen of it tells nothing of what follows."""
        self.problem, self.lost = reason, True

    def _open(self, gpu: Gpu) -> str:
        divided = _MIG.format(index=gpu.index)
        if gpu.uuid.startswith("MIG-"):
            return divided
        self._handle = self._library.nvmlDeviceGetHandleByUUID(gpu.uuid)
        with contextlib.suppress(self._library.NVMLError):
            if self._library.nvmlDeviceGetMigMode(self._handle)[0]:
                return divided
        self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        return ""

    def _read(self) -> int:
        try:
            return self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except self._library.NVMLError as error:
            raise CounterLost(reason_of(error)) from error

    def about(self, span_s: float | None) -> dict[str, Any]:
        """What is known of it, as plain data."""
        if self.lacks_counter:
            return {"method": "power", "span_s": span_s}
        if self.track is None or self.problem:
            return {"method": None, "reason": self.problem}
        sees = "unknown" if self.sees_part == 0 else "part" if self.sees_part > 0 else "all"
        return {
            "method": "counter",
            "period_s": self.track.period_s,
            "step_j": self.track.step_j,
            "sees": sees,
            "instant_power": self.instant_w() is not None,
        }

    def vote(self, sees: str) -> None:
        """Note what a window told of the counter: that it sees ``all`` of the time, or ``part``."""
        self.sees_part += {"part": 1, "all": -1}.get(sees, 0)
        self.suspected |= sees == "either"

    def look(self) -> Look | None:
        """Read the counter now; None, and a problem, where it can't be read."""
        if self.track is None or self.problem:
            return None
        try:
            self.track.look()
        except CounterLost as error:
            self.lose(str(error))
            return None
        return self.track.last

    def instant_w(self) -> float | None:
        """What the sensor sees now; None where the GPU doesn't tell."""
        with contextlib.suppress(self._library.NVMLError):
            (value,) = self._library.nvmlDeviceGetFieldValues(self._handle, [FIELD_POWER_INSTANT])
            if value.nvmlReturn == 0:
                return float(value.value.uiVal) / 1000
        return None

    def varies_w(self, start_s: float, end_s: float) -> float | None:
        """How much power varied over a window that has just ended, by the driver's own samples.

        Returns:
            Standard deviation in watts; None where there are too few samples.
        """
        try:
            _, samples = self._library.nvmlDeviceGetSamples(self._handle, _TOTAL_POWER_SAMPLES, 0)
        except self._library.NVMLError:
            return None
        if not samples:
            return None
        # Their times are of the wall clock: only their distances are used.
        now_s, newest_us = self._clock.monotonic(), max(sample.timeStamp for sample in samples)
        times = [now_s - (newest_us - sample.timeStamp) * 1e-6 for sample in samples]
        powers = [
            sample.sampleValue.uiVal / 1000
            for sample, time_s in zip(samples, times, strict=True)
            if start_s + _ALL_LOAD_S <= time_s <= end_s
        ]
        return statistics.pstdev(powers) if len(powers) > 1 else None

    def rest(self) -> list[Tick]:
        """The last ticks that follow each other without a gap, since the window before."""
        run: list[Tick] = []
        track = self.track
        for tick in reversed(track.ticks if track else ()):
            gap_s = run[0].time_s - tick.time_s if run else 0.0
            if tick.lo_s < self.rest_s or (track and gap_s > _GAP * track.period_s):
                break
            run.insert(0, tick)
        return run

    def behind(self, end: Look) -> list[Tick]:
        """The ticks seen after a read."""
        return [tick for tick in (self.track.ticks if self.track else ()) if tick.lo_s >= end.lo_s]
