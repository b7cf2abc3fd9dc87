"""The parts of a simulated powercap tree, and a command for which its permissions hold."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

__all__ = ["CONTROL", "Zone", "packages", "without_privilege"]

CONTROL = "intel-rapl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A part of the machine with a counter of its own.

    Attributes:
        name: ``package-0``, ``core``, ``uncore``, ``dram`` or ``psys``.
        wave: power under load, see :class:`tests.rig.truth.Wave`.
        idle_w: power without load.
        gated: load only between the marks; otherwise at all times.
        zones: those within it. Their energy is their own: nothing makes it a part of this one's.
        start_uj: what the counter shows at the epoch.
        max_range_uj: the highest value; the counter goes on at 0 after it.
        quantum_uj: it moves in steps of this; 61.03515625 on most of Intel's processors.
        limit_w: the long-term limit, which stands for the processor's TDP.
        mode: permissions of ``energy_uj``; the kernel's own are 0o400. They don't bind root: see
            :func:`without_privilege`, and ``unreadable``.
        unreadable: reading ``energy_uj`` fails for root too (it is a directory).
        text: what ``energy_uj`` holds in place of a number.
        stops_s: seconds after the epoch at which the counter stands still.
        vanishes_s: seconds after the epoch at which the zone is gone, and all in it.
        control: the driver; ``intel-rapl-mmio`` shows the same packages a second time.
    """

    name: str
    wave: str = "square:30,120,0.2"
    idle_w: float = 10.0
    gated: bool = False
    zones: tuple[Zone, ...] = ()
    start_uj: int = 0
    max_range_uj: int = 262_143_328_850
    quantum_uj: float = 1.0
    limit_w: float = 200.0
    mode: int = 0o444
    unreadable: bool = False
    text: str | None = None
    stops_s: float = math.inf
    vanishes_s: float = math.inf
    control: str = CONTROL


def packages(
    count: int = 1, *, dram: bool = True, core: bool = False, like: Zone | None = None
) -> tuple[Zone, ...]:
    """Packages of a machine, each with a wave of its own.

    Args:
        count: how many.
        dram: each has a zone of memory.
        core: each has a zone of cores, which are a part of the package.
        like: what all zones have but name and wave.
    """
    like = like or Zone(name="")
    parts = [("core", "square:20,90,{}")] * core + [("dram", "square:4,15,{}")] * dram
    made = []
    for number in range(count):
        period_s = 0.2 + 0.03 * number
        inner = tuple(replace(like, name=name, wave=wave.format(period_s)) for name, wave in parts)
        outer_wave = f"square:30,120,{period_s}"
        made.append(replace(like, name=f"package-{number}", wave=outer_wave, zones=inner))
    return tuple(made)


def without_privilege(command: Sequence[str]) -> list[str]:
    """A command for which the permissions of files hold, also where tests run as root.

    It stays the same user, who owns the files, so that it can still reach everything else.
    """
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
