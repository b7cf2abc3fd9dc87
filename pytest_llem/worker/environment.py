"""What a measurement ran on: the testbed, which two measurements must share to be compared."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_llem.extensions import Meter

__all__ = ["cpu_count", "cpu_model", "testbed"]


def cpu_count() -> int:
    """Logical CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str:
    """The processor's name as the system gives it; the architecture where it gives none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def testbed(device: str, meters: Sequence[Meter]) -> dict[str, Any]:
    """Device, processor, operating system and the meters that read them."""
    return {
        "device": device,
        "cpu": cpu_model(),
        "cpus": cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "meters": {meter.name: list(meter.domains) for meter in meters},
    }
