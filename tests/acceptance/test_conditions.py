"""A study on simulated GPUs, run as a user would: conditions, the power trace, the wait."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.conftest import HEADER, Project, marked
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import H100, Rig

pytestmark = pytest.mark.once

GPU = HEADER.replace("meters: [fixed]", "device: cuda").replace("idle: 0.01", "idle: none")
STUDY = "id: a\nexecution: {cycles: 1}\nfake: {token_s: 0.5, computes_on: cuda}\n"
"""Three seconds: should a process be away for two of them, there are samples all the same."""


@pytest.fixture
def machine(nvml_rig: NvmlRig, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Rig]:
    """Makes a machine with a GPU for the processes that are started."""

    def make(**settings: str | float) -> Rig:
        rig = nvml_rig(H100, settings=settings, opened=False)
        for name, value in rig.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        return rig

    return make


def measured(project: Project) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The measurement, and the lines of its side file."""
    project.study(STUDY, header=GPU)
    project.run("benchmarks", "--llem-json=report.json").assert_outcomes(passed=1)
    report = project.report()
    (outcome,) = report["measurements"]
    path = project.pytester.path / "results" / report["session"] / outcome["raw"]
    return outcome["measurement"], [json.loads(line) for line in path.read_text().splitlines()]


def test_the_report_tells_conditions_trace_and_warnings(
    project: Project, machine: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(persistence=0, throttle=4, instant_period_ms=10)
    monkeypatch.setenv("LLEM_TEST_TOKEN", "conditions")
    found, lines = measured(project)
    assert [state["persistence"] for state in found["conditions"]["before"]] == [False]
    assert found["trace"]["samples"] >= 5
    assert found["trace"]["peak_w"] == pytest.approx(70)
    assert any("sudo nvidia-smi -i 0 -pm 1" in text for text in found["warnings"])
    assert any("slowed down by its power cap in 100 %" in text for text in found["warnings"])
    assert found["testbed"]["gpus"] == ["NVIDIA H100 80GB HBM3"]
    samples = [line["trace"] for line in lines if "trace" in line]
    assert len(samples) == found["trace"]["samples"]
    assert len([line for line in lines if "token_s" in line]) == 2
    assert marked("conditions") == []


def test_memory_that_is_in_use_is_waited_for_before_the_engine_is_loaded(
    project: Project, machine: Callable[..., Rig]
) -> None:
    for in_use_s in (8.0, 16.0, 32.0):
        rig = machine(mem_used=5 * 2**30)
        free_s = time.monotonic() + in_use_s
        rig.configure({f"at.{free_s - rig.epoch_ns * 1e-9}.mem_used": 0})
        found, _ = measured(project)
        load = next(window for window in found["windows"] if window["phase"] == "load")
        assert load["start_s"] >= free_s
        if found["conditions"]["waited_s"] > 0:
            break  # else this machine is so busy that the worker came too late to see it
    assert found["conditions"]["waited_s"] > 0
    assert not any("memory" in text for text in found["warnings"])
