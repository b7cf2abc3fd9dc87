"""Gaps: how long they may be, and waiting until a device is cool."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.runners.thermal import (
    TOLERANCE_C,
    Cooling,
    Place,
    cool,
    cpu_thermometer,
    gap_s,
    gpu_thermometer,
    pause,
)
from tests.builders import UNHURRIED
from tests.fakes import Board, FakeNvml


class Clock:
    """A clock that only sleeping moves, and a list of the sleeps."""

    def __init__(self, start_s: float = 1000.0) -> None:
        self.now_s = start_s
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.sleeps.append(seconds)
        self.now_s += seconds


class Told:
    """What a countdown was told."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, float | None]] = []

    def __call__(self, left_s: float, now_c: float | None) -> None:
        self.lines.append((left_s, now_c))


class Scripted:
    """A thermometer that shows one value after the other, and then the last one for ever."""

    def __init__(self, *values: float | None) -> None:
        self._values = list(values)

    def celsius(self) -> float | None:
        return self._values.pop(0) if len(self._values) > 1 else self._values[0]


# --- how long a gap may be -------------------------------------------------------------------

PLACES = st.tuples(st.sampled_from("st"), st.sampled_from("ab"), st.integers(1, 3))
SECONDS = st.floats(0, 1e6)


@pytest.mark.parametrize(
    ("previous", "current", "expected"),
    [
        (None, ("s", "a", 1), 0),
        (("s", "a", 1), ("s", "b", 1), 60),
        (("s", "a", 1), ("t", "a", 1), 60),
        (("s", "a", 1), ("s", "a", 2), 300),
        (("s", "b", 1), ("s", "a", 2), 300),
        (("s", "a", 2), ("s", "a", 2), 0),
    ],
)
def test_a_gap_is_as_long_as_what_changes_asks_for(
    previous: Place | None, current: Place, expected: float
) -> None:
    assert gap_s(previous, current, 60, 300) == expected


def test_where_both_change_the_longer_gap_counts() -> None:
    assert gap_s(("s", "a", 1), ("s", "b", 2), 90, 30) == 90


@UNHURRIED
@given(previous=PLACES, current=PLACES, experiments_s=SECONDS, cycles_s=SECONDS)
def test_a_gap_is_never_the_sum(
    previous: Place, current: Place, experiments_s: float, cycles_s: float
) -> None:
    gap = gap_s(previous, current, experiments_s, cycles_s)
    assert gap in {0, experiments_s, cycles_s}
    assert gap == gap_s(current, previous, experiments_s, cycles_s)
    if previous == current:
        assert gap == 0
    if previous[:2] != current[:2]:
        assert gap >= experiments_s
    if previous[2] != current[2]:
        assert gap >= cycles_s


# --- waiting ---------------------------------------------------------------------------------


def test_a_gap_ends_when_the_device_is_within_a_degree_of_idle() -> None:
    clock, told = Clock(), Told()
    result = cool(Scripted(50, 48, 42.5, 41, 40), 40, 60, told, clock, clock.sleep)
    assert result == Cooling(waited_s=1.5, idle_c=40, before_c=50, after_c=41, reached=True)
    assert told.lines == [(60, 50), (59.5, 48), (59, 42.5)]


def test_a_cool_device_is_not_waited_for() -> None:
    clock, told = Clock(), Told()
    result = cool(Scripted(41), 40, 60, told, clock, clock.sleep)
    assert result == Cooling(waited_s=0, idle_c=40, before_c=41, after_c=41, reached=True)
    assert told.lines == []


def test_a_device_that_stays_warm_is_waited_for_no_longer_than_allowed() -> None:
    clock, told = Clock(), Told()
    result = cool(Scripted(70, 69, 68), 40, 1.2, told, clock, clock.sleep)
    assert (result.reached, result.after_c) == (False, 68)
    assert result.waited_s == pytest.approx(1.2)
    assert result.reason == (
        "still 68 °C after 1 s, 28 °C above idle; allow longer gaps, or look for what else keeps"
        " the device busy"
    )
    assert clock.sleeps == pytest.approx([0.5, 0.5, 0.2])


def test_a_wait_of_no_time_is_none() -> None:
    clock, told = Clock(), Told()
    result = cool(Scripted(70), 40, 0, told, clock, clock.sleep)
    assert (result.waited_s, result.reached, told.lines) == (0, False, [])
    assert result.reason.startswith("still 70 °C after 0 s")


@pytest.mark.parametrize(
    ("thermometer", "idle_c", "why"),
    [
        (None, 40, "no temperature can be read here"),
        (None, None, "no temperature can be read here"),
        (Scripted(None, 40), 40, "the temperature can't be read now"),
        (Scripted(70), None, "the temperature of the idle device isn't known"),
    ],
)
def test_where_nothing_can_be_read_there_is_no_gap_but_a_reason(
    thermometer: Scripted | None, idle_c: float | None, why: str
) -> None:
    clock, told = Clock(), Told()
    result = cool(thermometer, idle_c, 60, told, clock, clock.sleep)
    assert (result.waited_s, result.idle_c, result.reached) == (0, idle_c, False)
    assert result.after_c == result.before_c
    fix = "so there is no thermal gap; for a fixed one, set gaps to a number of seconds"
    assert result.reason == f"{why}, {fix}"
    assert (clock.sleeps, told.lines) == ([], [])


def test_a_thermometer_that_stops_answering_ends_the_wait() -> None:
    clock, told = Clock(), Told()
    result = cool(Scripted(70, 69, None), 40, 60, told, clock, clock.sleep)
    assert result == Cooling(
        waited_s=1,
        idle_c=40,
        before_c=70,
        after_c=None,
        reached=False,
        reason="the temperature could not be read any more after 1 s, so the gap ended early; for"
        " a fixed one, set gaps to a number of seconds",
    )


def test_the_time_that_a_reading_takes_counts_as_waited() -> None:
    clock, told = Clock(), Told()

    class Slow:
        def celsius(self) -> float | None:
            clock.now_s += 2
            return 70

    result = cool(Slow(), 40, 5, told, clock, clock.sleep)
    assert told.lines == [(5, 70), (2.5, 70)]
    assert result.waited_s == 5


DEGREES = st.floats(-40, 140)


@UNHURRIED
@given(
    readings=st.lists(st.none() | DEGREES, min_size=1, max_size=20),
    idle_c=DEGREES,
    longest_s=st.floats(0, 15),
    start_s=st.floats(0, 1e9),
)
def test_a_wait_is_short_enough_and_says_why_it_ended(
    readings: Sequence[float | None], idle_c: float, longest_s: float, start_s: float
) -> None:
    clock, told = Clock(start_s), Told()
    result = cool(Scripted(*readings), idle_c, longest_s, told, clock, clock.sleep)
    rounding = 4 * math.ulp(start_s + longest_s)
    assert 0 <= result.waited_s <= longest_s + rounding
    assert result.before_c == readings[0]
    cold = result.after_c is not None and result.after_c <= idle_c + TOLERANCE_C
    assert result.reached == cold == (not result.reason)
    if not cold and result.after_c is not None:
        assert result.waited_s >= longest_s - rounding
    # At most twice a second: every sleep but the last is half a second.
    assert all(seconds == 0.5 for seconds in clock.sleeps[:-1])
    left = [seconds for seconds, _ in told.lines]
    assert left == sorted(left, reverse=True)
    assert len(left) == len(clock.sleeps)
    assert all(0 < seconds <= longest_s + rounding for seconds in left)


@UNHURRIED
@given(seconds=st.floats(-1, 15), start_s=st.floats(0, 1e9))
def test_a_fixed_gap_lasts_as_long_as_it_was_set(seconds: float, start_s: float) -> None:
    clock, told = Clock(start_s), Told()
    pause(seconds, told, clock, clock.sleep)
    assert sum(clock.sleeps) == pytest.approx(max(seconds, 0), abs=1e-6)
    assert all(left > 0 and now_c is None for left, now_c in told.lines)
    assert len(told.lines) == len(clock.sleeps)


def test_a_fixed_gap_counts_down() -> None:
    clock, told = Clock(), Told()
    pause(1.25, told, clock, clock.sleep)
    assert told.lines == [(1.25, None), (0.75, None), (0.25, None)]


def test_the_real_clock_serves_where_none_is_given() -> None:
    told = Told()
    pause(0.01, told)
    assert cool(Scripted(40), 40, 60, told).reached
    assert told.lines


# --- the processor's thermometer -------------------------------------------------------------


class Root:
    """A directory that stands for ``/``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, name: str, text: object) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
        return path

    def chip(self, number: int, driver: str, **inputs: object) -> None:
        """A chip of hwmon; ``temp1="50000"`` or ``temp1="50000 Tctl"``."""
        folder = f"sys/class/hwmon/hwmon{number}"
        self.file(f"{folder}/name", driver)
        for name, text in inputs.items():
            value, _, label = str(text).partition(" ")
            self.file(f"{folder}/{name}_input", value)
            if label:
                self.file(f"{folder}/{name}_label", label)

    def zone(self, number: int, kind: str, value: object) -> None:
        folder = f"sys/class/thermal/thermal_zone{number}"
        self.file(f"{folder}/type", kind)
        self.file(f"{folder}/temp", value)

    @property
    def celsius(self) -> float | None:
        thermometer = cpu_thermometer(self.path)
        return thermometer.celsius() if thermometer else None


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def test_a_host_without_sensors_has_no_thermometer(root: Root) -> None:
    assert cpu_thermometer(root.path) is None
    root.chip(0, "nvme", temp1=60_000)
    root.zone(0, "acpitz", 27_800)
    assert cpu_thermometer(root.path) is None


def test_the_hottest_package_of_intel_counts_not_its_cores(root: Root) -> None:
    root.chip(0, "coretemp", temp1="50000 Package id 0", temp2="58000 Core 0")
    root.chip(10, "coretemp", temp1="53500 Package id 1", temp2="51000 Core 0")
    assert root.celsius == 53.5


@pytest.mark.parametrize("driver", ["k10temp", "zenpower"])
def test_the_hottest_of_tctl_and_tdie_counts_not_the_chiplets(root: Root, driver: str) -> None:
    root.chip(0, driver, temp1="60250 Tctl", temp2="50250 Tdie", temp3="65000 Tccd1")
    assert root.celsius == 60.25


def test_without_labels_the_hottest_input_counts(root: Root) -> None:
    root.chip(0, "cpu_thermal", temp1=48_200, temp2=49_100, temp3=47_000)
    assert root.celsius == 49.1


def test_labels_of_cores_alone_leave_the_hottest_core(root: Root) -> None:
    root.chip(0, "coretemp", temp2="41000 Core 0", temp3="44000 Core 1")
    assert root.celsius == 44


def test_the_driver_of_a_processor_goes_before_a_zone(root: Root) -> None:
    root.zone(0, "x86_pkg_temp", 70_000)
    assert root.celsius == 70
    root.chip(0, "cpu_thermal", temp1=60_000)
    assert root.celsius == 60
    root.chip(1, "k10temp", temp1=50_000)
    assert root.celsius == 50
    root.chip(2, "coretemp", temp1=40_000)
    assert root.celsius == 40


@pytest.mark.parametrize("kind", ["x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc-thermal"])
def test_the_hottest_zone_of_a_kind_counts(root: Root, kind: str) -> None:
    root.zone(0, "acpitz", 90_000)
    root.zone(1, kind, 61_000)
    root.zone(2, kind, 64_000)
    assert root.celsius == 64


def test_a_zone_of_the_processor_goes_before_that_of_the_whole_chip(root: Root) -> None:
    root.zone(0, "soc-thermal", 60_000)
    root.zone(1, "cpu-thermal", 50_000)
    assert root.celsius == 50


@pytest.mark.parametrize("value", ["-50000", "150000", "", "warm", "255000", "-274000", "9" * 5000])
def test_what_is_no_temperature_is_no_sensor(root: Root, value: str) -> None:
    root.chip(0, "coretemp", temp1=f"{value} Package id 0", temp2="45000 Core 0")
    assert root.celsius == 45
    root.chip(0, "coretemp", temp2=f"{value} Core 0")
    assert cpu_thermometer(root.path) is None
    root.zone(0, "x86_pkg_temp", 47_000)
    assert root.celsius == 47


@pytest.mark.parametrize(("value", "celsius"), [("-49999", -49.999), ("149999", 149.999), ("0", 0)])
def test_what_can_be_a_temperature_is_one(root: Root, value: str, celsius: float) -> None:
    root.chip(0, "coretemp", temp1=value)
    assert root.celsius == celsius


def test_a_sensor_that_can_not_be_read_any_more_leaves_no_temperature(root: Root) -> None:
    root.chip(0, "coretemp", temp1="50000 Package id 0")
    root.chip(1, "coretemp", temp1="51000 Package id 1")
    thermometer = cpu_thermometer(root.path)
    assert thermometer is not None
    hottest = root.file("sys/class/hwmon/hwmon1/temp1_input", 52_000)
    assert thermometer.celsius() == 52
    hottest.unlink()
    assert thermometer.celsius() is None
    hottest.mkdir()
    assert thermometer.celsius() is None
    hottest.rmdir()
    root.file("sys/class/hwmon/hwmon1/temp1_input", 49_000)
    assert thermometer.celsius() == 50


def test_the_real_host_has_a_sane_temperature_or_none() -> None:
    thermometer = cpu_thermometer()
    celsius = thermometer.celsius() if thermometer else None
    assert celsius is None or -50 < celsius < 150


# --- the GPUs' thermometer -------------------------------------------------------------------

A = Board(uuid="GPU-a", celsius=40)
B = Board(uuid="GPU-b", celsius=55)


@pytest.mark.parametrize(
    ("uuids", "environ", "celsius"),
    [
        (None, {}, 55),
        (None, {"CUDA_VISIBLE_DEVICES": "0"}, 40),
        (["GPU-a"], {}, 40),
        (["GPU-a", "GPU-b"], {"CUDA_VISIBLE_DEVICES": "0"}, 55),
    ],
)
def test_the_hottest_of_the_gpus_counts(
    uuids: list[str] | None, environ: dict[str, str], celsius: float
) -> None:
    thermometer = gpu_thermometer(uuids, FakeNvml(A, B), environ)
    assert thermometer is not None
    assert thermometer.celsius() == celsius


@pytest.mark.parametrize(
    ("uuids", "nvml"),
    [
        (None, FakeNvml()),
        ([], FakeNvml(A)),
        (["GPU-other"], FakeNvml(A)),
        (None, FakeNvml(A, errors={"nvmlInit": 12})),
        (None, FakeNvml(A, B, errors={"nvmlDeviceGetTemperature GPU-a": 3})),
        (None, FakeNvml(A, Board(uuid="GPU-b", celsius=255))),
    ],
)
def test_where_a_gpu_can_not_be_read_there_is_no_thermometer(
    uuids: list[str] | None, nvml: FakeNvml
) -> None:
    assert gpu_thermometer(uuids, nvml, {}) is None


def test_a_gpu_that_is_lost_leaves_no_temperature() -> None:
    nvml = FakeNvml(A, B)
    thermometer = gpu_thermometer(None, nvml, {})
    assert thermometer is not None
    nvml.errors["nvmlDeviceGetTemperature GPU-b"] = 15
    assert thermometer.celsius() is None
    assert nvml.opened == 0
    nvml.errors.clear()
    assert thermometer.celsius() == 55
