"""The simulated powercap tree: its files follow the truth, and it ends with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.rig.fixtures import MakePowercap
from tests.rig.lateness import Journal, longest_gap_s
from tests.rig.powercap import Powercap, Zone, packages, without_privilege
from tests.rig.truth import Marks

pytestmark = pytest.mark.once

PROJECT = Path(__file__).parents[2]
SHORT_RANGE_UJ = 1_000_000
"""Wraps every 10 ms or so."""


def counter(tree: Powercap, key: str) -> int:
    return int((tree.root / key / "energy_uj").read_text())


def seconds_since_epoch(tree: Powercap, seconds: float) -> float:
    return tree.epoch_ns * 1e-9 + seconds


# --- what is in it -------------------------------------------------------------------------


def test_the_tree_looks_like_the_kernels(powercap: MakePowercap) -> None:
    mmio = Zone(name="package-0", control="intel-rapl-mmio")
    zones = (*packages(2, core=True), Zone(name="psys"), mmio)
    tree = powercap(zones, ticking=False)
    names = {path.name: path for path in tree.root.iterdir()}
    assert set(names) == {"intel-rapl", "intel-rapl-mmio", *tree.zones}
    assert all(path.is_symlink() for path in names.values())
    told = {key: (tree.root / key / "name").read_text().strip() for key in tree.zones}
    assert told == {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:1:0": "core",
        "intel-rapl:1:1": "dram",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    # The same folder, over the driver's as over the list of all zones.
    nested = tree.root / "intel-rapl" / "intel-rapl:0" / "intel-rapl:0:1"
    assert nested.resolve() == (tree.root / "intel-rapl:0:1").resolve()


# --- its counters --------------------------------------------------------------------------


@pytest.mark.parametrize("quantum_uj", [1.0, 61.03515625])
def test_a_counter_shows_the_energy_until_its_last_tick(
    powercap: MakePowercap, quantum_uj: float
) -> None:
    zone = Zone(name="package-0", wave="const:100", start_uj=500, quantum_uj=quantum_uj)
    tree = powercap([zone], ticking=False)
    tree.tick(seconds_since_epoch(tree, 0.0125))
    exact_uj = 500 + 100 * 0.012 * 1e6
    assert exact_uj - quantum_uj - 1 <= counter(tree, "intel-rapl:0") <= exact_uj
    assert counter(tree, "intel-rapl:0") == tree.counter_uj(
        "intel-rapl:0", seconds_since_epoch(tree, 0.0125)
    )


@pytest.mark.parametrize("key", ["intel-rapl:0", "intel-rapl:0:0"])
def test_counters_wrap_at_their_range_and_lose_nothing(powercap: MakePowercap, key: str) -> None:
    zones = packages(like=Zone(name="", max_range_uj=SHORT_RANGE_UJ, start_uj=999_000))
    tree = powercap(zones, ticking=False)
    total_uj, last_uj, wraps = 0, counter(tree, key), 0
    for step in range(1, 301):
        tree.tick(seconds_since_epoch(tree, step * 0.005))
        shown_uj = counter(tree, key)
        wraps += shown_uj < last_uj
        total_uj += (shown_uj - last_uj) % (SHORT_RANGE_UJ + 1)
        last_uj = shown_uj
    end_s = tree.last_tick(key, seconds_since_epoch(tree, 1.5))
    exact_j = tree.energy(key, tree.epoch_ns * 1e-9, end_s)
    assert total_uj == pytest.approx(exact_j * 1e6, abs=2)
    assert wraps > 5


def test_counters_tick_by_themselves_and_each_value_is_that_of_a_tick(
    powercap: MakePowercap,
) -> None:
    zones = packages(2, like=Zone(name="", max_range_uj=SHORT_RANGE_UJ))
    tree = powercap(zones)
    seen: dict[str, set[int]] = {key: set() for key in tree.zones}
    start_s = time.monotonic()
    while min(map(len, seen.values())) <= 20:
        assert time.monotonic() < start_s + 60
        for key, values in seen.items():
            values.add(counter(tree, key))
        time.sleep(0.0005)
    end_s = time.monotonic()
    # What was there at the beginning may be as old as the process was late.
    early_s = start_s - tree.longest_gap_s(start_s, end_s) - 0.02
    first, last = (round((at - tree.epoch_ns * 1e-9) * 1000) for at in (early_s, end_s))
    for key, values in seen.items():
        shown = {
            tree.counter_uj(key, seconds_since_epoch(tree, (tick + 0.5) / 1000))
            for tick in range(max(first, 0), last + 2)
        }
        assert len(values - shown) <= 1


def test_gated_zones_have_load_between_the_marks(powercap: MakePowercap, tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks")
    zone = Zone(name="package-0", wave="const:110", idle_w=10, gated=True)
    tree = powercap([zone], marks=marks, ticking=False)
    for gate, seconds in ((1, 0.5), (0, 1.5), (1, 5.0), (0, 5.25)):
        marks.mark(gate, tree.epoch_ns + round(seconds * 1e9))
    for step in range(1, 80):
        tree.tick(seconds_since_epoch(tree, step * 0.1 + 0.0005))
    assert counter(tree, "intel-rapl:0") == pytest.approx((7.9 * 10 + 1.25 * 100) * 1e6, abs=2)


def test_the_ticking_process_sees_marks_too(powercap: MakePowercap, tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks")
    tree = powercap([Zone(name="package-0", wave="const:110", gated=True)], marks=marks)
    start_s, before_uj = time.monotonic(), counter(tree, "intel-rapl:0")
    marks.mark(1)
    while (used_uj := counter(tree, "intel-rapl:0") - before_uj) < 5e6:
        assert time.monotonic() < start_s + 20
        time.sleep(0.01)
    assert used_uj * 1e-6 <= tree.energy("intel-rapl:0", tree.epoch_ns * 1e-9, time.monotonic())


# --- when it is late -----------------------------------------------------------------------


def test_gaps_are_found_by_the_times_they_touch(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", 10.0)
    for now_s in (10.001, 10.3, 10.301, 10.4, 10.402):
        journal.act(now_s)

    def found(start_s: float, end_s: float) -> float:
        return longest_gap_s(tmp_path / "journal", start_s, end_s)

    assert found(10.0, 10.402) == pytest.approx(0.299)
    assert found(10.2, 10.25) == pytest.approx(0.299)
    assert found(10.3005, 10.4) == pytest.approx(0.099)
    assert found(10.0, 10.0005) == found(10.4, 10.402) == 0
    # What has not ended yet.
    assert found(10.41, 11.402) == pytest.approx(1.0)


def test_a_tree_tells_that_it_stood_still(powercap: MakePowercap) -> None:
    tree = powercap()
    assert tree.child is not None
    start_s = time.monotonic()
    os.kill(tree.child, signal.SIGSTOP)
    time.sleep(0.2)
    assert tree.longest_gap_s(start_s, time.monotonic()) > 0.1
    os.kill(tree.child, signal.SIGCONT)
    shown, deadline_s = counter(tree, "intel-rapl:0"), time.monotonic() + 60
    while counter(tree, "intel-rapl:0") == shown and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert tree.longest_gap_s(start_s, start_s + 0.1) > 0.1


def test_what_was_measured_beside_a_tree_that_stood_still_is_measured_again(
    powercap: MakePowercap,
) -> None:
    tree = powercap()
    assert tree.child is not None
    child, sent = tree.child, list[signal.Signals]()

    def measure() -> int:
        sent.append(signal.SIGCONT if sent else signal.SIGSTOP)
        os.kill(child, sent[-1])
        time.sleep(0.05)
        return len(sent)

    found, late_s = tree.calmly(measure, tries=50)
    # The second finds the end of what the first one began.
    assert found == len(sent) > 1
    assert late_s < 0.05


# --- what goes wrong with it ---------------------------------------------------------------


def test_a_stopped_counter_keeps_its_last_value(powercap: MakePowercap) -> None:
    tree = powercap([Zone(name="package-0", wave="const:100", stops_s=0.5)], ticking=False)
    for seconds in (0.4, 2.0):
        tree.tick(seconds_since_epoch(tree, seconds))
    assert counter(tree, "intel-rapl:0") == pytest.approx(50e6, abs=0.11e6)
    assert tree.counter_uj("intel-rapl:0", seconds_since_epoch(tree, 9)) == counter(
        tree, "intel-rapl:0"
    )


def test_a_vanished_zone_takes_those_within_along(powercap: MakePowercap) -> None:
    first, second = packages(2, core=True)
    vanishing = Zone(name=first.name, zones=first.zones, vanishes_s=0.5)
    tree = powercap([vanishing, second], ticking=False)
    tree.tick(seconds_since_epoch(tree, 0.6))
    left = {path.name for path in tree.root.iterdir()}
    assert left == {"intel-rapl", "intel-rapl:1", "intel-rapl:1:0", "intel-rapl:1:1"}
    assert counter(tree, "intel-rapl:1") > 0


def test_an_unreadable_counter_fails_for_root_too(powercap: MakePowercap) -> None:
    tree = powercap([Zone(name="package-0", unreadable=True), Zone(name="psys", text="n/a")])
    with pytest.raises(OSError, match="Is a directory"):
        counter(tree, "intel-rapl:0")
    assert (tree.root / "intel-rapl:1" / "energy_uj").read_text() == "n/a\n"


def test_permissions_hold_without_privilege(powercap: MakePowercap) -> None:
    tree = powercap([Zone(name="package-0", mode=0), Zone(name="psys", mode=0o400)])
    read = "import sys\nfor path in sys.argv[1:]:\n try: open(path).read(); print('read')\n"
    read += " except PermissionError: print('denied')"
    paths = [str(tree.root / key / "energy_uj") for key in tree.zones]
    command = without_privilege([sys.executable, "-c", read, *paths])
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["denied", "read"]


# --- its end -------------------------------------------------------------------------------


def ended(pid: int) -> bool:
    """Gone, or only waiting for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_ticking_process_ends_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib\n"
        "from tests.rig.powercap import Powercap\n"
        "tree = Powercap(pathlib.Path(sys.argv[1]))\n"
        "print(tree.child, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=PROJECT, capture_output=True, text=True
    )
    child = int(parent.stdout)
    deadline_s = time.monotonic() + 20
    while not ended(child) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert parent.returncode == -9
    assert ended(child)


def test_closing_stops_the_ticks(powercap: MakePowercap) -> None:
    tree = powercap()
    tree.close()
    shown = counter(tree, "intel-rapl:0")
    os.sched_yield()
    time.sleep(0.05)
    assert counter(tree, "intel-rapl:0") == shown
