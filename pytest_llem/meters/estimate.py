"""A model of the CPU's power, for hosts where nothing measures it. Never a measurement.

Energy = CPUs × 0.74 W × time + (3.5 W − 0.74 W) × CPU time of this process and those below it.
The two constants are the average watts per logical CPU at 0 % and at 100 % utilisation of the
Cloud Carbon Footprint methodology (appendix I, AWS), which derives them from SPECpower results.
They are shares of a whole server, memory included. Per processor family the same source has 1.69 W
to 8.58 W at 100 %: the figure may be wrong by more than a factor of two; docs/methodology.md lists
the assumptions.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llem.extensions import Target
from pytest_llem.machine import cpu_count
from pytest_llem.records import Reading
from pytest_llem.worker.lifeline import descendants

__all__ = ["BUSY_W", "IDLE_W", "EstimateMeter", "cpu_time_s", "model_j"]

IDLE_W = 0.74
BUSY_W = 3.5
RELATIVE_UNCERTAINTY = 0.5


@dataclass(frozen=True, slots=True)
class _Start:
    cpu_s: float


class EstimateMeter:
    """Estimates ``cpu:0`` from CPU time; one domain stands for all packages of the host."""

    name = "estimate"
    estimates = True

    def __init__(self, target: Target) -> None:
        """The CPU for an experiment on the CPU; there is no model for GPUs."""
        self.domains = ("cpu:0",) if target.device == "cpu" else ()
        self.reason = "" if self.domains else f"there is no model of a {target.device} device"

    def start(self, exact: bool = True) -> _Start:  # noqa: ARG002  no edges to wait for
        """Note the CPU time so far."""
        return _Start(cpu_time_s())

    def stop(self, token: _Start, start_s: float, end_s: float) -> Sequence[Reading]:
        """Turn the CPU time since then into joules."""
        # A grandchild that ended meanwhile takes its time away: less than none is impossible.
        cpu_s = max(0.0, cpu_time_s() - token.cpu_s)
        joules = model_j(end_s - start_s, cpu_s, cpu_count())
        return (
            Reading(
                domain="cpu:0",
                meter=self.name,
                method="estimate",
                energy_j=joules,
                systematic=RELATIVE_UNCERTAINTY,
                quality="estimated",
                reason="modelled from CPU time; nothing here measures the CPU's energy",
            ),
        )

    def close(self) -> None:
        """Nothing is held."""


def model_j(duration_s: float, cpu_s: float, cpus: int) -> float:
    """The model: joules of ``cpus`` logical CPUs that were busy for ``cpu_s`` in total."""
    return cpus * IDLE_W * duration_s + (BUSY_W - IDLE_W) * cpu_s


def cpu_time_s() -> float:
    """CPU seconds of this process, of its ended children and, on Linux, of all that live below."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time() + ended.ru_utime + ended.ru_stime
    if sys.platform != "linux":
        return own
    ticks = sum(_ticks(pid) for pid in descendants(os.getpid()))
    return own + ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    """User and system clock ticks of a process; 0 when it has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])
