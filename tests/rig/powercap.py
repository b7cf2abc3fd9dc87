"""A tree like /sys/class/powercap whose counters tick, and whose energy is known.

    with Powercap(tmp_path, zones=packages(2)) as tree:
        meter = RaplMeter(root=tree.root)
        ...
        tree.energy("intel-rapl:0", start_s, end_s)

Zones have the names of the kernel: ``intel-rapl:0`` is the first package, ``intel-rapl:0:1`` the
second zone in it. As there, everything below the root is a link into a tree of devices.
Times are seconds of ``time.monotonic()``.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tests.rig.lateness import Journal, longest_gap_s
from tests.rig.truth import Marks, Truth
from tests.rig.zones import Zone, packages, without_privilege

__all__ = ["Powercap", "Zone", "packages", "without_privilege"]

_PROJECT = Path(__file__).parents[2]
_CHILD = "from tests.rig.powercap import tick_for_parent; tick_for_parent()"
_WIDTH = 21
_LATE_MARKS_S = 1.0
"""A mark is published a little after its time: what is older than this will not change."""

_CALM_S = 0.02
"""Counters that are never older than this are as good as real ones for a window of some 0.5 s."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where the zones are, and what their counters show: all that the ticking process needs."""

    root: Path
    devices: Path
    zones: dict[str, Zone]
    places: dict[str, Path]
    epoch_ns: int
    tick_s: float
    journal: Path

    @property
    def epoch_s(self) -> float:
        return self.epoch_ns * 1e-9

    def truth(self, key: str, marks: Marks | None) -> Truth:
        zone = self.zones[key]
        return Truth(
            wave=zone.wave,
            idle_w=zone.idle_w,
            gated=zone.gated,
            epoch_ns=self.epoch_ns,
            marks=marks,
        )

    def last_tick(self, key: str, time_s: float) -> float:
        since_s = min(time_s - self.epoch_s, self.zones[key].stops_s)
        return self.epoch_s + math.floor(since_s / self.tick_s) * self.tick_s

    def shown_uj(self, key: str, energy_j: float) -> int:
        zone = self.zones[key]
        steps = math.floor(energy_j * 1e6 / zone.quantum_uj)
        return (zone.start_uj + int(steps * zone.quantum_uj)) % (zone.max_range_uj + 1)


def _numbered(zones: Sequence[Zone]) -> Iterator[tuple[str, Path, Zone]]:
    """Each zone with the kernel's name for it and its place in the tree of devices."""
    counts: dict[str, int] = {}
    for zone in zones:
        number = counts.setdefault(zone.control, 0)
        counts[zone.control] += 1
        key = f"{zone.control}:{number}"
        yield key, Path(zone.control, key), zone
        for inner_number, inner in enumerate(zone.zones):
            inner_key = f"{key}:{inner_number}"
            yield inner_key, Path(zone.control, key, inner_key), inner


def _make(layout: _Layout, key: str) -> None:
    """The files of a zone, and the links to it and to its driver."""
    zone, place = layout.zones[key], layout.places[key]
    place.mkdir(parents=True)
    driver = layout.devices / place.relative_to(layout.devices).parts[0]
    for target in (driver, place):
        link = layout.root / target.name
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(target, layout.root))
    limit_uw = round(zone.limit_w * 1e6)
    files = {
        "name": zone.name,
        "enabled": 1,
        "max_energy_range_uj": zone.max_range_uj,
        "constraint_0_name": "long_term",
        "constraint_0_power_limit_uw": limit_uw,
        "constraint_0_max_power_uw": limit_uw,
    }
    for name, value in files.items():
        (place / name).write_text(f"{value}\n")
    energy = place / "energy_uj"
    if zone.unreadable:
        energy.mkdir()
    else:
        energy.write_text(f"{zone.text}\n")
        energy.chmod(zone.mode)


class Powercap:
    """The tree, kept ticking by a process of its own until it is closed.

    Args:
        folder: where it is made.
        zones: what is in it; those within zones can't have zones themselves.
        tick_s: between updates of the counters.
        marks: when gated zones have load.
        ticking: start the process; without it the counters move when :meth:`tick` is called.
    """

    def __init__(
        self,
        folder: Path,
        zones: Sequence[Zone] | None = None,
        *,
        tick_s: float = 0.001,
        marks: Marks | None = None,
        ticking: bool = True,
    ) -> None:
        devices = folder / "devices" / "virtual" / "powercap"
        numbered = list(_numbered(packages() if zones is None else zones))
        self._layout = _Layout(
            root=folder / "class" / "powercap",
            devices=devices,
            zones={key: zone for key, _, zone in numbered},
            places={key: devices / place for key, place, _ in numbered},
            epoch_ns=time.monotonic_ns(),
            tick_s=tick_s,
            journal=folder / "ticking",
        )
        self.root.mkdir(parents=True)
        for key in self._layout.zones:
            _make(self._layout, key)
        self._marks = marks
        self._ticker = _Ticker(self._layout, marks)
        self.tick(self._layout.epoch_s)
        self._child = _start(self._layout, marks) if ticking else None

    @property
    def root(self) -> Path:
        """What stands for /sys/class/powercap."""
        return self._layout.root

    @property
    def zones(self) -> dict[str, Zone]:
        """All zones by their names in the kernel, also those that have vanished."""
        return dict(self._layout.zones)

    @property
    def child(self) -> int | None:
        """Number of the process that ticks, if there is one."""
        return self._child.pid if self._child else None

    @property
    def epoch_ns(self) -> int:
        """When it was made, as ``time.monotonic_ns()``."""
        return self._layout.epoch_ns

    def tick(self, time_s: float) -> None:
        """Bring all counters to the last tick at or before a time, and zones to their end."""
        self._ticker.write(time_s)

    def close(self) -> None:
        """Stop ticking. The files stay as they are."""
        self._ticker.close()
        if self._child is not None:
            self._child.kill()
            with self._child:  # waits, and closes the pipe
                self._child = None

    def __enter__(self) -> Powercap:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- what is true ------------------------------------------------------------------------

    def truth(self, key: str) -> Truth:
        """Exact power and energy of a zone, also after its counter stopped."""
        return self._layout.truth(key, self._marks)

    def energy(self, key: str, start_s: float, end_s: float) -> float:
        """Joules that a zone used between two times."""
        return self.truth(key).energy(start_s, end_s)

    def longest_gap_s(self, start_s: float, end_s: float) -> float:
        """How long the ticking process didn't tick at a stretch that touches a span of time.

        So old may counters have been there; 0 where that was never more than a few milliseconds.
        """
        if not self._layout.journal.exists():
            return 0.0  # nothing ticks by itself
        return longest_gap_s(self._layout.journal, start_s, end_s)

    def calmly(
        self, measure: Callable[[], _T], tries: int = 5, calm_s: float = _CALM_S
    ) -> tuple[_T, float]:
        """What is measured in real time, tried again where counters stood still meanwhile.

        Args:
            measure: does it once.
            tries: how often at most.
            calm_s: they may stand still for so long.

        Returns:
            What was measured last, and :meth:`longest_gap_s` over that time.
        """
        for _ in range(tries):
            start_s = time.monotonic()
            found = measure()
            gap_s = self.longest_gap_s(start_s, time.monotonic())
            if gap_s < calm_s:
                break
        return found, gap_s

    def last_tick(self, key: str, time_s: float) -> float:
        """Time of a zone's last tick at or before a time."""
        return self._layout.last_tick(key, time_s)

    def counter_uj(self, key: str, time_s: float) -> int:
        """What the counter of a zone shows from the last tick at or before a time on.

        The file may be late: it is written after the tick, by a process that must first run.
        """
        tick_s = self.last_tick(key, time_s)
        return self._layout.shown_uj(key, self.energy(key, self._layout.epoch_s, tick_s))


class _Ticker:
    """Writes the counters' files. Sums up what can't change any more, to stay fast."""

    def __init__(self, layout: _Layout, marks: Marks | None) -> None:
        self._layout = layout
        self._truths = {key: layout.truth(key, marks) for key in layout.zones}
        self._sums = dict.fromkeys(layout.zones, (layout.epoch_s, 0.0))
        self._files = {
            key: _writable(layout.places[key] / "energy_uj", zone.mode)
            for key, zone in layout.zones.items()
            if not zone.unreadable and zone.text is None
        }
        self._present = set(layout.zones)

    def write(self, time_s: float) -> None:
        layout = self._layout
        for key in sorted(self._present):
            if time_s - layout.epoch_s >= layout.zones[key].vanishes_s:
                self._remove(key)
        for key, file in self._files.items():
            energy_j = self._energy_j(key, layout.last_tick(key, time_s))
            shown = b"%d\n" % layout.shown_uj(key, energy_j)
            # In one write, and always as long, so that nobody reads a mix of two numbers.
            os.pwrite(file, shown.ljust(_WIDTH, b"\n"), 0)

    def _energy_j(self, key: str, tick_s: float) -> float:
        summed_s, sum_j = self._sums[key]
        truth = self._truths[key]
        settled_s = tick_s - _LATE_MARKS_S
        if settled_s > summed_s + _LATE_MARKS_S:
            sum_j += truth.energy(summed_s, settled_s)
            summed_s = settled_s
            self._sums[key] = summed_s, sum_j
        return sum_j + truth.energy(summed_s, tick_s)

    def _remove(self, key: str) -> None:
        for gone in [name for name in self._present if f"{name}:".startswith(f"{key}:")]:
            self._present.remove(gone)
            (self._layout.root / gone).unlink(missing_ok=True)
            if gone in self._files:
                os.close(self._files.pop(gone))
        shutil.rmtree(self._layout.places[key], ignore_errors=True)

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])


def _writable(energy: Path, mode: int) -> int:
    """The counter's file, open for us whatever others, or even we, may do with it."""
    energy.chmod(0o600)
    file = os.open(energy, os.O_WRONLY | os.O_CLOEXEC)
    energy.chmod(mode)
    return file


# --- the process that ticks ------------------------------------------------------------------


def _start(layout: _Layout, marks: Marks | None) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD],
        cwd=_PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin as stdin:
        stdin.write(pickle.dumps((layout, marks and marks.path, os.getpid())))
    if not child.stdout.readline():
        child.wait()
        raise RuntimeError("the process that ticks the powercap tree did not start")
    return child


def tick_for_parent() -> None:
    """Tick until killed, or until the parent is gone."""
    layout, marks, parent = pickle.load(sys.stdin.buffer)
    ticker = _Ticker(layout, Marks(marks, create=False) if marks else None)
    with contextlib.suppress(AttributeError, OSError):
        # A meter that reads without a pause, and may ask to run at once, must not keep us waiting:
        # a real counter is hardware.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))
    journal = Journal(layout.journal, time.monotonic())
    ticker.write(time.monotonic())  # whoever waits for the next line finds no old value
    sys.stdout.write("ticking\n")
    sys.stdout.flush()
    while os.getppid() == parent:
        now_s = time.monotonic()
        journal.act(now_s)
        ticker.write(now_s)
        next_s = (
            layout.epoch_s + math.ceil((now_s - layout.epoch_s) / layout.tick_s) * layout.tick_s
        )
        # What was missed is left out: the next tick brings its energy too.
        time.sleep(max(next_s - time.monotonic(), 0.0))
