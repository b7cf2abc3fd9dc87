"""RAPL: energy in virtual time against the exact truth, real files that tick, and what is lost."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_llem.extensions import Target
from pytest_llem.meters.rapl import GAIN, RaplMeter
from pytest_llem.powercap import find_zones
from pytest_llem.records import Reading
from tests.rig.fixtures import MakePowercap
from tests.rig.powercap import Powercap, Zone, packages, without_privilege
from tests.rig.spans import Span, bounds_j
from tests.rig.truth import Marks

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

    (found, span), late_s = tree.calmly(measure)
    return found, span, late_s


# --- how exact it is -----------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "most"), [(0.02, 0.02), (0.1, 0.005), (1.0, 0.0005)])
def test_windows_are_exact_for_all_packages_and_their_memory(
    powercap: MakePowercap, tmp_path: Path, seconds: float, most: float
) -> None:
    zones = [replace(zone, wave=LOAD.wave) for zone in packages(2, like=LOAD)]
    errors = Bench(powercap, tmp_path, zones).errors(seconds, 10, TWO)
    assert len(errors) == 40
    assert max(abs(error) for error, _ in errors) < most
    covered = [abs(error) <= 2 * spread for error, spread in errors]
    assert sum(covered) >= 36
    # Nor is the uncertainty so large that it covers anything.
    assert sum(spread for _, spread in errors) < 4 * sum(abs(error) for error, _ in errors)


def test_a_host_that_stalls_costs_precision_and_says_so(
    powercap: MakePowercap, tmp_path: Path
) -> None:
    bench = Bench(powercap, tmp_path, [LOAD], stall=0.01)
    errors = bench.errors(0.1, 40, {"cpu:0": "intel-rapl:0"})
    assert sum(abs(error) <= 2 * spread for error, spread in errors) >= 37
    mean = sum(error for error, _ in errors) / len(errors)
    assert abs(mean) < 0.01


def test_counters_that_wrap_in_a_window_lose_nothing(
    powercap: MakePowercap, tmp_path: Path
) -> None:
    like = replace(LOAD, max_range_uj=RANGE_UJ, start_uj=RANGE_UJ - 4_000_000)
    bench = Bench(powercap, tmp_path, packages(2, like=like))
    errors = bench.errors(0.5, 1, TWO)
    after = [int((bench.tree.root / key / "energy_uj").read_text()) for key in TWO.values()]
    assert max(after) < RANGE_UJ / 2
    assert max(abs(error) for error, _ in errors) < 0.005


def test_a_host_that_is_away_for_long_is_not_taken_for_a_counter_that_stands_still(
    powercap: MakePowercap,
) -> None:
    tree = powercap([replace(LOAD, wave="const:90", gated=False)], ticking=False)
    clock = VirtualTime(tree)
    clock.away = {20: 0.6, 90: 1.5}
    meter = RaplMeter(CPU, root=tree.root, clock=clock)
    assert not meter.problems
    token = meter.start()
    start_s = clock.monotonic()
    clock.sleep(0.1)
    end_s = clock.monotonic()
    clock.away = {clock.looks + 20: 0.7}
    (reading,) = meter.stop(token, start_s, end_s)
    exact_j = tree.energy("intel-rapl:0", start_s, end_s)
    assert reading.energy_j == pytest.approx(exact_j, abs=4 * (reading.uncertainty_j or 0))


def test_a_slow_counter_is_waited_for(powercap: MakePowercap, tmp_path: Path) -> None:
    tree = powercap([replace(LOAD, gated=False)], tick_s=0.02, ticking=False)
    clock = VirtualTime(tree)
    meter = RaplMeter(CPU, root=tree.root, clock=clock)
    token = meter.start()
    start_s = clock.monotonic()
    clock.sleep(0.37)
    end_s = clock.monotonic()
    (reading,) = meter.stop(token, start_s, end_s)
    exact_j = tree.energy("intel-rapl:0", start_s, end_s)
    # Of the power on either side only means over 20 ms are known, and here it isn't steady.
    assert reading.energy_j == pytest.approx(exact_j, rel=0.1)


def test_real_files_that_tick_are_read_right(powercap: MakePowercap) -> None:
    zones = [
        replace(zone, wave="const:120", start_uj=RANGE_UJ - 10_000_000, max_range_uj=RANGE_UJ)
        for zone in packages(2)
    ]
    tree = powercap(zones)
    found, span, late_s = read(tree, 0.5)
    assert list(found) == ["cpu:0", "cpu:1", "dram:0", "dram:1"]
    for domain in ("cpu:0", "cpu:1"):
        reading = found[domain]
        assert reading.energy_j is not None, reading.reason
        least_j, most_j = bounds_j(reading, tree, TWO[domain], span, late_s)
        assert least_j <= reading.energy_j <= most_j
        assert (reading.method, reading.meter) == ("counter", "rapl")
        assert reading.systematic == GAIN["cpu"]
    assert found["dram:0"].energy_j is not None
    assert found["dram:0"].systematic == GAIN["dram"]


def test_around_a_window_it_takes_milliseconds(powercap: MakePowercap, tmp_path: Path) -> None:
    bench = Bench(powercap, tmp_path, packages(2, like=LOAD))
    begun_s = bench.clock.monotonic()
    _, start_s, end_s = bench.window(0.1)
    assert start_s - begun_s - 0.0137 < 0.01
    assert bench.clock.monotonic() - end_s < 0.01


# --- what is read --------------------------------------------------------------------------


def test_only_packages_and_memory_are_read_each_once(powercap: MakePowercap) -> None:
    mmio = Zone(name="package-0", control="intel-rapl-mmio")
    other = Zone(name="package-1", control="intel-rapl-mmio")
    zones = (*packages(1, core=True), Zone(name="psys"), mmio, other)
    tree = powercap(zones, ticking=False)
    found, reason = find_zones(tree.root)
    assert [(zone.domain, zone.energy.parent.name) for zone in found] == [
        ("cpu:0", "intel-rapl:0"),
        ("cpu:1", "intel-rapl-mmio:1"),
        ("dram:0", "intel-rapl:0:1"),
    ]
    assert not reason
    for zone in found:
        zone.close()


def test_dies_of_a_package_are_domains_of_their_own(powercap: MakePowercap) -> None:
    zones = [
        Zone(name=f"package-{package}-die-{die}", zones=(Zone(name="dram"),))
        for package in (0, 1)
        for die in (0, 1)
    ]
    meter = RaplMeter(CPU, root=powercap(zones).root)
    names = [f"{package}-die-{die}" for package in (0, 1) for die in (0, 1)]
    assert list(meter.domains) == [f"{kind}:{name}" for kind in ("cpu", "dram") for name in names]
    meter.close()


def test_a_host_without_memory_counters_has_its_packages(powercap: MakePowercap) -> None:
    meter = RaplMeter(Target(device="cuda"), root=powercap(packages(2, dram=False)).root)
    assert (list(meter.domains), meter.reason) == (["cpu:0", "cpu:1"], "")
    meter.close()


def test_a_host_without_rapl_has_nothing_and_says_why(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "missing"):
        meter = RaplMeter(CPU, root=root)
        assert not meter.domains
        assert "virtual machines" in meter.reason
        assert meter.stop(meter.start(), 0.0, 1.0) == []
        meter.close()


def test_other_devices_than_linux_has_are_not_read(powercap: MakePowercap) -> None:
    meter = RaplMeter(Target(device="mps"), root=powercap().root)
    assert (list(meter.domains), meter.reason) == ([], "RAPL is read on Linux only")


def test_the_highest_power_is_that_of_all_limits(powercap: MakePowercap) -> None:
    tree = powercap(packages(2, like=Zone(name="", limit_w=200)), ticking=False)
    (tree.root / "intel-rapl:0" / "constraint_1_power_limit_uw").write_text("250000000\n")
    (tree.root / "intel-rapl:1" / "constraint_1_power_limit_uw").write_text("4095000000\n")
    for name in ("power_limit", "max_power"):
        (tree.root / "intel-rapl:0:0" / f"constraint_0_{name}_uw").write_text("0\n")
    found, _ = find_zones(tree.root)
    limits = {zone.domain: zone.limit_w for zone in found}
    assert limits == {"cpu:0": 250, "cpu:1": 1000, "dram:0": 500, "dram:1": 200}
    for zone in found:
        zone.close()


# --- what can't be read --------------------------------------------------------------------

PROGRAM = """
import json, sys, time
from pathlib import Path
from pytest_llem.extensions import Target
from pytest_llem.meters.rapl import RaplMeter
meter = RaplMeter(Target(device="cpu"), root=Path(sys.argv[1]))
token = meter.start()
start_s = time.monotonic()
time.sleep(0.2)
readings = meter.stop(token, start_s, time.monotonic())
print(json.dumps([list(meter.domains), meter.problems, [[r.domain, r.energy_j, r.quality, r.reason]
    for r in readings]]))
"""


def test_counters_that_this_user_may_not_read_say_why_and_what_mends_it(
    powercap: MakePowercap,
) -> None:
    first, second = packages(2, dram=False)
    tree = powercap([replace(first, mode=0o400), replace(second, mode=0o000)])
    command = [sys.executable, "-c", PROGRAM, str(tree.root)]
    done, _ = tree.calmly(
        lambda: subprocess.run(
            without_privilege(command) if os.geteuid() == 0 else command,
            capture_output=True,
            text=True,
            check=True,
        )
    )
    domains, problems, readings = json.loads(done.stdout)
    assert domains == ["cpu:0", "cpu:1"]
    assert list(problems) == ["cpu:1"]
    by_domain = {domain: rest for domain, *rest in readings}
    assert by_domain["cpu:0"][0] > 0
    energy_j, quality, reason = by_domain["cpu:1"]
    assert (energy_j, quality) == (None, "unmeasured")
    assert "CVE-2020-8694" in reason
    assert f"sudo chmod a+r {tree.root}/intel-rapl*:*/energy_uj  # until the next boot" in reason


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Zone(name="package-0", unreadable=True), "can't be read: Is a directory"),
        (Zone(name="package-0", text="none"), "holds no number"),
        (Zone(name="package-0", max_range_uj=0), "doesn't tell its range"),
        (Zone(name="package-0", stops_s=0.0), "didn't move"),
    ],
)
def test_a_broken_counter_leaves_the_others_alone(
    powercap: MakePowercap, broken: Zone, words: str
) -> None:
    found, _, _ = read(powercap([broken, Zone(name="package-1")]), 0.2)
    assert list(found) == ["cpu:0", "cpu:1"]
    assert found["cpu:0"].energy_j is None
    assert found["cpu:0"].quality == "unmeasured"
    assert words in (found["cpu:0"].reason or "")
    assert (found["cpu:1"].energy_j or 0) > 0


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        (Zone(name="package-0", stops_s=0.3), "stands still"),
        (Zone(name="package-0", vanishes_s=0.3), "vanished"),
    ],
)
def test_a_counter_that_ends_in_a_window_has_no_figure(
    powercap: MakePowercap, tmp_path: Path, zone: Zone, words: str
) -> None:
    zones = [replace(zone, wave="const:90"), Zone(name="package-1", wave="const:80")]
    bench = Bench(powercap, tmp_path, zones)
    found, start_s, end_s = bench.window(0.5)
    assert found["cpu:0"].energy_j is None
    assert words in (found["cpu:0"].reason or "")
    exact_j = bench.tree.energy("intel-rapl:1", start_s, end_s)
    assert found["cpu:1"].energy_j == pytest.approx(exact_j, rel=0.01)


def test_a_counter_hidden_from_a_container_is_a_counter_that_cannot_be_read(
    powercap: MakePowercap, tmp_path: Path
) -> None:
    tree = powercap(packages(1, core=True), ticking=False)
    (tree.root.parents[1] / "devices").rename(tmp_path / "masked")
    (reading,) = read(tree, 0.0)[0].values()
    assert reading.domain == "cpu:0"
    assert "as Docker does with RAPL" in (reading.reason or "")
    assert "run pytest on the host" in (reading.reason or "")


def test_a_reset_counter_is_no_wrap(powercap: MakePowercap, tmp_path: Path) -> None:
    tree = powercap([Zone(name="package-0", text="5000000", limit_w=50)], ticking=False)
    energy = tree.root / "intel-rapl:0" / "energy_uj"
    (zone,), _ = find_zones(tree.root)
    assert zone.read() == 5_000_000
    clock = Growing(energy, 5_000_000)
    meter = RaplMeter(CPU, root=tree.root, clock=clock)
    assert not meter.problems
    token = meter.start()
    start_s = clock.monotonic()
    clock.count = 0
    (reading,) = meter.stop(token, start_s, clock.monotonic())
    assert reading.energy_j is None
    assert "was reset" in (reading.reason or "")
    zone.close()


class Growing:
    """A clock that lets a counter grow by a millijoule each 20 µs."""

    def __init__(self, energy: Path, count: int) -> None:
        self.count = count
        self._energy = energy
        self._now_s = 0.0

    def monotonic(self) -> float:
        self._now_s += 20e-6
        self.count += 1000
        self._energy.write_text(f"{self.count}\n")
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self._now_s += seconds


def test_a_counter_that_changes_at_every_read_is_read_too(powercap: MakePowercap) -> None:
    tree = powercap([Zone(name="package-0", text="7")], ticking=False)
    clock = Growing(tree.root / "intel-rapl:0" / "energy_uj", 7)
    meter = RaplMeter(CPU, root=tree.root, clock=clock)
    token = meter.start()
    start_s = clock.monotonic()
    for _ in range(500):
        end_s = clock.monotonic()
    (reading,) = meter.stop(token, start_s, end_s)
    assert reading.energy_j == pytest.approx(0.5, rel=0.02)


# --- long windows --------------------------------------------------------------------------


def test_a_window_in_which_the_counter_may_have_gone_round_twice_has_no_figure(
    powercap: MakePowercap, tmp_path: Path
) -> None:
    # 20 J at twice 100 W: a tenth of a second.
    zone = replace(LOAD, max_range_uj=20_000_000, limit_w=100)
    found, _, _ = Bench(powercap, tmp_path, [zone]).window(0.4)
    assert found["cpu:0"].energy_j is None
    assert "may have wrapped more than once: at 200 W" in (found["cpu:0"].reason or "")


@pytest.mark.parametrize("exact", [True, False])
def test_a_thread_sees_every_wrap_of_a_long_window(powercap: MakePowercap, exact: bool) -> None:
    # 200 J at 100 W: it goes round in two seconds, and may in one.
    zone = Zone(name="package-0", wave="const:95", max_range_uj=200_000_000, limit_w=100)
    tree = powercap([zone])
    found, span, late_s = read(tree, 4.5, exact)
    reading = found["cpu:0"]
    if reading.energy_j is None:
        # A borrowed machine may sleep for longer than the counter allows: then it is said.
        assert "wrapped more than once" in (reading.reason or "")
    else:
        least_j, most_j = bounds_j(reading, tree, "intel-rapl:0", span, late_s)
        assert least_j <= reading.energy_j <= most_j


def test_windows_that_need_not_be_exact_wait_for_nothing(
    powercap: MakePowercap, tmp_path: Path
) -> None:
    bench = Bench(powercap, tmp_path, [LOAD])
    found, start_s, end_s = bench.window(0.2, exact=False)
    reading = found["cpu:0"]
    exact_j = bench.tree.energy("intel-rapl:0", start_s, end_s)
    assert reading.energy_j == pytest.approx(exact_j, rel=0.02)
    assert reading.quality == "short"
    assert bench.clock.monotonic() - end_s < 0.001


def test_a_window_that_began_before_the_meter_has_no_figure(
    powercap: MakePowercap, tmp_path: Path
) -> None:
    bench = Bench(powercap, tmp_path, [LOAD])
    early_s = bench.clock.monotonic()
    token = bench.meter.start()
    bench.clock.sleep(0.1)
    (reading,) = bench.meter.stop(token, early_s, bench.clock.monotonic())
    assert reading.energy_j is None
    assert "within the window" in (reading.reason or "")
