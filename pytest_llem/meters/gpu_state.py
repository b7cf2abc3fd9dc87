"""The state of GPUs at one moment: what bears on how fast they are and what they draw."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pytest_llem.gpus import Gpu
from pytest_llem.nvml import (
    CLOCK_MEMORY,
    CLOCK_SM,
    TEMPERATURE_GPU,
    Memory,
    Nvml,
    NvmlRefused,
    board,
    event_bits,
    opened,
    reason_of,
)

__all__ = ["EVENTS", "HARMLESS", "GpuProcess", "GpuState", "States", "events_of", "gpu_states"]

_T = TypeVar("_T")

EVENTS = {
    0x001: "idle",
    0x002: "application_clocks",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}
"""Why clocks aren't higher: the bits nvmlClocksEventReason of nvml.h."""

HARMLESS = frozenset({"idle", "application_clocks", "display_clocks"})
"""Nothing to do, or as somebody set it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process that has a context on a GPU; its memory is None where NVML doesn't tell."""

    pid: int
    memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """A GPU at one moment. What could not be read is None, and ``unread`` says why.

    Attributes:
        gpu: its number, as nvidia-smi shows it.
        at_s: when, by the monotonic clock.
        events: why its clocks aren't higher, by the names of :data:`EVENTS`.
        power_limit_w: the limit in force.
        power_limit_default_w: the one that the board has by itself.
        memory_used_bytes: without what the driver itself holds, where it tells that apart.
        utilisation: share of time in which something computed, from 0 to 1.
        mig: whether it is cut into instances.
        processes: those with a context for computing.
        unread: name of a field to the reason.
    """

    gpu: int
    uuid: str
    name: str
    at_s: float
    temperature_c: float | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    events: tuple[str, ...] | None = None
    power_limit_w: float | None = None
    power_limit_default_w: float | None = None
    persistence: bool | None = None
    memory_used_bytes: int | None = None
    utilisation: float | None = None
    mig: bool | None = None
    processes: tuple[GpuProcess, ...] | None = None
    unread: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """The GPUs of an experiment at one moment; none of them, and a reason, where NVML refuses."""

    gpus: tuple[GpuState, ...] = ()
    driver: str | None = None
    reason: str = ""


def events_of(bits: int) -> tuple[str, ...]:
    """Names of the bits that are set; unknown ones by their number."""
    known = [name for bit, name in EVENTS.items() if bits & bit]
    rest = bits & ~sum(EVENTS)
    return (*known, f"0x{rest:x}") if rest else tuple(known)


def gpu_states(gpus: Sequence[Gpu], nvml: Nvml | None = None) -> States:
    """Look at some GPUs.

    Args:
        gpus: whole ones, or MIG instances: memory and processes are the instance's own, all else
            is that of its GPU.
        nvml: ``pynvml``, or a test's own.
    """
    try:
        with opened(nvml) as library:
            states = tuple(_state(library, gpu) for gpu in gpus)
            return States(gpus=states, driver=library.nvmlSystemGetDriverVersion())
    except NvmlRefused as refused:
        return States(reason=str(refused))


def _state(library: Nvml, gpu: Gpu) -> GpuState:
    unread: dict[str, str] = {}

    def read(name: str, ask: Callable[[], _T]) -> _T | None:
        try:
            return ask()
        except library.NVMLError as error:
            unread[name] = reason_of(error)
            return None

    whole, own = board(library, gpu.uuid), library.nvmlDeviceGetHandleByUUID(gpu.uuid)
    return GpuState(
        gpu=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        at_s=time.monotonic(),
        **_pace(library, whole, read),
        persistence=read("persistence", lambda: bool(library.nvmlDeviceGetPersistenceMode(whole))),
        memory_used_bytes=read("memory_used_bytes", lambda: _memory(library, own).used),
        utilisation=read(
            "utilisation", lambda: library.nvmlDeviceGetUtilizationRates(whole).gpu / 100
        ),
        mig=read("mig", lambda: _mig(library, whole)),
        processes=read("processes", lambda: _processes(library, own)),
        unread=unread,
    )


def _pace(
    library: Nvml, whole: object, read: Callable[[str, Callable[[], Any]], Any]
) -> dict[str, Any]:
    """What says how fast the GPU may go."""
    questions: dict[str, Callable[[], Any]] = {
        "temperature_c": lambda: float(library.nvmlDeviceGetTemperature(whole, TEMPERATURE_GPU)),
        "sm_clock_mhz": lambda: library.nvmlDeviceGetClockInfo(whole, CLOCK_SM),
        "memory_clock_mhz": lambda: library.nvmlDeviceGetClockInfo(whole, CLOCK_MEMORY),
        "events": lambda: events_of(event_bits(library, whole)),
        "power_limit_w": lambda: library.nvmlDeviceGetEnforcedPowerLimit(whole) / 1000,
        "power_limit_default_w": lambda: (
            library.nvmlDeviceGetPowerManagementDefaultLimit(whole) / 1000
        ),
    }
    return {name: read(name, question) for name, question in questions.items()}


def _memory(library: Nvml, handle: object) -> Memory:
    """Memory by version 2 of the question, which older drivers and bindings don't know."""
    version = getattr(library, "nvmlMemory_v2", None)
    if version is not None:
        try:
            return library.nvmlDeviceGetMemoryInfo(handle, version=version)
        except library.NVMLError:
            pass
    return library.nvmlDeviceGetMemoryInfo(handle)


_NOT_SUPPORTED = 3


def _mig(library: Nvml, whole: object) -> bool:
    try:
        return bool(library.nvmlDeviceGetMigMode(whole)[0])
    except library.NVMLError as error:
        if getattr(error, "value", None) == _NOT_SUPPORTED:
            return False  # most boards can't be cut into instances
        raise


def _processes(library: Nvml, handle: object) -> tuple[GpuProcess, ...]:
    return tuple(
        GpuProcess(pid=process.pid, memory_bytes=process.usedGpuMemory)
        for process in library.nvmlDeviceGetComputeRunningProcesses_v3(handle)
    )
