"""The energy of NVIDIA GPUs: their counters, read around a window and never within it.

A GPU's energy counter is renewed every 20 or 100 ms. Windows are aligned to its ticks (``ticks``,
``edges``), so a window of a tenth of a second is as exact as one of a minute.
"""
# ruff: noqa: N802  the names of NVML's functions are NVML's own

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from pytest_llem import gpus
from pytest_llem.extensions import Target
from pytest_llem.meters import edges, ticks
from pytest_llem.meters.ticks import Clock, CounterLost, Look, Tick, Track
from pytest_llem.records import Quality, Reading

__all__ = ["NvmlMeter"]

GAIN = 0.05
"""Relative systematic uncertainty of the sensors behind counter and power readings: ±5 % by
NVIDIA's documentation of nvmlDeviceGetPowerUsage; it doesn't shrink with longer windows."""

_UNIT_J = 0.001
_BITS_32 = 2**32
_BEFORE = 4
_SHORT = 0.01
_PATIENCE_S = 1.0
_GAP = 3.5
"""Periods between two ticks that are still neighbours: some go unseen on a busy host."""

_MIG = (
    "the GPU is divided (MIG), and its counter tells of all instances together; use a whole GPU:"
    " nvidia-smi -i {index} -mig 0"
)


class Counters(gpus.Nvml, Protocol):
    """What is used of ``pynvml`` beside finding GPUs."""

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object, /) -> int:
        """Energy since the driver was loaded, in millijoules."""

    def nvmlDeviceGetPowerUsage(self, handle: object, /) -> int:
        """Power in milliwatts; an average over a time that depends on the model."""

    def nvmlDeviceGetMigMode(self, handle: object, /) -> Sequence[int]:
        """Whether the GPU is divided: now, and after the next reset."""


@dataclass(eq=False)
class _Board:
    """A GPU and what is known of its counter.

    Attributes:
        problem: why it can't be read, for good.
        rest_s: when the last window ended.
    """

    domain: str
    handle: Any
    track: Track | None = None
    problem: str = ""
    rest_s: float = -math.inf


@dataclass
class _Start:
    """What a window began with.

    Attributes:
        before: of each board, the ticks up to the start.
        looks: of each board, the last read.
    """

    exact: bool
    before: dict[str, list[Tick]] = field(default_factory=dict)
    looks: dict[str, Look] = field(default_factory=dict)


class NvmlMeter:
    """Reads ``gpu:<uuid>`` of the target's GPUs."""

    name = "nvml"
    estimates = False

    def __init__(
        self, target: Target, library: Counters | None = None, clock: Clock = time
    ) -> None:
        """Find the target's GPUs and probe their counters, all at the same time.

        Args:
            target: what to measure.
            library: ``pynvml``, or a test's own.
            clock: the module ``time``, or a test's own.
        """
        self._clock = clock
        self.domains: Sequence[str] = ()
        self.reason = ""
        self._boards: list[_Board] = []
        self._library: Counters | None = None
        if target.device != "cuda":
            self.reason = "it reads NVIDIA GPUs only"
            return
        found = gpus.look(library)
        wanted = found.gpus if target.count is None else found.gpus[: target.count]
        if not wanted:
            self.reason = found.reason
            return
        try:
            self._library = cast(Counters, gpus.bindings()) if library is None else library
            self._library.nvmlInit()
        except Exception as error:
            self.reason = str(error)
            return
        self._boards = [self._board(gpu) for gpu in wanted]
        self.domains = tuple(board.domain for board in self._boards)
        self._probe()

    def _board(self, gpu: gpus.Gpu) -> _Board:
        """A GPU with a track of its counter, or the reason why it has none."""
        library = self._library
        assert library is not None
        board = _Board(domain=f"gpu:{gpu.uuid}", handle=None)
        if gpu.uuid.startswith("MIG-"):
            board.problem = _MIG.format(index=gpu.index)
            return board
        try:
            board.handle = library.nvmlDeviceGetHandleByUUID(gpu.uuid)
            with contextlib.suppress(library.NVMLError):
                if library.nvmlDeviceGetMigMode(board.handle)[0]:
                    board.problem = _MIG.format(index=gpu.index)
                    return board
            library.nvmlDeviceGetTotalEnergyConsumption(board.handle)
        except library.NVMLError as error:
            board.problem = f"the energy counter can't be read: {gpus.reason_of(error)}"
            return board
        board.track = Track(
            self._counter(board.handle),
            unit_j=_UNIT_J,
            modulus=_BITS_32,
            limit_w=gpu.power_limit_w or 1000.0,
            clock=self._clock,
        )
        return board

    def _counter(self, handle: Any) -> Callable[[], int]:
        library = self._library
        assert library is not None

        def read() -> int:
            try:
                return library.nvmlDeviceGetTotalEnergyConsumption(handle)
            except library.NVMLError as error:
                raise CounterLost(gpus.reason_of(error)) from error

        return read

    def _probe(self) -> None:
        tracks = {board.track: board for board in self._boards if board.track}
        for track, problem in ticks.probe(list(tracks), self._clock).items():
            tracks[track].problem = problem

    @property
    def _readable(self) -> dict[Track, _Board]:
        return {b.track: b for b in self._boards if b.track is not None and not b.problem}

    def start(self, exact: bool = True) -> _Start:
        """Wait until power is at rest and a counter has just ticked, four periods at most."""
        token = _Start(exact=exact)
        boards = self._readable
        if exact and boards:
            since_s = self._clock.monotonic()

            def enough(track: Track) -> bool:
                run = _neighbours(track, boards[track].rest_s)
                if not run or run[-1].lo_s < since_s:
                    return False
                fresh = [tick for tick in run if tick.lo_s >= since_s]
                found = edges.slopes(run, track.period_s, track.unit_j)
                at_rest = len(found) > 1 and found[-1].agrees(found[-2])
                return at_rest or len(fresh) >= _BEFORE

            self._gather(boards, enough, _BEFORE + 2)
        for track, board in boards.items():
            token.before[board.domain] = _neighbours(track, board.rest_s)
            if not exact:
                self._look(track, board)
            if track.last is not None:
                token.looks[board.domain] = track.last
        return token

    def stop(self, token: _Start, start_s: float, end_s: float) -> Sequence[Reading]:
        """Read the counters at once, wait until power is at rest, and attribute the energy."""
        boards = self._readable
        ends: dict[str, Look] = {}
        for track, board in boards.items():
            self._look(track, board)
            if track.last is not None:
                ends[board.domain] = track.last
                board.rest_s = track.last.lo_s
        if token.exact:
            self._settle(token, boards, ends)
        return [self._reading(board, token, ends, start_s, end_s) for board in self._boards]

    def _settle(self, token: _Start, boards: dict[Track, _Board], ends: dict[str, Look]) -> None:
        """Watch ticks behind the window until the power is at rest."""
        before = {
            track: edges.slopes(token.before.get(board.domain, []), track.period_s, track.unit_j)
            for track, board in boards.items()
        }

        def enough(track: Track) -> bool:
            behind = _behind(track, ends[boards[track].domain])
            found = edges.slopes(behind, track.period_s, track.unit_j)
            return len(behind) >= edges.AFTER or edges.is_settled(before[track], found)

        self._gather(boards, enough, edges.AFTER + 2)

    def _gather(
        self, boards: dict[Track, _Board], enough: Callable[[Track], bool], periods: int
    ) -> None:
        def lost(track: Track, error: CounterLost) -> None:
            boards[track].problem = str(error)

        # Longer where the host is so busy that ticks go unseen.
        longest_s = max(_PATIENCE_S, periods * max((t.period_s for t in boards), default=0.0))
        live = [track for track, board in boards.items() if not board.problem]
        ticks.gather(live, enough, lost, longest_s, self._clock)

    def _look(self, track: Track, board: _Board) -> None:
        try:
            track.look()
        except CounterLost as error:
            board.problem = str(error)

    def _reading(
        self,
        board: _Board,
        token: _Start,
        ends: dict[str, Look],
        start_s: float,
        end_s: float,
    ) -> Reading:
        track, domain = board.track, board.domain
        if board.problem or track is None:
            return self._unmeasured(domain, board.problem)
        if not token.exact:
            return self._rough(track, domain, token.looks.get(domain), ends.get(domain))
        behind = _behind(track, ends[domain])
        before = token.before.get(domain, [])
        if not before or len(behind) < 2:
            return self._unmeasured(
                domain,
                "the energy counter stopped, or the host was too busy to see it: no tick was seen"
                " around the window",
            )
        found = edges.attribute(
            edges.Evidence(
                start_s=start_s,
                end_s=end_s,
                before=before,
                at_end=ends[domain],
                after=behind,
                period_s=track.period_s,
                unit_j=track.unit_j,
            )
        )
        if found.energy_j <= 0:
            return self._unmeasured(domain, "the window is too short for its energy to be told")
        quality, reason = _judged(found, end_s - start_s, track.period_s)
        return Reading(
            domain=domain,
            meter=self.name,
            method="counter",
            energy_j=found.energy_j,
            uncertainty_j=found.uncertainty_j,
            systematic=GAIN,
            quality=quality,
            reason=reason,
            to_idle=found.to_idle,
            before_w=found.before.power_w if found.before else None,
        )

    def _rough(self, track: Track, domain: str, start: Look | None, end: Look | None) -> Reading:
        """The difference of two reads, each up to a period old."""
        if start is None or end is None:
            return self._unmeasured(domain, "the energy counter wasn't read")
        energy_j = end.joules - start.joules
        duration_s = max(end.hi_s - start.lo_s, 1e-9)
        return Reading(
            domain=domain,
            meter=self.name,
            method="counter",
            energy_j=energy_j,
            uncertainty_j=energy_j / duration_s * track.period_s / 6**0.5,
            systematic=GAIN,
            quality="short",
            reason=f"not aligned to the counter's ticks, {track.period_s * 1e3:.3g} ms apart",
        )

    def _unmeasured(self, domain: str, reason: str) -> Reading:
        return Reading(
            domain=domain, meter=self.name, method="counter", quality="unmeasured", reason=reason
        )

    def close(self) -> None:
        """Close NVML."""
        library, self._library = self._library, None
        if library is not None:
            with contextlib.suppress(library.NVMLError):
                library.nvmlShutdown()


def _neighbours(track: Track, since_s: float) -> list[Tick]:
    """The last ticks that follow each other without a gap, since the window before."""
    run: list[Tick] = []
    for tick in reversed(track.ticks):
        if tick.lo_s < since_s or (run and run[0].time_s - tick.time_s > _GAP * track.period_s):
            break
        run.insert(0, tick)
    return run


def _behind(track: Track, end: Look) -> list[Tick]:
    """The ticks seen after a read."""
    return [tick for tick in track.ticks if tick.lo_s >= end.lo_s]


def _judged(
    found: edges.Attributed, duration_s: float, period_s: float
) -> tuple[Quality, str | None]:
    """How far an energy can be trusted, and why not further."""
    relative = found.uncertainty_j / found.energy_j
    if relative > _SHORT:
        why = "a load that decays behind it" if found.tail_j > found.uncertainty_j else "its ticks"
        return "short", (
            f"±{relative:.1%}: a window of {duration_s:.3g} s is short for {why}, with a counter"
            f" renewed every {period_s * 1e3:.3g} ms"
        )
    return "ok", None
