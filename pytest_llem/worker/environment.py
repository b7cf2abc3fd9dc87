"""What a measurement ran on: the testbed, which two measurements must share to be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_llem.extensions import Meter
from pytest_llem.machine import cpu_count, cpu_model, system

__all__ = ["testbed"]


def testbed(device: str, meters: Sequence[Meter]) -> dict[str, Any]:
    """Device, processor, operating system and the meters that read them."""
    return {
        "device": device,
        "cpu": cpu_model(),
        "cpus": cpu_count(),
        "system": system(),
        "meters": {meter.name: list(meter.domains) for meter in meters},
    }
