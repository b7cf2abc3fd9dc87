"""NVML, the library of NVIDIA's driver: opening it, GPUs by their UUIDs, errors as reasons.

The one place that knows the package ``pynvml``. Whoever asks NVML does so in a block of
:func:`opened`, or with :class:`Boards`. What it refuses is an :class:`NvmlRefused`, whose text
says why and what to do.
"""
# ruff: noqa: N802  the names of NVML's functions and fields are NVML's own

from __future__ import annotations

import contextlib
import ctypes
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

__all__ = [
    "CLOCK_MEMORY",
    "CLOCK_SM",
    "FIELD_POWER_INSTANT",
    "NO_PERMISSION",
    "TEMPERATURE_GPU",
    "Boards",
    "Memory",
    "Nvml",
    "NvmlRefused",
    "bindings",
    "board",
    "driver_is_there",
    "event_bits",
    "opened",
    "reason_of",
]

_T = TypeVar("_T")

NO_PERMISSION = 4
_NO_FUNCTION = 13
_REASONS = {
    3: "the GPU, or its driver, doesn't tell that",
    NO_PERMISSION: "no permission to use NVIDIA GPUs; check who may read and write /dev/nvidia*,"
    " or give the container or job access to them",
    9: "the NVIDIA driver is installed, but its kernel module isn't loaded; restart the machine,"
    " and see what nvidia-smi says",
    12: "no NVIDIA driver was found (libnvidia-ml.so.1); install it, or start this container with"
    " access to the GPUs",
    _NO_FUNCTION: "the NVIDIA driver is too old for the installed nvidia-ml-py; update the driver",
    15: "the driver can't reach the GPU any more (it is lost); restart the machine",
    16: "the GPU must be reset before it can be used; run nvidia-smi --gpu-reset, or restart the"
    " machine",
    18: "the NVIDIA driver was updated while the old one is still loaded; restart the machine",
}
"""By the numbers of nvmlReturn_t, which are part of NVML's binary interface."""

# Constants of nvml.h, part of the same interface.
TEMPERATURE_GPU = 0
"""NVML_TEMPERATURE_GPU: the sensor of the chip itself, the only one that every board has."""
CLOCK_SM, CLOCK_MEMORY = 1, 2
FIELD_POWER_INSTANT = 186
"""NVML_FI_DEV_POWER_INSTANT: power now, in milliwatts, where nvmlDeviceGetPowerUsage averages."""


class Memory(Protocol):
    """A GPU's memory, in bytes."""

    @property
    def total(self) -> int:
        """All of it."""

    @property
    def used(self) -> int:
        """What is in use."""


class Nvml(Protocol):
    """The functions of ``pynvml`` that are used here. A handle is whatever it hands out."""

    @property
    def NVMLError(self) -> type[Exception]:
        """Base of its errors; their ``value`` is NVML's number."""

    def nvmlInit(self) -> None:
        """Load the driver's library and open it; every call needs one of nvmlShutdown."""

    def nvmlShutdown(self) -> None:
        """Close it."""

    def nvmlDeviceGetCount(self) -> int:
        """GPUs of the host, those too that this user may not use."""

    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> object:
        """GPU by its number, in the order of the PCI bus."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str, /) -> object:
        """GPU, or MIG instance, by its whole UUID."""

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: object, /) -> object:
        """GPU that a MIG instance is a part of."""

    def nvmlDeviceGetIndex(self, handle: object, /) -> int:
        """Number of a GPU."""

    def nvmlDeviceGetUUID(self, handle: object, /) -> str:
        """UUID of a GPU."""

    def nvmlDeviceGetName(self, handle: object, /) -> str:
        """Model of a GPU."""

    def nvmlDeviceGetMemoryInfo(self, handle: object, /, version: int | None = None) -> Memory:
        """Memory of a GPU; as of version 2, what the driver itself holds isn't counted as used."""

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: object, /) -> int:
        """Lowest of all limits that are set, in milliwatts."""

    def nvmlDeviceGetTemperature(self, handle: object, sensor: int, /) -> int:
        """Temperature in whole degrees Celsius."""

    def nvmlSystemGetDriverVersion(self) -> str:
        """Version of the driver."""

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        """The latest CUDA that the driver knows: 12040 for 12.4."""

    def nvmlDeviceGetClockInfo(self, handle: object, kind: int, /) -> int:
        """A clock now, in MHz."""

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: object, /) -> int:
        """Bits that say why clocks aren't higher; drivers before 535 lack it."""

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: object, /) -> int:
        """The older name of the same."""

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: object, /) -> int:
        """Power limit that the board has by itself, in milliwatts."""

    def nvmlDeviceGetPersistenceMode(self, handle: object, /) -> int:
        """Whether the driver stays loaded while nobody uses the GPU."""

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: object, /) -> Sequence[Any]:
        """Processes with a context: ``pid`` and ``usedGpuMemory``, None where it isn't told."""

    def nvmlDeviceGetMigMode(self, handle: object, /) -> Sequence[int]:
        """Whether the GPU is cut into instances, now and after a reset."""

    def nvmlDeviceGetUtilizationRates(self, handle: object, /) -> Any:
        """Share of time in which something computed: ``gpu``, in percent."""

    def nvmlDeviceGetPowerUsage(self, handle: object, /) -> int:
        """Power in milliwatts; a mean over 1 s on most boards since Ampere."""

    def nvmlDeviceGetFieldValues(self, handle: object, fields: Sequence[Any], /) -> Sequence[Any]:
        """Values by number of their field; each has an ``nvmlReturn`` of its own."""


class NvmlRefused(Exception):
    """NVML can't be used, or did not answer; the message says why and what to do."""


def driver_is_there() -> bool:
    """Whether there is a driver to load: told without importing pynvml, which takes longer."""
    try:
        ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError:
        return False
    return True


@contextlib.contextmanager
def opened(nvml: Nvml | None = None) -> Iterator[Nvml]:
    """NVML for the length of a block.

    Args:
        nvml: ``pynvml``, or a test's own.

    Raises:
        NvmlRefused: when it can't be opened, or for an error of NVML inside of the block.
    """
    library = bindings() if nvml is None else nvml
    try:
        library.nvmlInit()
        try:
            yield library
        finally:
            # What was asked for is there by now.
            with contextlib.suppress(library.NVMLError):
                library.nvmlShutdown()
    except library.NVMLError as error:
        raise NvmlRefused(reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """Why NVML refused something, and what to do about it."""
    number = getattr(error, "value", None)
    known = _REASONS.get(number) if isinstance(number, int) else None
    return known or f"NVML failed: {error} (error {number}); see what nvidia-smi says"


def board(library: Nvml, uuid: str) -> object:
    """Handle of a whole GPU, also for one of its MIG instances."""
    handle = library.nvmlDeviceGetHandleByUUID(uuid)
    if uuid.startswith("MIG-"):
        return library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    return handle


def event_bits(library: Nvml, handle: object) -> int:
    """Bits that say why a GPU's clocks aren't higher, whatever the driver calls them."""
    try:
        return library.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except library.NVMLError as error:
        if getattr(error, "value", None) != _NO_FUNCTION:
            raise
    return library.nvmlDeviceGetCurrentClocksThrottleReasons(handle)


class Boards:
    """Some GPUs, with NVML open for as long as they are asked.

    Attributes:
        library: ``pynvml``.
        handles: of whole GPUs, in the order of the UUIDs: power and energy are theirs alone.
    """

    def __init__(self, uuids: Sequence[str], nvml: Nvml | None = None) -> None:
        """Open NVML and find the GPUs.

        Args:
            uuids: ``GPU-...``, or ``MIG-...`` for the GPU that the instance is a part of.
            nvml: ``pynvml``, or a test's own.

        Raises:
            NvmlRefused: when NVML can't be opened, or one of them isn't there.
        """
        self._open = contextlib.ExitStack()
        self.library = self._open.enter_context(opened(nvml))
        try:
            self.handles = tuple(board(self.library, uuid) for uuid in uuids)
        except self.library.NVMLError as error:
            self.close()
            raise NvmlRefused(reason_of(error)) from error

    def ask(self, question: Callable[..., _T], *arguments: Any) -> _T:
        """The answer to one question: a function of ``library`` and what it takes.

        Raises:
            NvmlRefused: when NVML doesn't answer it.
        """
        try:
            return question(*arguments)
        except self.library.NVMLError as error:
            raise NvmlRefused(reason_of(error)) from error

    def close(self) -> None:
        """Close NVML; the handles are of no use any more."""
        self._open.close()


def bindings() -> Nvml:
    """The module ``pynvml``.

    Raises:
        NvmlRefused: when it can't be imported.
    """
    try:
        # What another library warns of is no fault of the tests, whatever -W says.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pynvml
    except ImportError as error:
        raise NvmlRefused(
            f"the package nvidia-ml-py can't be imported ({error}); run: pip install nvidia-ml-py"
        ) from error
    library: Nvml = pynvml
    return library
