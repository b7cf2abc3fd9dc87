"""GPUs at one moment, by an NVML that only pretends."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pytest_llem.gpus import Gpu, look
from pytest_llem.meters.gpu_state import GpuProcess, events_of, gpu_states
from tests.fakes import Board, FakeNvml, Process

A = Board(
    uuid="GPU-aa11",
    used=3 * 2**30,
    limit_mw=300_000,
    default_limit_mw=400_000,
    celsius=41,
    sm_mhz=1305,
    memory_mhz=1593,
    event_bits=0x5,
    busy_percent=37,
    processes=(Process(7, 2**30), Process(8, None)),
)
B = Board(uuid="GPU-ab22", mig=1, celsius=55, persistence=0)
SLICE = Board(uuid="MIG-5d5d", used=2**30, celsius=0, part_of=B, processes=(Process(9),))


def gpus(nvml: FakeNvml) -> tuple[Gpu, ...]:
    return look(nvml, {}).gpus


def test_all_is_told_in_our_units() -> None:
    nvml = FakeNvml(A)
    before_s = time.monotonic()
    found = gpu_states(gpus(nvml), nvml)
    (state,) = found.gpus
    assert (found.driver, found.reason) == ("570.86.15", "")
    assert before_s <= state.at_s <= time.monotonic()
    assert (state.gpu, state.uuid, state.name) == (0, "GPU-aa11", "NVIDIA A100")
    assert (state.temperature_c, state.sm_clock_mhz, state.memory_clock_mhz) == (41.0, 1305, 1593)
    assert state.events == ("idle", "sw_power_cap")
    assert (state.power_limit_w, state.power_limit_default_w) == (300.0, 400.0)
    assert (state.persistence, state.mig, state.utilisation) == (True, False, 0.37)
    assert state.memory_used_bytes == 3 * 2**30
    assert state.processes == (
        GpuProcess(pid=7, memory_bytes=2**30),
        GpuProcess(pid=8, memory_bytes=None),
    )
    assert state.unread == {}
    assert nvml.opened == 0


FIELDS = {
    "nvmlDeviceGetTemperature": "temperature_c",
    "nvmlDeviceGetCurrentClocksEventReasons": "events",
    "nvmlDeviceGetEnforcedPowerLimit": "power_limit_w",
    "nvmlDeviceGetPowerManagementDefaultLimit": "power_limit_default_w",
    "nvmlDeviceGetPersistenceMode": "persistence",
    "nvmlDeviceGetMemoryInfo": "memory_used_bytes",
    "nvmlDeviceGetUtilizationRates": "utilisation",
    "nvmlDeviceGetComputeRunningProcesses_v3": "processes",
}


@pytest.mark.parametrize(("function", "field"), FIELDS.items())
def test_what_is_not_told_is_none_with_the_reason(function: str, field: str) -> None:
    nvml = FakeNvml(A, errors={function: 3})
    (state,) = gpu_states(gpus(nvml), nvml).gpus
    assert getattr(state, field) is None
    assert state.unread == {field: "the GPU, or its driver, doesn't tell that"}


def test_a_board_that_can_not_be_cut_is_not_in_mig_mode() -> None:
    nvml = FakeNvml(A, errors={"nvmlDeviceGetMigMode": 3})
    (state,) = gpu_states(gpus(nvml), nvml).gpus
    assert (state.mig, state.unread) == (False, {})


def test_an_older_driver_tells_events_by_their_old_name() -> None:
    nvml = FakeNvml(A, errors={"nvmlDeviceGetCurrentClocksEventReasons": 13})
    (state,) = gpu_states(gpus(nvml), nvml).gpus
    assert state.events == ("idle", "sw_power_cap")


def test_an_instance_has_its_own_memory_and_processes_and_all_else_of_its_gpu() -> None:
    nvml = FakeNvml(A, B, instances=[SLICE])
    slices = look(nvml, {"CUDA_VISIBLE_DEVICES": "MIG-5d5d"}).gpus
    (state,) = gpu_states(slices, nvml).gpus
    assert (state.gpu, state.mig, state.temperature_c, state.persistence) == (1, True, 55.0, False)
    assert state.memory_used_bytes == 2**30
    assert state.processes == (GpuProcess(pid=9, memory_bytes=2**30),)


@pytest.mark.parametrize(
    "errors",
    [{"nvmlInit": 9}, {"nvmlDeviceGetHandleByUUID": 15}, {"nvmlSystemGetDriverVersion": 9}],
)
def test_gpus_that_can_not_be_asked_are_a_reason(errors: dict[str, int]) -> None:
    known = gpus(FakeNvml(A))
    found = gpu_states(known, FakeNvml(A, errors=errors))
    assert found.gpus == ()
    assert found.reason


def test_memory_that_the_driver_itself_holds_is_left_out_where_it_tells_it_apart() -> None:
    class Newer(FakeNvml):
        nvmlMemory_v2 = 0x02000028  # noqa: N815

        def nvmlDeviceGetMemoryInfo(  # noqa: N802
            self, handle: Any, /, version: int | None = None
        ) -> Board:
            board = super().nvmlDeviceGetMemoryInfo(handle)
            return Board(uuid=board.uuid, used=1) if version == self.nvmlMemory_v2 else board

    nvml = Newer(A)
    (state,) = gpu_states(gpus(nvml), nvml).gpus
    assert state.memory_used_bytes == 1


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0, ()),
        (0x1, ("idle",)),
        (0x44, ("sw_power_cap", "hw_thermal_slowdown")),
        (0x8001, ("idle", "0x8000")),
    ],
)
def test_bits_have_names(bits: int, names: tuple[str, ...]) -> None:
    assert events_of(bits) == names
