"""Measurements with the real vLLM by our worker, from its start to its end, in each mode."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.errors import WorkerError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Launch
from pytest_llem.records import Measurement
from pytest_llem.runners.conversation import Worker
from pytest_llem.runners.local import LocalRunner
from pytest_llem.worker.lifeline import descendants
from tests.engines.conftest import ENV, experiment

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

CORE = "VLLM_ENABLE_V1_MULTIPROCESSING"
DIGEST = "d" * 64


def measured(folder: Path, asked: Experiment, cycles: int = 1) -> list[Measurement]:
    """As many cycles with one worker; it is gone afterwards, with all of its processes."""
    before = set(descendants(os.getpid()))
    launch = Launch(
        backend="vllm",
        log=folder / "worker.log",
        environment=asked.env,
        experiment=asked,
    )
    worker = Worker(LocalRunner().start(launch))
    try:
        found = [
            worker.measure(asked, DIGEST, cycle, keep=cycle < cycles)
            for cycle in range(1, cycles + 1)
        ]
    finally:
        worker.close()
    assert set(descendants(os.getpid())) <= before
    return found


def engine(measurement: Measurement) -> Mapping[str, Any]:
    about: Mapping[str, Any] = measurement.subject["engine"]
    return about


def test_cycles_and_places_of_the_core_give_the_same_tokens(tmp_path: Path) -> None:
    inside = measured(tmp_path, experiment(), cycles=2)
    child = measured(tmp_path, experiment(env=ENV | {CORE: "1"}))
    assert [engine(m)["core"] for m in (*inside, *child)] == [
        "in process",
        "in process",
        "child process",
    ]
    assert len({m.tokens_sha256 for m in (*inside, *child)}) == 1
    for found in (*inside, *child):
        assert found.integrity == ()
        assert found.tokens == {"requests": 3, "input": 36, "output": 18}
        assert found.subject["versions"]["vllm"] == "0.32.0"
        for metric in ("ttft_p50_s", "itl_p50_s", "output_tokens_per_s", "peak_memory_bytes"):
            value = found.metrics[metric].value
            assert value is not None
            assert value > 0


def test_two_devices_share_each_layer(tmp_path: Path) -> None:
    # Without a say on which processors: where there are fewer memory nodes, they share them.
    asked = experiment(env={"OMP_NUM_THREADS": "1"}, tensor_parallel=2, output_tokens=3)
    (found,) = measured(tmp_path, asked)
    assert found.integrity == ()
    assert engine(found)["tensor_parallel"] == 2
    assert engine(found)["executor"] == "mp"
    assert asked.devices == 2


def test_a_child_that_cannot_start_is_told_with_its_own_cause(tmp_path: Path) -> None:
    asked = experiment({"num_gpu_blocks_override": 2}, env=ENV | {CORE: "1"})
    with pytest.raises(WorkerError) as caught:
        measured(tmp_path, asked)
    assert "longest length, 128 tokens; set vllm: {max_model_len: 32} or less" in str(caught.value)
