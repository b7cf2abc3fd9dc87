"""Measurements with the real vLLM by our worker, from its start to its end, in each mode."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.backends.vllm import VllmBackend
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Launch
from pytest_llem.records import Measurement
from pytest_llem.runners.conversation import Worker
from pytest_llem.runners.local import LocalRunner
from pytest_llem.worker import workload
from pytest_llem.worker.lifeline import descendants
from pytest_llem.worker.measure import tokens_sha256
from tests.engines.conftest import ENV, TINY, experiment, load, run

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


def saved(folder: Path) -> str:
    """The tiny model with weights on the disk."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(TINY)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


def engine(measurement: Measurement) -> Mapping[str, Any]:
    about: Mapping[str, Any] = measurement.subject["engine"]
    return about


def test_two_devices_share_each_layer(tmp_path: Path) -> None:
    # Without a say on which processors: where there are fewer memory nodes, they share them.
    # Dummy weights would be drawn by each for itself; these are the same in one piece and in two.
    alone = experiment(
        env={"OMP_NUM_THREADS": "1"},
        model=saved(tmp_path / "tiny"),
        weights="pretrained",
        output_tokens=3,
    )
    asked = dataclasses.replace(alone, tensor_parallel=2)
    (found,) = measured(tmp_path, asked)
    (whole,) = measured(tmp_path, alone)
    assert found.tokens_sha256 == whole.tokens_sha256
    assert found.integrity == ()
    assert found.tokens == {"requests": 3, "input": 36, "output": 9}
    wanted = {"core": "in process", "tensor_parallel": 2, "executor": "mp"}
    assert {name: engine(found)[name] for name in wanted} == wanted
    assert asked.devices == 2


def test_a_core_in_a_child_gives_the_same_tokens_in_each_cycle(tmp_path: Path) -> None:
    asked = experiment(env=ENV | {CORE: "1"})
    child = measured(tmp_path, asked, cycles=2)
    inside = load()
    expected = tokens_sha256(run(inside, workload.measured(asked, 512)))
    inside.close()
    assert [found.tokens_sha256 for found in child] == [expected, expected]
    for found in child:
        assert engine(found)["core"] == "child process"
        assert found.integrity == ()
        assert found.subject["versions"] == VllmBackend().versions()
        for metric in ("ttft_p50_s", "itl_p50_s", "output_tokens_per_s", "peak_memory_bytes"):
            value = found.metrics[metric].value
            assert value is not None
            assert value > 0
