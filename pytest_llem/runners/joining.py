"""Readings that a meter on the host took for the windows of an engine in a container."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_llem.records import Reading

__all__ = ["join"]


def join(
    readings: Iterable[Reading], engine_boot_id: str | None, meter_boot_id: str | None
) -> tuple[Reading, ...]:
    """The readings, if the engine's clock is the meter's; else without figures, and why.

    Windows are told by the monotonic clock, which begins anew with each start of a kernel. A
    container shares the kernel of its host. One in a virtual machine, or on another host, doesn't.

    Args:
        readings: the meter's.
        engine_boot_id: of the hello of the engine's worker.
        meter_boot_id: of the hello of the meter's worker.
    """
    if engine_boot_id and engine_boot_id == meter_boot_id:
        return tuple(readings)
    why = (
        "the engine ran on another kernel than the meter"
        if engine_boot_id and meter_boot_id
        else "it isn't known whether engine and meter ran on the same kernel"
    )
    reason = f"{why}, so their clocks can't be compared"
    return tuple(reading.without_figures(reason) for reading in readings)
