"""Hugging Face transformers on PyTorch, with prefill and decode as explicit steps.

``generate()`` would hide the boundary between the phases; this loop
stamps a clock behind every forward pass instead. End-of-sequence is not looked at: each request
gets exactly the tokens asked for.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.metadata
import inspect
import re
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Abilities, Completion, Engine, EngineFacts, Workload
from pytest_llem.records import RequestTiming

__all__ = ["PytorchBackend", "PytorchEngine", "left_pad"]

_SHARED_PARTS = ("modeling_utils", "modeling_layers", "masking_utils", "generation.utils")
"""What the module of every model imports; transformers itself puts it off until one is built."""


class PytorchBackend:
    """Builds engines from a hub model or a directory."""

    name = "pytorch"
    install = 'pip install "pytest-llem[pytorch]"'
    abilities = Abilities(forks=True)

    def versions(self) -> Mapping[str, str | None]:
        """Versions of torch and transformers, read from metadata: nothing is imported."""
        found: dict[str, str | None] = {}
        for package in ("torch", "transformers"):
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                found[package] = None
        return found

    def preload(self) -> None:
        """Import torch and the model classes, which is most of a small model's start-up."""
        import torch  # noqa: F401
        from transformers import AutoModelForCausalLM  # noqa: F401

        for part in _SHARED_PARTS:
            with contextlib.suppress(ImportError):  # not every version has each
                importlib.import_module(f"transformers.{part}")

    def load(self, experiment: Experiment) -> Engine:
        """Build the model on its device, in inference mode.

        Raises:
            LlemError: when the device or the model directory isn't there.
        """
        import torch
        import transformers

        transformers.utils.logging.disable_progress_bar()
        device = _device(experiment.device, torch)
        torch.manual_seed(experiment.seed)
        model = _build(experiment, torch, transformers).to(device).eval()
        return PytorchEngine(model, device, torch)


def _device(wanted: str, torch: Any) -> str:
    available: bool = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise LlemError("device: cuda was asked for, but torch sees no CUDA device here")
    if wanted == "auto":
        return "cuda" if available else "cpu"
    return wanted


def _build(experiment: Experiment, torch: Any, transformers: Any) -> Any:
    """The model with its own weights, or with random ones from its config alone."""
    dtype = experiment.dtype if experiment.dtype == "auto" else getattr(torch, experiment.dtype)
    source: dict[str, Any] = {"revision": experiment.revision} if experiment.revision else {}
    if Path(experiment.model).is_absolute() and not Path(experiment.model).is_dir():
        raise LlemError(f"there is no model directory {experiment.model}")
    if experiment.weights == "pretrained":
        return transformers.AutoModelForCausalLM.from_pretrained(
            experiment.model, dtype=dtype, **source, **experiment.options
        )
    # Options that the config knows change the model's shape; the rest go to its constructor.
    config, rest = transformers.AutoConfig.from_pretrained(
        experiment.model, return_unused_kwargs=True, **source, **experiment.options
    )
    if dtype == "auto":
        dtype = config.dtype or torch.float32
    return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, **rest)


class PytorchEngine:
    """A causal language model, answering static batches."""

    def __init__(self, model: Any, device: str, torch: Any) -> None:
        """Take a model that is on its device and in inference mode."""
        self._model = model
        self._device = device
        self._torch = torch
        accepted = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in accepted
        # Logits of one position only: the prompt's others would cost vocabulary × length.
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def facts(self) -> EngineFacts:
        """Vocabulary, device, dtype, parameters and attention implementation."""
        config = self._model.config
        return EngineFacts(
            vocab_size=config.get_text_config().vocab_size,
            device=self._device,
            details={
                "architecture": type(self._model).__name__,
                "dtype": str(self._model.dtype).removeprefix("torch."),
                "parameters": sum(p.numel() for p in self._model.parameters()),
                "attention": getattr(config, "_attn_implementation", None),
                "threads": self._torch.get_num_threads(),
            },
            config=config.to_dict(),
        )

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        """Answer the requests, ``batch_size`` at a time; a batch is submitted as one."""
        done: list[Completion] = []
        with self._torch.inference_mode():
            for first in range(0, len(workload.prompts), workload.batch_size):
                batch = workload.prompts[first : first + workload.batch_size]
                done += self._batch(batch, workload.output_tokens)
                progress(len(done))
        return tuple(done)

    def _batch(self, prompts: Sequence[Sequence[int]], count: int) -> list[Completion]:
        """Prefill once, decode ``count`` − 1 times, greedily."""
        submitted_s = time.monotonic()
        padded, mask = left_pad(prompts)
        ids = self._torch.tensor(padded, device=self._device)
        attention = self._torch.tensor(mask, device=self._device)
        positions = (attention.cumsum(-1) - 1).clamp(min=0)
        token, cache = self._step(ids, attention, positions, None)
        stamps, tokens = [self._now()], [token]
        for _ in range(count - 1):
            attention = self._torch.cat([attention, attention.new_ones(len(prompts), 1)], dim=1)
            positions = positions[:, -1:] + 1
            token, cache = self._step(token, attention, positions, cache)
            stamps.append(self._now())
            tokens.append(token)
        rows = self._torch.cat(tokens, dim=1).tolist()
        return [
            Completion(
                timing=RequestTiming(
                    submitted_s=submitted_s,
                    token_s=tuple(stamps),
                    input_tokens=len(prompt),
                    output_tokens=len(row),
                ),
                token_ids=tuple(row),
            )
            for prompt, row in zip(prompts, rows, strict=True)
        ]

    def _step(self, ids: Any, attention: Any, positions: Any, cache: Any) -> tuple[Any, Any]:
        """One forward pass; returns the next token of each row, shape (batch, 1), and the cache."""
        extra = {"position_ids": positions} if self._takes_positions else {}
        out = self._model(
            input_ids=ids,
            attention_mask=attention,
            past_key_values=cache,
            use_cache=True,
            **extra,
            **self._last_only,
        )
        return out.logits[:, -1, :].argmax(dim=-1, keepdim=True), out.past_key_values

    def _now(self) -> float:
        """The time at which the device has finished what it was given."""
        if self._device == "cuda":
            self._torch.cuda.synchronize()
        return time.monotonic()

    def reset_peak_memory(self) -> None:
        """Start a new peak: CUDA's allocator, or the kernel's mark of resident memory."""
        if self._device == "cuda":
            self._torch.cuda.reset_peak_memory_stats()
        else:
            # Not permitted everywhere; then the peak includes loading.
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")

    def peak_memory_bytes(self) -> int | None:
        """Bytes allocated on the GPU, or resident in this process."""
        if self._device == "cuda":
            return int(self._torch.cuda.max_memory_allocated())
        with contextlib.suppress(OSError):
            if found := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()):
                return int(found[1]) * 1024
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def close(self) -> None:
        """Let go of the model."""
        self._model = None
        gc.collect()
        if self._device == "cuda":
            self._torch.cuda.empty_cache()


def left_pad(prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[int]]]:
    """Pad prompts on the left to the longest; returns (ids, mask), each (requests × longest).

    On the left, so that the next token of every row follows its prompt at once.
    """
    longest = max(map(len, prompts))
    ids = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return ids, mask
