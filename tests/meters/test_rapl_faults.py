"""RAPL: counters that can't be read, that end in a window, and that behave like no counter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_llem.meters.rapl import RaplMeter
from pytest_llem.powercap import find_zones
from tests.meters.rapl_bench import CPU, Bench, read
from tests.rig.fixtures import MakePowercap
from tests.rig.powercap import Zone, packages, without_privilege
from tests.rig.spans import STILL_S

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
    found, _, late_s = read(powercap([broken, Zone(name="package-1")]), 0.2)
    assert list(found) == ["cpu:0", "cpu:1"]
    assert found["cpu:0"].energy_j is None
    assert found["cpu:0"].quality == "unmeasured"
    assert words in (found["cpu:0"].reason or "")
    assert (found["cpu:1"].energy_j or 0) > 0 or late_s > STILL_S


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
