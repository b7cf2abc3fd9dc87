"""Hugging Face transformers on PyTorch, with prefill and decode as explicit steps.

``generate()`` would hide the boundary between the phases; this loop marks the end of every forward
pass instead. End-of-sequence is not looked at: each request gets exactly the tokens asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_llem.backends.pytorch_clock import Clock, clock_of
from pytest_llem.backends.pytorch_memory import Memory, largest_that_fits, out_of_memory
from pytest_llem.backends.pytorch_model import build, choose_device
from pytest_llem.backends.pytorch_options import Options
from pytest_llem.backends.pytorch_sampling import Chooser
from pytest_llem.backends.pytorch_steps import Batch, Steps
from pytest_llem.backends.versions import installed
from pytest_llem.errors import LlemError
from pytest_llem.experiment import DECODING, Experiment, Lognormal, Prompts, Uniform
from pytest_llem.extensions import Abilities, Completion, Engine, EngineFacts, Workload
from pytest_llem.records import RequestTiming

__all__ = ["PytorchBackend", "PytorchEngine"]

_COMPILE_STEPS = 3
"""Passes made while loading, for each size of batch."""

_SHARED_PARTS = ("modeling_utils", "modeling_layers", "masking_utils", "generation.utils")
"""What the module of every model imports; transformers itself puts it off until one is built."""


class PytorchBackend:
    """Builds engines from a hub model or a directory."""

    name = "pytorch"
    install = 'pip install "pytest-llem[pytorch]"'
    abilities = Abilities(
        devices=frozenset({"cpu", "cuda", "mps"}),
        parallel=True,
        tensor_parallel=False,
        decoding=frozenset(DECODING),
        forks=True,
    )

    def versions(self) -> Mapping[str, str | None]:
        """Versions of torch and transformers, read from metadata: nothing is imported."""
        return installed("torch", "transformers")

    def preload(self) -> None:
        """Import torch and the model classes, which is most of a small model's start-up."""
        _import_numpy()
        import torch  # noqa: F401
        from transformers import AutoModelForCausalLM, StaticCache  # noqa: F401
        from transformers.generation import logits_process  # noqa: F401

        for part in _SHARED_PARTS:
            with contextlib.suppress(ImportError):  # not every version has each
                importlib.import_module(f"transformers.{part}")

    def load(self, experiment: Experiment) -> Engine:
        """Build the model on its device, in inference mode.

        Raises:
            LlemError: when the device or the model directory isn't there, for an option that the
                installed versions don't know, and for a model that doesn't fit into memory.
        """
        import torch
        import transformers

        transformers.utils.logging.disable_progress_bar()
        options = Options.parse(experiment.options, torch.compile)
        device = choose_device(experiment.device, torch)
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        torch.manual_seed(experiment.seed)
        model = build(experiment, options, device, torch, transformers)
        engine = PytorchEngine(model, device, torch, options)
        engine.prepare(experiment)
        return engine


def _import_numpy() -> None:
    """Import numpy, which torch and transformers do as well, without the threads of its OpenBLAS.

    Nothing here computes with them, and a process that is to be forked must have none. Others that
    read the variable, such as torch's own OpenBLAS on Arm, find it as it was.
    """
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        with contextlib.suppress(ImportError):
            import numpy  # noqa: F401
    finally:
        if before is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = before


class PytorchEngine:
    """A causal language model, answering static batches."""

    def __init__(
        self,
        model: Any,
        device: str,
        torch: Any,
        options: Options | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Take a model that is on its device and in inference mode."""
        self._model = model
        self._device = device
        self._torch = torch
        self._options = options or Options()
        self._clock = clock or clock_of(device, torch)
        self._memory = Memory(device, torch)
        self._steps: Steps | None = Steps(
            model,
            torch,
            static=self._options.cache == "static",
            compiled=self._options.compile,
        )
        self._doing = ""
        if self._options.compile is not None:
            # Graphs of an earlier model count towards the limit of how many a function may have.
            torch.compiler.reset()
            # Beyond that limit torch would go on uncompiled, and say so in a log only.
            torch._dynamo.config.fail_on_recompile_limit_hit = True

    def prepare(self, experiment: Experiment) -> None:
        """Give a static cache the room of the longest request, and compile where it was asked for.

        So compiling counts as loading, and isn't found in a measured window.
        """
        assert self._steps is not None
        prompts, count = experiment.prompts, experiment.output_tokens
        longest = _longest(prompts)
        if self._steps.static and longest is not None:
            self._steps.least = longest + count - 1
        if self._options.compile is None or count < 2:
            return
        rest = prompts.count % experiment.batch_size
        sizes = {min(prompts.count, experiment.batch_size), rest} - {0}
        self._steps.keep = frozenset(sizes)
        for size in sorted(sizes, reverse=True):
            workload = Workload(
                prompts=[[0, 0]] * size,
                output_tokens=min(count, _COMPILE_STEPS),
                batch_size=size,
                seed=experiment.seed,
                decoding=experiment.decoding,
            )
            self.run(workload, lambda _: None)

    def facts(self) -> EngineFacts:
        """Vocabulary, device, dtype, parameters, and how the model is computed."""
        config = self._model.config
        options = self._options
        quantization = getattr(config, "quantization_config", None)
        return EngineFacts(
            vocab_size=config.get_text_config().vocab_size,
            device=self._device,
            details={
                "architecture": type(self._model).__name__,
                "dtype": str(self._model.dtype).removeprefix("torch."),
                "parameters": self._model.num_parameters(),
                "attention": getattr(config, "_attn_implementation", None),
                "cache": options.cache,
                "compile": "none" if options.compile is None else dict(options.compile),
                "quantization": _method(quantization),
                "placement": _placement(self._model, self._device),
                "threads": self._torch.get_num_threads(),
            },
            config=config.to_dict(),
        )

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        """Answer the requests, ``batch_size`` at a time; a batch is submitted as one.

        Raises:
            LlemError: where a batch doesn't fit into memory; it says which does, if one was found.
        """
        assert self._steps is not None
        done: list[Completion] = []
        self._steps.make_room(max(map(len, workload.prompts)) + workload.output_tokens - 1)
        device = str(self._model.device)
        chooser = Chooser(workload.decoding, workload.seed, device, self._torch)
        for first in range(0, len(workload.prompts), workload.batch_size):
            batch = workload.prompts[first : first + workload.batch_size]
            done += self._whole(batch, workload.output_tokens, chooser)
            progress(len(done))
        return tuple(done)

    def _whole(
        self, prompts: Sequence[Sequence[int]], count: int, chooser: Chooser
    ) -> list[Completion]:
        """One batch, or what can be said where it doesn't fit."""
        try:
            with self._torch.inference_mode():
                return self._batch(prompts, count, chooser)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            said = str(error).strip().partition("\n")[0] or type(error).__name__
        # The error is gone by here, and with it the frames that held the batch.
        what = f"{self._doing} with batch_size {len(prompts)}"
        longest = sorted(prompts, key=len, reverse=True)
        fits = largest_that_fits(
            len(prompts), lambda size: self._fits(longest[:size], count, chooser)
        )
        raise LlemError(
            f"out of memory on {self._device} in {what}, prompts of up to {len(longest[0])} tokens"
            f" and {count} to generate: {fits} ({said})"
        )

    def _fits(self, prompts: Sequence[Sequence[int]], count: int, chooser: Chooser) -> bool:
        """Whether a batch can be computed to its end."""
        if self._steps is not None:
            self._steps.kept.clear()
        self._memory.free()
        try:
            with self._torch.inference_mode():
                self._batch(prompts, count, chooser)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return False
        return True

    def _batch(
        self, prompts: Sequence[Sequence[int]], count: int, chooser: Chooser
    ) -> list[Completion]:
        """Prefill once, decode ``count`` − 1 times."""
        assert self._steps is not None
        self._doing = "prefill"
        self._clock.start()
        batch = Batch(self._steps, prompts, count)
        history = batch.history() if chooser.looks_back else None
        token, tokens = None, []
        for number in range(count):
            self._doing = f"decode step {number} of {count - 1}" if number else "prefill"
            token = chooser.choose(batch.forward(token), history)
            self._clock.mark()
            tokens.append(token)
            if history is not None:
                history = self._torch.cat([history, token], dim=1)
        stamps = self._clock.stop()
        rows = self._torch.cat(tokens, dim=1).tolist()
        return [
            Completion(
                timing=RequestTiming(
                    submitted_s=stamps.submitted_s,
                    token_s=stamps.token_s,
                    input_tokens=len(prompt),
                    output_tokens=len(row),
                ),
                token_ids=tuple(row),
                cached_tokens=0,
                preemptions=0,
            )
            for prompt, row in zip(prompts, rows, strict=True)
        ]

    def reset_peak_memory(self) -> None:
        """Start a new peak."""
        self._memory.reset_peak()

    def peak_memory_bytes(self) -> int | None:
        """Bytes allocated on the GPUs, or resident in this process; None on mps."""
        return self._memory.peak_bytes()

    def close(self) -> None:
        """Let go of the model."""
        self._model = self._steps = None
        self._memory.free()


def _longest(prompts: Prompts) -> int | None:
    """Tokens of the longest prompt that may be drawn; None where a file decides."""
    shape = prompts.input_tokens
    if prompts.source != "synthetic":
        return None
    if isinstance(shape, Uniform):
        return shape.uniform[1]
    return shape.lognormal.max if isinstance(shape, Lognormal) else shape


def _method(quantization: Any) -> str:
    """Name of a quantisation method, from a config object or a checkpoint's mapping."""
    if quantization is None:
        return "none"
    if isinstance(quantization, Mapping):
        return str(quantization.get("quant_method"))
    method = quantization.quant_method
    bits = {"load_in_4bit": "_4bit", "load_in_8bit": "_8bit"}
    more = [suffix for name, suffix in bits.items() if getattr(quantization, name, False)]
    return "".join([str(getattr(method, "value", method)), *more])


def _placement(model: Any, device: str) -> str | dict[str, str]:
    """The device, or the place of each part of a model that was spread."""
    found = getattr(model, "hf_device_map", None) or {}
    if len(set(map(str, found.values()))) < 2:
        return device
    return {str(name): str(place) for name, place in found.items()}
