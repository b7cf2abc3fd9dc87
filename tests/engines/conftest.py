"""vLLM on the tiny model: how it is loaded and asked. All of it is skipped where vLLM isn't."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.backends.vllm import VllmBackend
from pytest_llem.experiment import Decoding, Experiment, Prompts
from pytest_llem.extensions import Completion, Engine, Workload

TINY = Path(__file__).parents[2] / "benchmarks" / "models" / "tiny-llama"

# Threads that wait for each other by spinning take minutes on a machine that others use too.
ENV = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}

SMALL = {
    "enforce_eager": True,  # compiling takes longer than all tests
    "kv_cache_memory_bytes": 1 << 26,
    "max_model_len": 128,
    "max_num_seqs": 4,
    "block_size": 32,
}
EXPERIMENT = Experiment(
    id="a",
    model=str(TINY),
    backend="vllm",
    weights="random",
    device="cpu",
    dtype="float32",
    prompts=Prompts(count=3, input_tokens=12),
    output_tokens=6,
    warmup="none",
    idle="none",
    meters=("estimate",),
    env=ENV,
    options=SMALL,
)
PROMPTS = [[7, 8, 9, 10], [11, 12], [13, 14, 15, 16, 17, 18, 19], [20]]

collect_ignore_glob = [] if importlib.util.find_spec("vllm") else ["test_vllm*.py"]


@pytest.fixture(scope="session", autouse=True)
def environment() -> Iterator[None]:
    """What vLLM and torch read when they are first imported."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENV.items():
            patch.setenv(name, value)
        yield


def experiment(options: dict[str, Any] | None = None, **fields: Any) -> Experiment:
    """The tiny model on a small engine."""
    return dataclasses.replace(EXPERIMENT, options=SMALL | (options or {}), **fields)


def load(options: dict[str, Any] | None = None, **fields: Any) -> Any:
    """An engine, as a worker loads it."""
    backend = VllmBackend()
    backend.preload()
    return backend.load(experiment(options, **fields))


def workload(prompts: list[list[int]], count: int, seed: int = 0, **decoding: Any) -> Workload:
    """Requests of ``count`` tokens each."""
    return Workload(
        prompts=prompts,
        output_tokens=count,
        batch_size=1,
        seed=seed,
        decoding=Decoding(**decoding),
    )


def run(engine: Engine, asked: Workload) -> tuple[Completion, ...]:
    """All requests of a workload, answered."""
    return engine.run(asked, lambda _: None)
