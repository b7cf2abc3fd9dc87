"""RAPL: energy in virtual time against the exact truth, real files that tick, what is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_llem.extensions import Target
from pytest_llem.meters.rapl import GAIN, RaplMeter
from pytest_llem.powercap import find_zones
from tests.meters.rapl_bench import CPU, LOAD, RANGE_UJ, TWO, Bench, VirtualTime, read
from tests.rig.fixtures import MakePowercap
from tests.rig.powercap import Zone, packages
from tests.rig.spans import STILL_S, wrong

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
        assert not wrong(reading, tree, TWO[domain], span, late_s)
        assert (reading.method, reading.meter) == ("counter", "rapl")
        assert reading.systematic == GAIN["cpu"]
    assert found["dram:0"].energy_j is not None or late_s > STILL_S
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
    # A borrowed machine may sleep for longer than the counter allows: then it is said.
    said = "wrapped more than once" in (reading.reason or "")
    assert said or not wrong(reading, tree, "intel-rapl:0", span, late_s)


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
