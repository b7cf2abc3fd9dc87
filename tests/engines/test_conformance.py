"""Our own backends keep what third parties' are asked to."""

from __future__ import annotations

import importlib.util
import os

import pytest

from pytest_llem.experiment import Experiment
from pytest_llem.testing import TINY_MODEL, backend_conformance, meter_conformance
from tests.engines import stub


@pytest.mark.engine
def test_pytorch_conforms() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    experiment = Experiment(model=str(TINY_MODEL), weights="random", device="cpu", dtype="float32")
    backend_conformance("pytorch", experiment, option="num_hidden_layers")


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")  # of what vLLM imports
@pytest.mark.skipif(not importlib.util.find_spec("vllm"), reason="vLLM isn't installed")
def test_vllm_conforms() -> None:
    small = {
        "enforce_eager": True,
        "kv_cache_memory_bytes": 1 << 26,
        "max_model_len": 128,
        "max_num_seqs": 4,
        "block_size": 32,
    }
    experiment = Experiment(
        model=str(TINY_MODEL),
        backend="vllm",
        weights="random",
        device="cpu",
        dtype="float32",
        options=small,
    )
    backend_conformance("vllm", experiment, option="max_model_len")


def test_tensorrt_conforms_on_the_stub(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in stub.lent(monkeypatch):
        # Promises about importing are tried in an interpreter of their own.
        monkeypatch.setenv("PYTHONPATH", f"{stub.FOLDER}{os.pathsep}.")
        backend_conformance("tensorrt", option="max_num_tokens")
        assert module.knobs.open_engines == 0


@pytest.mark.parametrize("meter", ["estimate", "nvml", "rapl", "zeus"])
def test_our_meters_conform(meter: str) -> None:
    meter_conformance(meter, window_s=0.1)
