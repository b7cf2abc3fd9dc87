"""The stub of TensorRT-LLM, on the path of a test and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "tensorrt_stub"


def lent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put the stub on the path, and yield it; all of it is gone afterwards."""
    monkeypatch.syspath_prepend(FOLDER)
    for name in ("TLLM_WORKER_USE_SINGLE_PROCESS", "TRTLLM_NO_USAGE_STATS"):
        # Set by whoever loads an engine: so is what was there before.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    import tensorrt_llm

    yield tensorrt_llm
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt_llm"]:
        del sys.modules[name]
