"""Gaps between measurements: how long, and until when a device has cooled down.

A warm device draws more power for the same work, so that each measurement would depend on the one
before it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pytest_llem.gpus import look, temperatures
from pytest_llem.nvml import Nvml

__all__ = [
    "TOLERANCE_C",
    "Cooling",
    "Place",
    "Tell",
    "Thermometer",
    "cool",
    "cpu_thermometer",
    "gap_s",
    "gpu_thermometer",
    "pause",
]

TOLERANCE_C = 1.0
"""How close to idle is cool enough. Most sensors tell whole degrees, so that two readings of one
temperature can differ by one."""

_POLL_S = 0.5
"""Often enough for a countdown; asking more often would only keep the device awake."""

_DRIVERS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
_WHOLE = re.compile(r"(Package|Physical) id \d+|Tctl|Tdie")
"""Labels of a whole processor; its other inputs are of single cores and dies."""

_ZONES = ("x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc-thermal")
_NO_GAP = ", so there is no thermal gap; for a fixed one, set gaps to a number of seconds"

_COLDEST_MC, _HOTTEST_MC = -50_000, 150_000
"""Millidegrees at which no chip works: what an absent or broken sensor tells."""

Place = tuple[str, str, int]
"""Study, experiment and cycle of a measurement."""

Tell = Callable[[float, float | None], None]
"""Is told, twice a second, how many seconds are left at most, and the temperature, if any."""


class Thermometer(Protocol):
    """Tells how warm a device is."""

    def celsius(self) -> float | None:
        """Temperature now; None where it can't be read now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooling:
    """What came of waiting for a device to cool down.

    Attributes:
        waited_s: how long it was waited for.
        idle_c: temperature to come back to; None where it isn't known.
        before_c: temperature before; None where it could not be read.
        after_c: temperature after; None where it could not be read.
        reached: whether it is within :data:`TOLERANCE_C` of idle, or below.
        reason: why it isn't; empty where it is.
    """

    waited_s: float
    idle_c: float | None
    before_c: float | None
    after_c: float | None
    reached: bool
    reason: str = ""


def gap_s(
    previous: Place | None,
    current: Place,
    between_experiments_s: float,
    between_cycles_s: float,
) -> float:
    """How long the gap before a measurement may be.

    Where experiment and cycle both change, the longer one counts, never the sum. There is none
    before the first measurement, nor before one that is made again.

    Args:
        previous: the measurement before; None where this is the first.
        current: the one that comes.
        between_experiments_s: gap where the experiment changes, or the study.
        between_cycles_s: gap where the cycle changes.
    """
    if previous is None:
        return 0.0
    experiment = between_experiments_s if previous[:2] != current[:2] else 0.0
    cycle = between_cycles_s if previous[2] != current[2] else 0.0
    return max(experiment, cycle)


def pause(
    seconds: float,
    tell: Tell,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait for a fixed time.

    Args:
        seconds: how long.
        tell: is told how long it still takes; the temperature is None.
        clock: time in seconds.
        sleep: waits some seconds.
    """
    deadline = clock() + seconds
    while (left := deadline - clock()) > 0:
        tell(left, None)
        sleep(min(_POLL_S, left))


def cool(
    thermometer: Thermometer | None,
    idle_c: float | None,
    longest_s: float,
    tell: Tell,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Cooling:
    """Wait until a device is as cool as when it was idle.

    Args:
        thermometer: tells how warm it is; None where nothing does.
        idle_c: its temperature before the first measurement; None where it wasn't read.
        longest_s: wait no longer than this.
        tell: is told how long it may still take, and the temperature.
        clock: time in seconds.
        sleep: waits some seconds.
    """
    before_c = thermometer.celsius() if thermometer else None
    if thermometer is None:
        reason = f"no temperature can be read here{_NO_GAP}"
    elif before_c is None:
        reason = f"the temperature can't be read now{_NO_GAP}"
    elif idle_c is None:
        reason = f"the temperature of the idle device isn't known{_NO_GAP}"
    else:
        return _wait(thermometer, idle_c, before_c, longest_s, tell, clock, sleep)
    return Cooling(
        waited_s=0.0,
        idle_c=idle_c,
        before_c=before_c,
        after_c=before_c,
        reached=False,
        reason=reason,
    )


def _wait(
    thermometer: Thermometer,
    idle_c: float,
    before_c: float,
    longest_s: float,
    tell: Tell,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Cooling:
    now_c: float | None = before_c
    start = time_s = clock()
    deadline = start + longest_s
    while now_c is not None and now_c > idle_c + TOLERANCE_C and time_s < deadline:
        tell(deadline - time_s, now_c)
        sleep(min(_POLL_S, deadline - time_s))
        now_c = thermometer.celsius()
        time_s = clock()
    reason = _shortfall(now_c, idle_c, time_s - start)
    return Cooling(
        waited_s=time_s - start,
        idle_c=idle_c,
        before_c=before_c,
        after_c=now_c,
        reached=not reason,
        reason=reason,
    )


def _shortfall(now_c: float | None, idle_c: float, waited_s: float) -> str:
    """Why a device isn't cool; empty where it is."""
    if now_c is None:
        return (
            f"the temperature could not be read any more after {waited_s:.0f} s, so the gap ended"
            " early; for a fixed one, set gaps to a number of seconds"
        )
    if now_c > idle_c + TOLERANCE_C:
        return (
            f"still {now_c:.0f} °C after {waited_s:.0f} s, {now_c - idle_c:.0f} °C above idle;"
            " allow longer gaps, or look for what else keeps the device busy"
        )
    return ""


# --- thermometers --------------------------------------------------------------------------


def cpu_thermometer(root: Path = Path("/")) -> Thermometer | None:
    """A thermometer of the processors; None where there is none, as in most virtual machines.

    Args:
        root: the directory that stands for ``/``.
    """
    for sensors in _cpu_sensors(root):
        if sensors:
            return _Sysfs(tuple(sensors))
    return None


def gpu_thermometer(
    uuids: Sequence[str] | None = None,
    nvml: Nvml | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Thermometer | None:
    """A thermometer of the hottest of some GPUs; None where one of them can't be read.

    Args:
        uuids: the GPUs; None for all that are visible.
        nvml: ``pynvml``, or a test's own.
        environ: ``CUDA_VISIBLE_DEVICES`` is read from it where ``uuids`` is None.
    """
    if uuids is None:
        uuids = [gpu.uuid for gpu in look(nvml, environ).gpus]
    thermometer = _Gpus(tuple(uuids), nvml)
    return None if thermometer.celsius() is None else thermometer


@dataclass(frozen=True, slots=True)
class _Sysfs:
    """The hottest of some files of the kernel."""

    sensors: tuple[Path, ...]

    def celsius(self) -> float | None:
        readings = [_read_mc(sensor) for sensor in self.sensors]
        # The one that doesn't answer may be the hottest.
        known = [reading for reading in readings if reading is not None]
        return max(known) / 1000 if len(known) == len(readings) else None


@dataclass(frozen=True, slots=True)
class _Gpus:
    """The hottest of some GPUs."""

    uuids: tuple[str, ...]
    nvml: Nvml | None

    def celsius(self) -> float | None:
        readings = temperatures(self.uuids, self.nvml)
        if not readings or not all(_is_sane_mc(reading * 1000) for reading in readings):
            return None
        return max(readings)


def _cpu_sensors(root: Path) -> Iterator[list[Path]]:
    """Files that can be read now, the best kind first; a kind may have none."""
    chips = _named(root / "sys/class/hwmon", "hwmon*/name")
    for driver in _DRIVERS:
        found = [_of_chip(chip) for chip, name in chips if name == driver]
        yield [sensor for sensors in found for sensor in sensors]
    zones = _named(root / "sys/class/thermal", "thermal_zone*/type")
    for kind in _ZONES:
        yield _readable(zone / "temp" for zone, name in zones if name == kind)


def _named(folder: Path, pattern: str) -> list[tuple[Path, str]]:
    """Directories with what the file in them says they are."""
    return [(file.parent, _text(file)) for file in sorted(folder.glob(pattern))]


def _of_chip(chip: Path) -> list[Path]:
    """The inputs of a whole processor; where none is labelled so, all."""
    inputs = _readable(sorted(chip.glob("temp*_input")))
    labels = {sensor: sensor.with_name(sensor.name[: -len("input")] + "label") for sensor in inputs}
    return [file for file in inputs if _WHOLE.fullmatch(_text(labels[file]))] or inputs


def _readable(sensors: Iterator[Path] | Sequence[Path]) -> list[Path]:
    return [sensor for sensor in sensors if _read_mc(sensor) is not None]


def _text(file: Path) -> str:
    """What a file holds; nothing where it can't be read."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _read_mc(sensor: Path) -> int | None:
    """Millidegrees that a sensor tells; None where that is no temperature."""
    try:
        reading = int(_text(sensor))
    except ValueError:
        return None
    return reading if _is_sane_mc(reading) else None


def _is_sane_mc(reading: float) -> bool:
    return _COLDEST_MC < reading < _HOTTEST_MC
