"""Conditions of measurements on simulated GPUs; of others there are none."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_llem.extensions import Completion, EngineFacts, Workload
from pytest_llem.gpus import look
from pytest_llem.records import Measurement
from pytest_llem.wire import from_dict, to_dict
from pytest_llem.worker.conditions import Conditions
from pytest_llem.worker.held import Held
from pytest_llem.worker.measure import measure
from pytest_llem.worker.surroundings import send_trace
from tests.builders import DIGEST, completion, experiment, timing, window
from tests.fakes import Board, FakeNvml, Process
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import A100, H100, Rig, Settings

A = Board(uuid="GPU-aa11", celsius=41)
B = Board(uuid="GPU-ab22", name="NVIDIA H100", celsius=44)
WINDOW = window("measure", 2.0)


def conditions(nvml: FakeNvml, count: int | None = None, **fields: Any) -> Conditions:
    gpus = look(nvml, {}).gpus[:count]
    return Conditions(gpus, None, nvml=nvml, own=lambda: frozenset({1}), **fields)


# --- with an NVML that only pretends -------------------------------------------------------


def test_both_ends_are_told_and_nvml_is_not_asked_between_them() -> None:
    nvml = FakeNvml(A, B)
    found = conditions(nvml)
    with found.around():
        calls = len(nvml.calls)
        nvml.boards[0] = dataclasses.replace(A, celsius=48)
        assert len(nvml.calls) == calls
    told = found.observed(WINDOW).conditions
    assert [state["temperature_c"] for state in told["before"]] == [41.0, 44.0]
    assert [state["temperature_c"] for state in told["after"]] == [48.0, 44.0]
    assert told["driver"] == "570.86.15"
    assert nvml.opened == 0


def test_a_warning_of_each_gpu() -> None:
    found = conditions(FakeNvml(dataclasses.replace(A, persistence=0), B))
    with found.around():
        pass
    (text,) = found.observed(WINDOW).warnings
    assert text.startswith("GPU 0: persistence mode is off")


def test_who_came_after_the_wait_is_warned_of_once() -> None:
    nvml = FakeNvml(dataclasses.replace(A, processes=(Process(1), Process(66))))
    found = conditions(nvml)
    with found.around():
        pass
    (text,) = found.observed(WINDOW).warnings
    assert text.startswith("GPU 0 is shared with other processes: pid 66 (")


def test_where_pids_mean_nothing_processes_are_unchecked() -> None:
    nvml = FakeNvml(dataclasses.replace(A, processes=(Process(66),)))
    found = conditions(nvml, hidden="this is a container")
    with found.around():
        pass
    observed = found.observed(WINDOW)
    assert observed.warnings == ()
    assert observed.conditions["unchecked"] == "processes on the GPUs: this is a container"


def test_a_free_gpu_is_not_waited_for_and_the_host_hears_nothing() -> None:
    frames: list[str] = []
    conditions(FakeNvml(A)).wait(lambda kind, **_: frames.append(kind))
    assert frames == []


def test_a_wait_is_told_to_the_host() -> None:
    nvml = FakeNvml(dataclasses.replace(A, processes=(Process(66),)))
    frames: list[tuple[str, Mapping[str, Any]]] = []

    def emit(kind: str, **fields: Any) -> None:
        frames.append((kind, fields))
        nvml.boards[0] = A  # it goes away

    found = conditions(nvml)
    found.wait(emit)
    assert frames == [("phase", {"phase": "wait"}), ("progress", {"done": 0, "total": 60})]
    with found.around():
        pass
    assert found.observed(WINDOW).conditions["waited_s"] > 0


def test_gpus_that_are_lost_meanwhile_are_a_warning_and_no_error() -> None:
    nvml = FakeNvml(A)
    found = conditions(nvml)
    with found.around():
        nvml.errors["nvmlDeviceGetHandleByUUID"] = 15
    observed = found.observed(WINDOW)
    assert observed.conditions["after"] == []
    assert "(it is lost)" in observed.conditions["reason"]
    (text,) = observed.warnings
    assert text.startswith("the GPUs could not be looked at after the window: the driver can't")


def test_an_engine_on_another_device_leaves_nothing() -> None:
    found = conditions(FakeNvml(A))
    found.settle("cpu")
    with found.around():
        pass
    observed = found.observed(WINDOW)
    assert (observed.conditions, observed.trace, observed.warnings) == ({}, None, ())
    assert found.testbed() == {}


def test_a_trace_that_is_switched_off_is_null_with_that_reason() -> None:
    found = conditions(FakeNvml(A))
    with found.around():
        pass
    trace = found.observed(WINDOW).trace
    assert trace is not None
    assert trace.peak_w is None
    assert trace.reason == "the power trace is switched off (power_trace_hz: none)"


def test_a_gpu_without_nvml_is_a_warning() -> None:
    observed = Conditions((), None, reason="no NVIDIA driver was found").observed(WINDOW)
    assert observed.trace is not None
    assert observed.trace.reason == "no NVIDIA driver was found"
    assert observed.warnings == (
        "nothing is known of the conditions on the GPU: no NVIDIA driver was found",
    )


def test_the_testbed_is_what_makes_hosts_comparable() -> None:
    found = conditions(FakeNvml(A, B))
    with found.around():
        pass
    assert found.testbed() == {
        "gpus": ["NVIDIA A100", "NVIDIA H100"],
        "gpu_count": 2,
        "power_limits_w": [400.0, 400.0],
        "driver_branch": "570",
        "mig": False,
    }


# --- a measurement on simulated GPUs -------------------------------------------------------


class Engine:
    """Answers at once, after a load of some time on the simulated GPUs.

    The load goes on where the process of the trace was kept from taking some samples in it.
    """

    def __init__(self, rig: Rig | None, device: str, seconds: float, samples: int) -> None:
        self.rig, self.device, self.seconds, self.samples = rig, device, seconds, samples
        self.until_s = 0.0

    def facts(self) -> EngineFacts:
        return EngineFacts(vocab_size=1000, device=self.device)

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        if self.rig is not None:
            wanted = _asked(self.rig) + self.samples
            with self.rig.load():
                time.sleep(max(self.seconds, self.until_s - time.monotonic()))
                latest_s = time.monotonic() + 20
                while _asked(self.rig) < wanted and time.monotonic() < latest_s:
                    time.sleep(0.05)
        return tuple(
            completion(timing(0.0, 0.1, 0.2, 0.3, input_tokens=len(prompt)))
            for prompt in workload.prompts
        )

    def reset_peak_memory(self) -> None:
        pass

    def peak_memory_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        pass


def _asked(rig: Rig) -> int:
    """How often the trace took a sample: nobody else asks for that in a window."""
    return rig.calls().get("nvmlDeviceGetPowerUsage", 0)


class Backend:
    """Loads an :class:`Engine`."""

    name = "fake"
    install = ""

    def __init__(
        self, rig: Rig | None, device: str = "cuda", seconds: float = 0.5, samples: int = 0
    ) -> None:
        self.engine = Engine(rig, device, seconds, samples)

    def versions(self) -> Mapping[str, str | None]:
        return {}

    def preload(self) -> None:
        pass

    def load(self, _: object) -> Engine:
        return self.engine


@pytest.fixture
def machine(nvml_rig: NvmlRig, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Rig]:
    """Makes a rig that the trace process finds, too."""

    def make(board: Settings = H100, **fields: Any) -> Rig:
        rig = nvml_rig(board, **fields)
        for name, value in rig.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        return rig

    return make


def made(
    backend: Backend, **fields: Any
) -> tuple[Measurement, list[tuple[str, Mapping[str, Any]]]]:
    frames: list[tuple[str, Mapping[str, Any]]] = []
    base: dict[str, Any] = {
        "idle": "none",
        "warmup": "none",
        "output_tokens": 3,
        "device": "cuda",
        "meters": ("estimate",),
        "power_trace_hz": 50.0,
    }
    if backend.engine.device == "cuda":
        base["meters"] = "auto"
    given = experiment(**(base | fields))
    found = measure(
        given,
        DIGEST,
        1,
        Held(backend),  # type: ignore[arg-type]
        lambda kind, **data: frames.append((kind, data)),
    )
    return found, frames


@pytest.mark.once
def test_a_measurement_on_a_gpu_has_conditions_and_a_trace(machine: Callable[..., Rig]) -> None:
    rig = machine(settings={"wave": "const:600", "instant_period_ms": 20, "persistence": 0})
    found, frames = made(Backend(rig, seconds=1.0, samples=12))
    assert found.trace is not None
    assert found.trace.reason is None
    assert found.trace.samples >= 10
    assert found.trace.peak_w == pytest.approx(600, rel=0.01)
    assert [state["name"] for state in found.conditions["before"]] == ["NVIDIA H100 80GB HBM3"]
    assert found.conditions["trace_cpu_s"] >= 0
    assert any("persistence mode is off" in text for text in found.warnings)
    assert found.testbed["gpus"] == ["NVIDIA H100 80GB HBM3"]
    rows = [row for kind, data in frames if kind == "series" for row in data.get("trace", ())]
    assert len(rows) == found.trace.samples
    measured = next(w for w in found.windows if w.phase == "measure")
    end_s = measured.start_s + measured.duration_s
    assert all(measured.start_s <= row["at_s"] <= end_s for row in rows)
    assert from_dict(Measurement, to_dict(found)) == found


@pytest.mark.once
def test_a_power_cap_within_the_window_is_seen_though_it_is_over_at_its_end(
    machine: Callable[..., Rig],
) -> None:
    rig = machine(A100, settings={"throttle": 4})
    age_s = time.monotonic() - rig.epoch_ns * 1e-9
    rig.configure({f"at.{age_s + 6.0}.throttle": 1})
    backend = Backend(rig)
    # However long it takes until the window begins, it ends a second after the cap.
    backend.engine.until_s = rig.epoch_ns * 1e-9 + age_s + 7.0
    found, _ = made(backend)
    assert "sw_power_cap" not in found.conditions["after"][0]["events"]
    (text,) = [text for text in found.warnings if "power cap" in text]
    assert "% of the window's" in text


@pytest.mark.once
def test_only_the_experiments_own_gpus_are_watched(machine: Callable[..., Rig]) -> None:
    rig = machine(gpus=3, settings={"gpu2.persistence": 0})
    found, _ = made(Backend(rig), gpus=2, power_trace_hz="none")
    assert [state["gpu"] for state in found.conditions["before"]] == [0, 1]
    assert found.warnings == ()
    assert found.trace is not None
    assert found.trace.samples == 0


@pytest.mark.once
def test_on_a_cpu_nothing_is_asked_and_nothing_started(machine: Callable[..., Rig]) -> None:
    rig = machine()
    found, _ = made(Backend(None, device="cpu"), device="cpu")
    assert (found.conditions, found.trace) == ({}, None)
    assert "gpus" not in found.testbed
    assert rig.calls() == {}


@pytest.mark.once
def test_an_engine_that_chose_the_cpu_by_itself_has_no_conditions(
    machine: Callable[..., Rig],
) -> None:
    machine()
    found, _ = made(Backend(None, device="cpu"), device="auto")
    assert (found.conditions, found.trace, found.warnings) == ({}, None, ())


@pytest.mark.once
def test_a_trace_that_dies_leaves_a_reason_and_a_measurement(machine: Callable[..., Rig]) -> None:
    rig = machine()
    rig.configure({"err.nvmlDeviceGetFieldValues": 15, "err.nvmlDeviceGetPowerUsage": 15})
    found, _ = made(Backend(rig), power_trace_hz=20.0)
    assert found.trace is not None
    assert found.trace.peak_w is None
    assert found.trace.reason is not None
    assert "GPU 0: the driver can't reach the GPU any more" in found.trace.reason


def test_the_trace_is_sent_in_parts() -> None:
    sent: list[int] = []
    rows = [{"at_s": float(number)} for number in range(4_500)]
    send_trace(rows, lambda kind, trace: sent.append(len(trace)) if kind == "series" else None)
    assert sent == [2000, 2000, 500]
