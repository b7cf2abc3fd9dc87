"""What the simulated hardware really draws: exact power and energy, in closed form.

Written apart from the C library, and shares nothing with it, so that each is a check of the other.
Times are seconds of ``time.monotonic()``.
"""

from __future__ import annotations

import bisect
import math
import mmap
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Counter", "Marks", "Tail", "Truth", "Wave", "read_stats"]

_Point = tuple[float, float]


# --- the load's power curve ------------------------------------------------------------------


def _square(low: float, high: float, period_s: float, duty: float = 0.5) -> list[_Point]:
    edge_s = duty * period_s
    return [(0.0, high), (edge_s, high), (edge_s, low), (period_s, low)]


def _steps(*numbers: float) -> list[_Point]:
    points: list[_Point] = []
    start_s = 0.0
    for duration_s, power_w in zip(numbers[::2], numbers[1::2], strict=True):
        points += [(start_s, power_w), (start_s + duration_s, power_w)]
        start_s += duration_s
    return points


_SHAPES: dict[str, Callable[..., list[_Point]]] = {
    "const": lambda power_w: [(0.0, power_w), (1.0, power_w)],
    "square": _square,
    "ramp": lambda low, high, period_s: [(0.0, low), (period_s, high)],
    "pwl": lambda *numbers: list(zip(numbers[::2], numbers[1::2], strict=True)),
    "steps": _steps,
}


class Wave:
    """A periodic power curve.

    Args:
        spec: ``const:P``, ``square:low,high,period,duty``, ``ramp:low,high,period``,
            ``sine:mean,amplitude,period``, ``pwl:t,P,t,P,...`` or ``steps:duration,P,...``, in
            watts and seconds.

    Raises:
        ValueError: no such kind, or not its numbers.
    """

    def __init__(self, spec: str) -> None:
        kind, _, rest = spec.partition(":")
        numbers = [float(number) for number in rest.replace(";", ",").split(",")]
        self._sine: tuple[float, float] | None = None
        self._points: list[_Point] = []
        if kind == "sine":
            mean_w, amplitude_w, self.period_s = numbers
            self._sine = mean_w, amplitude_w
        elif kind in _SHAPES:
            self._points = _SHAPES[kind](*numbers)
            self.period_s = self._points[-1][0]
        else:
            raise ValueError(f"no such wave: {spec}")
        self._lines = list(zip(self._points, self._points[1:], strict=False))

    def power(self, time_s: float) -> float:
        """Watts at a time of the wave's own axis; at a jump, those after it."""
        if self._sine:
            mean_w, amplitude_w = self._sine
            return mean_w + amplitude_w * math.sin(math.tau * time_s / self.period_s)
        within_s = time_s - math.floor(time_s / self.period_s) * self.period_s
        for (start_s, start_w), (end_s, end_w) in self._lines:
            if start_s <= within_s < end_s:
                return start_w + (end_w - start_w) * (within_s - start_s) / (end_s - start_s)
        return self._points[-1][1]

    def energy(self, start_s: float, end_s: float) -> float:
        """Joules between two times of the wave's own axis."""
        if self._sine:
            mean_w, amplitude_w = self._sine
            omega = math.tau / self.period_s
            swing = math.cos(omega * start_s) - math.cos(omega * end_s)
            return mean_w * (end_s - start_s) + amplitude_w / omega * swing
        return self._from_origin(end_s) - self._from_origin(start_s)

    def _from_origin(self, time_s: float) -> float:
        periods = math.floor(time_s / self.period_s)
        within_s = time_s - periods * self.period_s
        whole_j = part_j = 0.0
        for (start_s, start_w), (end_s, end_w) in self._lines:
            width_s = end_s - start_s
            whole_j += (start_w + end_w) / 2 * width_s
            share = min(max(within_s - start_s, 0.0) / width_s, 1.0) if width_s else 0.0
            part_j += (start_w + (end_w - start_w) * share / 2) * share * width_s
        return periods * whole_j + part_j


@dataclass(frozen=True, slots=True)
class Tail:
    """How power goes back to idle after the load.

    Attributes:
        duration_s: until it is at idle; 0 is at once.
        shape: ``linear``; ``exponential``, with a time constant of a quarter of the duration, and
            cut off at its end (where 1.8 % are left); ``steps``: three of equal length, with 3/4,
            2/4 and 1/4 of what the load drew above idle.
    """

    duration_s: float = 0.0
    shape: str = "linear"

    def share(self, since_s: float) -> float:
        """Share of the load's power above idle that is still drawn."""
        if not 0 <= since_s < self.duration_s:
            return 0.0
        if self.shape == "linear":
            return 1 - since_s / self.duration_s
        if self.shape == "exponential":
            return math.exp(-since_s / (self.duration_s / 4))
        return (0.75, 0.5, 0.25)[min(int(3 * since_s / self.duration_s), 2)]

    def integral(self, since_s: float) -> float:
        """Integral of that share from the end of the load, in seconds."""
        until_s = min(max(since_s, 0.0), self.duration_s)
        if until_s == 0:
            return 0.0
        if self.shape == "linear":
            return until_s - until_s**2 / (2 * self.duration_s)
        if self.shape == "exponential":
            tau_s = self.duration_s / 4
            return tau_s * (1 - math.exp(-until_s / tau_s))
        third_s = self.duration_s / 3
        parts = (
            level * min(max(until_s - number * third_s, 0.0), third_s)
            for number, level in enumerate((0.75, 0.5, 0.25))
        )
        return sum(parts)


# --- when there is load ----------------------------------------------------------------------

_HEADER = struct.Struct("<8sII")
_MARK = struct.Struct("<qd")
_COUNT_OFFSET = 8


class Marks:
    """The file in which a workload marks when its load begins and ends.

    It is shared by the workload, the simulated hardware and the truth, in any process.

    Args:
        path: the file.
        capacity: most marks that it can hold.
        create: make it anew; False opens one that is there.
    """

    def __init__(self, path: Path, capacity: int = 65536, create: bool = True) -> None:
        if create:
            with path.open("wb") as file:
                file.write(_HEADER.pack(b"SIMMARK1", 0, capacity))
                file.truncate(_HEADER.size + capacity * _MARK.size)
        self.path = path
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._capacity = _HEADER.unpack_from(self._map)[2]
        self._read: list[tuple[int, float]] = []

    def mark(self, gate: float, time_ns: int | None = None) -> int:
        """Append a mark, after all others in time.

        Args:
            gate: 0 ends the load, 1 begins all of it, 0.5 half of it.
            time_ns: of ``time.monotonic_ns()``; now where not given. It may lie in the future.

        Returns:
            The time of the mark.
        """
        marks = self.entries()
        if len(marks) == self._capacity:
            raise ValueError(f"no room for more than {self._capacity} marks")
        time_ns = time.monotonic_ns() if time_ns is None else time_ns
        if marks and time_ns < marks[-1][0]:
            raise ValueError("a mark must not lie before the one before it")
        _MARK.pack_into(self._map, _HEADER.size + len(marks) * _MARK.size, time_ns, gate)
        # Readers look at the count first: the mark must be there when it says so.
        struct.pack_into("<I", self._map, _COUNT_OFFSET, len(marks) + 1)
        return time_ns

    def entries(self) -> list[tuple[int, float]]:
        """All marks: nanoseconds of ``time.monotonic_ns()``, and gate. Not to be changed."""
        count = _HEADER.unpack_from(self._map)[1]
        for number in range(len(self._read), count):
            self._read.append(_MARK.unpack_from(self._map, _HEADER.size + number * _MARK.size))
        return self._read

    def close(self) -> None:
        """Give the file back."""
        self._map.close()


# --- what is drawn ---------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Truth:
    """Exact power and energy of one device.

    Attributes:
        wave: spec of the load's power curve.
        idle_w: without load.
        gated: load only between marks; False is load at all times.
        origin: ``mark``: each load begins the wave anew; ``epoch``: it runs on from the epoch.
        epoch_ns: of ``time.monotonic_ns()``.
        marks: when there is load.
        phase_s: added to the wave's time.
        tail: what follows a load.
    """

    wave: str
    idle_w: float = 70.0
    gated: bool = True
    origin: str = "mark"
    epoch_ns: int = 0
    marks: Marks | None = None
    phase_s: float = 0.0
    tail: Tail = Tail()
    _wave: Wave = field(init=False, repr=False)
    _starts_s: list[float] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        self._wave = Wave(self.wave)

    def power(self, time_s: float) -> float:
        """Watts at a time."""
        at_s = self._since_epoch(time_s)
        if not self.gated or self.marks is None:
            return self._wave.power(at_s + self.phase_s)
        number = bisect.bisect_right(self._starts(), at_s) - 1
        return self.idle_w + self._above_idle_w(number, at_s)

    def energy(self, start_s: float, end_s: float) -> float:
        """Joules between two times."""
        start_s, end_s = self._since_epoch(start_s), self._since_epoch(end_s)
        if not self.gated or self.marks is None:
            return self._wave.energy(start_s + self.phase_s, end_s + self.phase_s)
        starts = self._starts()
        first = bisect.bisect_right(starts, start_s) - 1
        last = bisect.bisect_right(starts, end_s) - 1
        energy_j = self.idle_w * (end_s - start_s)
        for number in range(max(first, 0), last + 1):
            begin_s = max(starts[number], start_s)
            finish_s = end_s if number == last else starts[number + 1]
            energy_j += self._above_idle_j(number, begin_s, finish_s)
        return energy_j

    def _since_epoch(self, time_s: float) -> float:
        return time_s - self.epoch_ns * 1e-9

    def _starts(self) -> list[float]:
        """Times of all marks since the epoch, in seconds."""
        assert self.marks is not None
        for time_ns, _ in self.marks.entries()[len(self._starts_s) :]:
            self._starts_s.append((time_ns - self.epoch_ns) * 1e-9)
        return self._starts_s

    def _gate(self, number: int) -> float:
        assert self.marks is not None
        return self.marks.entries()[number][1] if number >= 0 else 0.0

    def _load_s(self, number: int, at_s: float) -> float:
        """Time on the wave's axis."""
        origin_s = self._starts_s[number] if self.origin == "mark" else 0.0
        return at_s - origin_s + self.phase_s

    def _closed_by(self, number: int) -> int:
        """The mark that ended the load, which another that says the same doesn't do again."""
        while number > 0 and not self._gate(number - 1):
            number -= 1
        return number

    def _above_idle_w(self, number: int, at_s: float) -> float:
        if number < 0:
            return 0.0
        if gate := self._gate(number):
            return gate * (self._wave.power(self._load_s(number, at_s)) - self.idle_w)
        closed = self._closed_by(number)
        share = self.tail.share(at_s - self._starts_s[closed])
        return share and share * self._above_idle_w(closed - 1, self._starts_s[closed])

    def _above_idle_j(self, number: int, start_s: float, end_s: float) -> float:
        if gate := self._gate(number):
            load_s = self._load_s(number, start_s), self._load_s(number, end_s)
            return gate * (self._wave.energy(*load_s) - self.idle_w * (end_s - start_s))
        closed = self._closed_by(number)
        closed_s = self._starts_s[closed]
        seconds = self.tail.integral(end_s - closed_s) - self.tail.integral(start_s - closed_s)
        return seconds and seconds * self._above_idle_w(closed - 1, closed_s)


# --- what a counter shows --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """The energy counter of a simulated GPU that follows the truth.

    Attributes:
        truth: what it counts.
        period_s: between ticks.
        phase_s: of the first tick after the epoch.
        quantum_mj: it moves in steps of this.
        base_mj: at the epoch.
        bits: width, beyond which it wraps; 0 is never.
        reset_s: seconds after the epoch at which it begins again at 0; 0 is never.
    """

    truth: Truth
    period_s: float
    phase_s: float
    quantum_mj: float = 1.0
    base_mj: float = 0.0
    bits: int = 0
    reset_s: float = 0.0

    def tick(self, time_s: float) -> float:
        """Time of the last tick at or before a time."""
        origin_s = self.truth.epoch_ns * 1e-9 + self.phase_s
        return origin_s + math.floor((time_s - origin_s) / self.period_s) * self.period_s

    def value_mj(self, time_s: float) -> int:
        """What it shows, in millijoules."""
        tick_s, epoch_s = self.tick(time_s), self.truth.epoch_ns * 1e-9
        was_reset = 0 < self.reset_s <= tick_s - epoch_s
        start_s = epoch_s + self.reset_s if was_reset else epoch_s
        raw_mj = self.truth.energy(start_s, tick_s) * 1000 + (0 if was_reset else self.base_mj)
        value = int(math.floor(raw_mj / self.quantum_mj) * self.quantum_mj)
        return value % 2**self.bits if self.bits else value


# --- how often it was asked ------------------------------------------------------------------

_STATS_HEADER_BYTES = 64
_STATS_SLOT = struct.Struct("<56sQ")


def read_stats(path: Path) -> dict[str, int]:
    """Calls of each function of NVML by all processes that shared a file of counters.

    Functions that were never called are left out; a file that isn't there counts nothing.
    """
    if not path.exists():
        return {}
    content = path.read_bytes()
    slots = content[_STATS_HEADER_BYTES:]
    whole = slots[: len(slots) // _STATS_SLOT.size * _STATS_SLOT.size]
    return {
        name.rstrip(b"\0").decode(): calls
        for name, calls in _STATS_SLOT.iter_unpack(whole)
        if calls
    }
