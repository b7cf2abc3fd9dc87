"""Memory of the processes that an engine on the CPU is made of: this one and all below it."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import sys
from pathlib import Path

from pytest_llem.worker.lifeline import descendants

__all__ = ["peak_resident_bytes", "reset_peak_resident"]


def reset_peak_resident(proc: Path = Path("/proc")) -> None:
    """Start new peaks; where that isn't permitted they include what was before."""
    for pid in _engine_pids():
        with contextlib.suppress(OSError):
            (proc / str(pid) / "clear_refs").write_text("5")


def peak_resident_bytes(proc: Path = Path("/proc")) -> int | None:
    """Sum of the peaks of resident memory since the last reset, in bytes.

    Pages that several processes share, of libraries for the most part, count in each; so do peaks
    at different times. Both make the sum no smaller than the true peak.
    """
    peaks = [peak for pid in _engine_pids() if (peak := _peak(proc / str(pid) / "status"))]
    if peaks:
        return sum(peaks)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _engine_pids() -> list[int]:
    return [os.getpid(), *descendants(os.getpid())]


def _peak(status: Path) -> int | None:
    with contextlib.suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text()):
            return int(found[1]) * 1024
    return None
