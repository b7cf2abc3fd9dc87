"""Short ways to ask pynvml, for the tests of the rig."""

from __future__ import annotations

from typing import Any

import pynvml

__all__ = ["energy_mj", "field", "handle", "power_mw"]


def handle(index: int = 0) -> Any:
    """A GPU, after opening NVML."""
    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByIndex(index)


def energy_mj(gpu: Any) -> int:
    """The counter."""
    value: int = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
    return value


def power_mw(gpu: Any) -> int:
    """PowerUsage."""
    value: int = pynvml.nvmlDeviceGetPowerUsage(gpu)
    return value


def field(gpu: Any, number: int, scope: int = 0) -> Any:
    """One field with its time stamp and its result."""
    return pynvml.nvmlDeviceGetFieldValues(gpu, [(number, scope)])[0]
