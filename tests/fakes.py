"""Stand-ins for what is outside of this package, by the protocols of extensions.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Board", "FakeNvml", "FakeNvmlError", "FieldValue", "Process", "ScriptedTransport"]


class ScriptedTransport:
    """A worker that says what it was told to say, a chunk each millisecond of its own clock.

    After the last chunk it is silent, or at its end where an exit status is given.

    Attributes:
        now_s: the time; waiting moves it on.
    """

    def __init__(
        self, chunks: Sequence[bytes] = (), *, status: int | None = None, log: str = ""
    ) -> None:
        self.now_s = 0.0
        self.sent = b""
        self.stops: list[float] = []
        self.limits_s: list[float] = []
        self._chunks = list(chunks)
        self._status = status
        self._log = log

    def clock(self) -> float:
        return self.now_s

    def send(self, data: bytes) -> None:
        self.sent += data

    def receive(self, timeout_s: float) -> bytes | None:
        self.limits_s.append(timeout_s)
        if self._chunks:
            self.now_s += 0.001
            return self._chunks.pop(0)
        if self._status is not None:
            return b""
        self.now_s += timeout_s + 1e-6  # sleepers wake late, never early
        return None

    def wait(self, timeout_s: float) -> int | None:
        assert timeout_s > 0
        return self._status

    def stop(self, grace_s: float) -> None:
        self.stops.append(grace_s)

    def log_size(self) -> int:
        return len(self._log)

    def log_tail(self, lines: int) -> str:
        return "\n".join(self._log.splitlines()[-lines:])


@dataclass(frozen=True)
class Process:
    """A process that computes on a GPU."""

    pid: int
    usedGpuMemory: int | None = 2**30  # noqa: N815


@dataclass(frozen=True)
class FieldValue:
    """What NVML says of one field: an error of its own, or a value."""

    nvmlReturn: int  # noqa: N815
    uiVal: int  # noqa: N815

    @property
    def value(self) -> FieldValue:
        return self


@dataclass(frozen=True, kw_only=True)
class Board:
    """A GPU of :class:`FakeNvml`, and what stands for its handle there."""

    uuid: str
    name: str = "NVIDIA A100"
    total: int = 80 * 2**30
    used: int = 0
    limit_mw: int = 400_000
    default_limit_mw: int = 400_000
    power_mw: int = 100_000
    instant_mw: int | None = 120_000
    celsius: int = 30
    sm_mhz: int = 1410
    memory_mhz: int = 1593
    event_bits: int = 0
    persistence: int = 1
    mig: int = 0
    busy_percent: int = 0
    processes: tuple[Process, ...] = ()
    part_of: Board | None = None

    @property
    def gpu(self) -> int:
        """Its utilisation, by NVML's name."""
        return self.busy_percent


class FakeNvmlError(Exception):
    """An error as ``pynvml`` raises it: with NVML's number."""

    def __init__(self, value: int) -> None:
        super().__init__(f"number {value}")
        self.value = value


class FakeNvml:
    """NVML without a driver.

    Args:
        boards: GPUs, in the order of the bus.
        instances: MIG instances.
        errors: name of a function, or of a function and a GPU's number or UUID, to the number of
            the error that it raises: ``{"nvmlInit": 12, "nvmlDeviceGetName GPU-a": 15}``.
    """

    NVMLError: type[Exception] = FakeNvmlError
    driver = "570.86.15"
    cuda = 12080

    def __init__(
        self,
        *boards: Board,
        instances: Sequence[Board] = (),
        errors: Mapping[str, int] | None = None,
    ) -> None:
        self.boards = list(boards)
        self.errors = dict(errors or {})
        self.opened = 0
        self.calls: list[str] = []
        self._instances = list(instances)

    def nvmlInit(self) -> None:  # noqa: N802
        self._enter("nvmlInit")
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1
        self._enter("nvmlShutdown")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._enter("nvmlDeviceGetCount")
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> object:  # noqa: N802
        self._enter("nvmlDeviceGetHandleByIndex", index)
        return self.boards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str, /) -> object:  # noqa: N802
        self._enter("nvmlDeviceGetHandleByUUID", uuid)
        for board in (*self.boards, *self._instances):
            if board.uuid == uuid:
                return board
        raise FakeNvmlError(6)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(  # noqa: N802
        self, handle: object, /
    ) -> object:
        return self._board("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle).part_of

    def nvmlDeviceGetIndex(self, handle: object, /) -> int:  # noqa: N802
        return self.boards.index(self._board("nvmlDeviceGetIndex", handle))

    def nvmlDeviceGetUUID(self, handle: object, /) -> str:  # noqa: N802
        return self._board("nvmlDeviceGetUUID", handle).uuid

    def nvmlDeviceGetName(self, handle: object, /) -> str:  # noqa: N802
        return self._board("nvmlDeviceGetName", handle).name

    def nvmlDeviceGetMemoryInfo(  # noqa: N802
        self, handle: object, /, version: int | None = None
    ) -> Board:
        return self._board("nvmlDeviceGetMemoryInfo", handle)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: object, /) -> int:  # noqa: N802
        return self._board("nvmlDeviceGetEnforcedPowerLimit", handle).limit_mw

    def nvmlDeviceGetTemperature(self, handle: object, sensor: int, /) -> int:  # noqa: N802
        assert sensor == 0
        return self._board("nvmlDeviceGetTemperature", handle).celsius

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        self._enter("nvmlSystemGetDriverVersion")
        return self.driver

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:  # noqa: N802
        self._enter("nvmlSystemGetCudaDriverVersion_v2")
        return self.cuda

    def nvmlDeviceGetClockInfo(self, handle: object, kind: int, /) -> int:  # noqa: N802
        board = self._board("nvmlDeviceGetClockInfo", handle)
        return {1: board.sm_mhz, 2: board.memory_mhz}[kind]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: object, /) -> int:  # noqa: N802
        return self._board("nvmlDeviceGetCurrentClocksEventReasons", handle).event_bits

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: object, /) -> int:  # noqa: N802
        return self._board("nvmlDeviceGetCurrentClocksThrottleReasons", handle).event_bits

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: object, /) -> int:  # noqa: N802
        return self._board("nvmlDeviceGetPowerManagementDefaultLimit", handle).default_limit_mw

    def nvmlDeviceGetPersistenceMode(self, handle: object, /) -> int:  # noqa: N802
        return self._board("nvmlDeviceGetPersistenceMode", handle).persistence

    def nvmlDeviceGetComputeRunningProcesses_v3(  # noqa: N802
        self, handle: object, /
    ) -> Sequence[Process]:
        return self._board("nvmlDeviceGetComputeRunningProcesses_v3", handle).processes

    def nvmlDeviceGetMigMode(self, handle: object, /) -> Sequence[int]:  # noqa: N802
        mode = self._board("nvmlDeviceGetMigMode", handle).mig
        return [mode, mode]

    def nvmlDeviceGetUtilizationRates(self, handle: object, /) -> Board:  # noqa: N802
        return self._board("nvmlDeviceGetUtilizationRates", handle)

    def nvmlDeviceGetPowerUsage(self, handle: object, /) -> int:  # noqa: N802
        return self._board("nvmlDeviceGetPowerUsage", handle).power_mw

    def nvmlDeviceGetFieldValues(  # noqa: N802
        self, handle: object, fields: Sequence[Any], /
    ) -> Sequence[FieldValue]:
        instant_mw = self._board("nvmlDeviceGetFieldValues", handle).instant_mw
        assert list(fields) == [186]
        return [FieldValue(3, 0) if instant_mw is None else FieldValue(0, instant_mw)]

    def _board(self, function: str, handle: object) -> Board:
        assert isinstance(handle, Board)
        self._enter(function, handle.uuid)
        return handle

    def _enter(self, function: str, which: object = "") -> None:
        assert self.opened or function in {"nvmlInit", "nvmlShutdown"}, "NVML isn't open"
        self.calls.append(function)
        for key in (function, f"{function} {which}"):
            if key in self.errors:
                raise FakeNvmlError(self.errors[key])
