"""The simulated driver, as the real pynvml sees it."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from typing import Any

import pynvml
import pytest

from tests.rig.asking import energy_mj, field, handle, power_mw
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import A100, BOARDS, H100, V100, Rig, Settings

pytestmark = pytest.mark.once

BUSY: Settings = {"wave": "square:250,700,0.0371", "idle": 61.7303, "tail_ms": 180}
"""Odd numbers, so that no sum lies just between two millijoules."""


def epoch_s(rig: Rig) -> float:
    return rig.epoch_ns * 1e-9


# --- errors --------------------------------------------------------------------------------


def outcomes(gpu: Any, count: int) -> str:
    """E for each call that failed, a dot for the others."""
    told = ""
    for _ in range(count):
        try:
            power_mw(gpu)
            told += "."
        except pynvml.NVMLError:
            told += "E"
    return told


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1, pynvml.NVMLError_Uninitialized),
        (2, pynvml.NVMLError_InvalidArgument),
        (3, pynvml.NVMLError_NotSupported),
        (4, pynvml.NVMLError_NoPermission),
        (10, pynvml.NVMLError_Timeout),
        (15, pynvml.NVMLError_GpuIsLost),
        (16, pynvml.NVMLError_ResetRequired),
        (999, pynvml.NVMLError_Unknown),
    ],
)
def test_an_injected_error_is_pynvmls_exception(
    code: int, kind: type[Exception], nvml_rig: NvmlRig
) -> None:
    nvml_rig(settings={"err.nvmlDeviceGetPowerUsage": code})
    gpu = handle()
    with pytest.raises(kind):
        power_mw(gpu)
    assert energy_mj(gpu) > 0


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("15", "EEEEEE"),
        ("15,0,2", ".E.E.E"),
        ("15,0,1,4", "...EEE"),
        ("15,0,2,3", "..E.E."),
        ("15,0,1000,3", "..E..."),
        ("15,0,1000,2;3,0,1000,5", ".E..E."),
        ("15,1e6", "......"),
    ],
)
def test_errors_come_at_chosen_calls(rule: str, expected: str, nvml_rig: NvmlRig) -> None:
    nvml_rig(settings={"err.nvmlDeviceGetPowerUsage": rule})
    assert outcomes(handle(), 6) == expected


def test_errors_begin_at_a_time(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings={"err.nvmlDeviceGetPowerUsage": "15,20"}, age_s=10)
    gpu = handle()
    with rig.virtual_time() as clock:
        before = outcomes(gpu, 2)
        clock.sleep(11)
        assert before + outcomes(gpu, 2) == "..EE"


def test_one_gpu_can_be_lost_alone(nvml_rig: NvmlRig) -> None:
    nvml_rig(gpus=2, settings={"gpu1.err.nvmlDeviceGetPowerUsage": 15})
    assert [outcomes(handle(index), 1) for index in (0, 1)] == [".", "E"]


def test_a_missing_function_is_not_found(nvml_rig: NvmlRig) -> None:
    missing = "nvmlDeviceGetTotalEnergyConsumption,nvmlDeviceGetFieldValues"
    nvml_rig(settings={"missing": missing})
    gpu = handle()
    with pytest.raises(pynvml.NVMLError_FunctionNotFound):
        energy_mj(gpu)
    with pytest.raises(pynvml.NVMLError_FunctionNotFound):
        field(gpu, 83)


def test_nothing_answers_before_it_is_opened(nvml_rig: NvmlRig) -> None:
    nvml_rig()
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetCount()


@pytest.mark.parametrize(
    "keys",
    [
        {"idel": 50},
        {"wave": "square:1,2"},
        {"err.nvmlDeviceGetPower": 3},
        {"missing": "nvmlNothing"},
        {"latency.nvmlInit_us": 3},
        {"tail_shape": "round"},
        {"at.5.idle": 60},
        {"idle": "warm"},
    ],
)
def test_a_setting_that_is_not_understood_is_refused(
    keys: dict[str, Any], nvml_rig: NvmlRig, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="didn't understand"):
        nvml_rig(settings=keys)
    assert "not understood: " in capfd.readouterr().err


# --- calls ---------------------------------------------------------------------------------


def test_calls_are_counted_over_all_processes(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(gpus=2)
    gpu = handle()
    for _ in range(5):
        energy_mj(gpu)
    script = (
        "import pynvml as n; n.nvmlInit(); g = n.nvmlDeviceGetHandleByIndex(1);"
        "print(n.nvmlDeviceGetName(g), n.nvmlDeviceGetTotalEnergyConsumption(g))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=rig.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(H100["name"]))
    assert rig.calls() == {
        "nvmlInitWithFlags": 2,
        "nvmlDeviceGetHandleByIndex": 2,
        "nvmlDeviceGetName": 1,
        "nvmlDeviceGetTotalEnergyConsumption": 6,
    }


def test_calls_take_their_time(nvml_rig: NvmlRig) -> None:
    keys: Settings = {"latency_us": 2000, "latency.nvmlDeviceGetPowerUsage_us": 30_000}
    rig = nvml_rig(settings=keys)
    gpu = handle()
    with rig.virtual_time() as clock:
        times_s = [clock.monotonic()]
        for read in (energy_mj, power_mw):
            read(gpu)
            times_s.append(clock.monotonic())
    assert times_s[1] - times_s[0] == pytest.approx(0.002, abs=2e-5)
    assert times_s[2] - times_s[1] == pytest.approx(0.03, abs=2e-5)


@pytest.mark.parametrize("mode", ["sleep", "spin"])
def test_latency_is_real_time_too(mode: str, nvml_rig: NvmlRig) -> None:
    nvml_rig(settings={"latency.nvmlDeviceGetPowerUsage_us": 20_000, "latency_mode": mode})
    gpu = handle()
    start_s = time.monotonic()
    power_mw(gpu)
    assert time.monotonic() - start_s >= 0.02


def test_a_reading_costs_the_same_after_many_loads(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings=BUSY, age_s=200)
    gpu = handle()

    def fastest_s() -> float:
        taken = []
        for _ in range(300):
            start_s = time.perf_counter()
            energy_mj(gpu)
            taken.append(time.perf_counter() - start_s)
        return min(taken)

    before_s = fastest_s()
    for number in range(10_000):
        rig.marks.mark(number % 2, rig.epoch_ns + number * 10_000_000)
    assert fastest_s() < 5 * before_s


def test_threads_read_together_while_loads_begin_and_end(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(V100, gpus=2, settings={**BUSY, "energy_period_ms": 0})
    gpus = [handle(0), handle(1)]
    wrong: list[tuple[int, int]] = []
    stop = threading.Event()

    def read(gpu: Any) -> None:
        last_mj = 0
        while not stop.is_set():
            mj = energy_mj(gpu)
            if mj < last_mj:
                wrong.append((last_mj, mj))
            last_mj = mj

    threads = [threading.Thread(target=read, args=(gpu,)) for gpu in gpus * 2]
    for thread in threads:
        thread.start()
    for number in range(300):
        rig.mark((number + 1) % 2)
        time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join()
    # A mark is published a moment after its time. Who reads in between takes the load to go on,
    # and finds a little less once its end is known: a counter without ticks shows that.
    assert all(last_mj - mj < 10_000 for last_mj, mj in wrong)
    assert len(wrong) < 30
    library, end_s = rig.library, time.monotonic()
    for index in (0, 1):
        exact_j = rig.truth(index).energy(epoch_s(rig), end_s)
        assert library.simnvml_true_energy(index, epoch_s(rig), end_s) == pytest.approx(exact_j)


# --- boards --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_tells_what_it_is(name: str, nvml_rig: NvmlRig) -> None:
    nvml_rig(BOARDS[name], gpus=2, settings={"gpu1.power_limit_w": 250})
    gpus = [handle(0), handle(1)]
    assert pynvml.nvmlDeviceGetCount() == 2
    assert pynvml.nvmlDeviceGetName(gpus[0]) == BOARDS[name]["name"]
    assert pynvml.nvmlDeviceGetMemoryInfo(gpus[0]).total == BOARDS[name]["mem_total"]
    major, minor = map(int, str(BOARDS[name]["cc"]).split("."))
    assert pynvml.nvmlDeviceGetCudaComputeCapability(gpus[0]) == (major, minor)
    limits = [pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu) for gpu in gpus]
    assert limits == [float(BOARDS[name]["power_limit_w"]) * 1000, 250_000]
    uuids = [pynvml.nvmlDeviceGetUUID(gpu) for gpu in gpus]
    assert pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(uuids[1])) == 1
    bus_id = pynvml.nvmlDeviceGetPciInfo(gpus[1]).busId
    assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByPciBusId(bus_id)) == uuids[1]


def test_processes_memory_and_the_like_change_with_time(nvml_rig: NvmlRig) -> None:
    keys: Settings = {
        "procs": "100:2000000000,200",
        "mem_used": 3e9,
        "at.20.procs": "300:1",
        "at.20.mem_used": 5e8,
        "gpu0.at.25.throttle": "0x40",
        "at.30.procs": "",
        "at.30.persistence": 0,
        "at.30.mig": 1,
    }
    rig = nvml_rig(settings=keys, age_s=10)
    gpu = handle()

    def told() -> tuple[Any, ...]:
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)
        return (
            [(process.pid, process.usedGpuMemory) for process in processes],
            pynvml.nvmlDeviceGetMemoryInfo(gpu).used,
            pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu),
            pynvml.nvmlDeviceGetPersistenceMode(gpu),
            pynvml.nvmlDeviceGetMigMode(gpu)[0],
        )

    idle = pynvml.nvmlClocksEventReasonGpuIdle
    with rig.virtual_time() as clock:
        seen = [told()]
        for seconds in (11, 5, 5):
            clock.sleep(seconds)
            seen.append(told())
    assert seen == [
        ([(100, 2_000_000_000), (200, None)], 3_000_000_000, idle, 1, 0),
        ([(300, 1)], 500_000_000, idle, 1, 0),
        ([(300, 1)], 500_000_000, 0x40, 1, 0),
        ([], 500_000_000, 0x40, 0, 1),
    ]


def test_temperature_follows_power_slowly(nvml_rig: NvmlRig) -> None:
    keys: Settings = {
        "wave": "const:500",
        "idle": 100,
        "temp0": 25,
        "temp_per_w": 0.1,
        "temp_tau_s": 8,
    }
    rig = nvml_rig(settings=keys, age_s=200)
    gpu = handle()
    with rig.virtual_time() as clock:
        temperatures = [pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)]
        rig.mark(1)
        start_s = clock.monotonic()
        clock.sleep(8)
        now_s = clock.monotonic()
        temperatures.append(pynvml.nvmlDeviceGetTemperatureV(gpu, pynvml.NVML_TEMPERATURE_GPU))
        exact_c = rig.library.simnvml_true_temperature(0, now_s)
    assert temperatures[0] == 35
    lag = 1 - math.exp(-(now_s - start_s) / 8)
    assert exact_c == pytest.approx(35 + 40 * lag, abs=0.1)
    assert temperatures[1] == int(exact_c)


def test_utilization_follows_power_or_is_set(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(gpus=2, settings={"wave": "const:700", "idle": 70, "gpu1.utilization": 55})
    gpus = [handle(0), handle(1)]
    with rig.virtual_time() as clock:
        before = [pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu for gpu in gpus]
        rig.mark(1)
        clock.sleep(1)
        under_load = [pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu for gpu in gpus]
    assert (before, under_load) == ([0, 55], [100, 55])


def test_an_instance_of_mig_has_no_power_of_its_own(nvml_rig: NvmlRig) -> None:
    nvml_rig(A100, settings={"mig": 1})
    gpu = handle()
    instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, 0)
    assert pynvml.nvmlDeviceGetUUID(instance).startswith("MIG-")
    assert pynvml.nvmlDeviceIsMigDeviceHandle(instance)
    for read in (energy_mj, power_mw):
        with pytest.raises(pynvml.NVMLError_NotSupported):
            read(instance)
    board = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance)
    assert pynvml.nvmlDeviceGetUUID(board) == pynvml.nvmlDeviceGetUUID(gpu)


# --- one after the other -------------------------------------------------------------------


def test_machines_follow_one_another_in_a_process(nvml_rig: NvmlRig) -> None:
    first = nvml_rig(V100)
    of_first = handle()
    assert pynvml.nvmlDeviceGetName(of_first) == V100["name"]
    nvml_rig(A100, gpus=3)
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetCount()
    assert pynvml.nvmlDeviceGetName(handle(2)) == A100["name"]
    assert sum(first.calls().values()) == 3


def test_settings_can_be_changed_on_the_way(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings={"idle": 100, "usage_window_ms": 0})
    first_mw = power_mw(handle())
    rig.configure({"idle": 200})
    assert (first_mw, power_mw(handle())) == (100_000, 200_000)
    assert rig.truth().power(time.monotonic()) == 200


def test_without_a_machine_there_is_no_driver(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(opened=False)
    with rig.open():
        handle()
    with pytest.raises(pynvml.NVMLError_LibraryNotFound):
        pynvml.nvmlInit()
