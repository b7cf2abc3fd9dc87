"""TensorRT-LLM by its LLM API, 1.x with the PyTorch backend; every request is streamed.

Written from the published API and tested on a stub of it: no line of this has run on hardware here.

Its executor stamps arrival, first schedule, first and last token with C++'s ``steady_clock``, which
on Linux is the clock of ``time.monotonic``; the tokens between are stamped as they reach us.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llem.backends.tensorrt_arguments import arguments, sampling
from pytest_llem.backends.versions import installed
from pytest_llem.errors import LlemError
from pytest_llem.experiment import DECODING, Experiment
from pytest_llem.extensions import Abilities, Completion, Engine, EngineFacts, Workload
from pytest_llem.records import RequestTiming

__all__ = ["TensorrtBackend", "TensorrtEngine", "on_our_clock"]

_ONE_PROCESS = "TLLM_WORKER_USE_SINGLE_PROCESS"

_BLOCK_TOKENS = 32
"""Of a block of its key-value cache, where the configuration doesn't say."""

_TICK_S = 1e-5
"""A time of theirs is cut to microseconds on its way to Python."""


class TensorrtBackend:
    """Builds engines from a hub model or a directory."""

    name = "tensorrt"
    install = "pip install tensorrt-llm"
    abilities = Abilities(
        scenarios=frozenset({"offline", "poisson", "concurrency"}),
        devices=frozenset({"cuda"}),
        batches=False,
        parallel=True,
        decoding=frozenset(DECODING),
    )

    def versions(self) -> Mapping[str, str | None]:
        """Versions of TensorRT-LLM and torch, read from metadata: nothing is imported."""
        return installed("tensorrt_llm", "torch")

    def preload(self) -> None:
        """Import the engine, which takes longer than all else that a small model needs."""
        importlib.import_module("tensorrt_llm")

    def load(self, experiment: Experiment) -> Engine:
        """Build the engine.

        Raises:
            LlemError: for a model directory that isn't there, a version before 1.0, and arguments
                that the installed version doesn't have or take.
        """
        config = _config(experiment)
        vocab_size = _vocab_size(config, experiment.model)
        alone = experiment.tensor_parallel * experiment.pipeline_parallel == 1
        # Another process would be made by MPI, and send every token through a socket. Set for each
        # load: what one left behind is nothing to the next.
        os.environ[_ONE_PROCESS] = experiment.env.get(_ONE_PROCESS, "1" if alone else "0")
        os.environ.setdefault("TRTLLM_NO_USAGE_STATS", "1")
        trt = importlib.import_module("tensorrt_llm")
        api = importlib.import_module("tensorrt_llm.llmapi")
        if not hasattr(api, "TorchLlmArgs"):
            version = self.versions()["tensorrt_llm"]
            raise LlemError(f"tensorrt needs TensorRT-LLM 1.0 or later; {version} is installed")
        given = arguments(experiment, api.TorchLlmArgs.model_fields)
        try:
            llm = trt.LLM(**given)
        except ValueError as error:
            raise LlemError(f"TensorRT-LLM doesn't take its arguments: {error}") from error
        about = _About(
            vocab_size=vocab_size,
            end_id=_end_id(config),
            block_tokens=getattr(given["kv_cache_config"], "tokens_per_block", _BLOCK_TOKENS),
            reuses=bool(given["kv_cache_config"].enable_block_reuse),
            details=_details(experiment, llm),
        )
        return TensorrtEngine(llm, trt.SamplingParams, about, _memory_in_use if alone else _unknown)


# --- what is known of the model ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _About:
    """What an engine knows beside TensorRT-LLM.

    Attributes:
        end_id: the id that would end a request, were it not ignored.
        block_tokens: tokens of a block of the key-value cache.
    """

    vocab_size: int
    end_id: int
    block_tokens: int = _BLOCK_TOKENS
    reuses: bool = False
    details: Mapping[str, Any]


def _config(experiment: Experiment) -> dict[str, Any]:
    """The model's config.json, of its directory or of the hub's cache."""
    folder = Path(experiment.model)
    if folder.is_absolute() and not folder.is_dir():
        raise LlemError(f"there is no model directory {folder}")
    try:
        path = folder / "config.json" if folder.is_absolute() else _cached(experiment)
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LlemError(f"config.json of {experiment.model} can't be read: {error}") from error
    # Models of several kinds of input keep what is about text apart.
    return {**found, **found.get("text_config", {})}


def _cached(experiment: Experiment) -> Path:
    from transformers.utils import cached_file

    return Path(cached_file(experiment.model, "config.json", revision=experiment.revision))


def _vocab_size(config: Mapping[str, Any], model: str) -> int:
    size = config.get("vocab_size")
    if not isinstance(size, int):
        raise LlemError(f"the config.json of {model} has no vocab_size")
    return size


def _end_id(config: Mapping[str, Any]) -> int:
    """A model may have several, or none; it is ignored, but has to be given."""
    found = config.get("eos_token_id")
    found = found[0] if isinstance(found, list) and found else found
    return found if isinstance(found, int) else 0


def _details(experiment: Experiment, llm: Any) -> dict[str, Any]:
    """What is worth a line in the report, of what the engine made of its arguments."""
    args = getattr(llm, "args", None)
    names = ("attn_backend", "max_batch_size", "max_num_tokens", "max_seq_len", "sampler_type")
    made = {name: getattr(args, name, None) for name in names}
    plain = {k: v if isinstance(v, (int, float)) else str(v) for k, v in made.items() if v}
    return {
        "dtype": experiment.dtype,
        "tensor_parallel": experiment.tensor_parallel,
        "pipeline_parallel": experiment.pipeline_parallel,
        "one_process": os.environ.get(_ONE_PROCESS) == "1",
        **plain,
    }


# --- the engine ----------------------------------------------------------------------------------


class TensorrtEngine:
    """A model in TensorRT-LLM's executor, which makes up batches by itself."""

    def __init__(
        self,
        llm: Any,
        parameters: Callable[..., Any],
        about: _About,
        memory: Callable[[], int | None],
    ) -> None:
        """Take a loaded ``LLM``, its class of sampling parameters, and what tells its memory."""
        self.loop = asyncio.new_event_loop()
        self._llm = llm
        self._parameters = parameters
        self._about = about
        self._memory = memory

    def facts(self) -> EngineFacts:
        """Vocabulary, device, and whether blocks of the cache are used again."""
        return EngineFacts(
            vocab_size=self._about.vocab_size,
            device="cuda",
            details=self._about.details,
            reuses=self._about.reuses,
        )

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        """Submit all requests at once, and wait for their ends."""
        return self.loop.run_until_complete(self._run(workload, progress))

    async def _run(
        self, workload: Workload, progress: Callable[[int], None]
    ) -> tuple[Completion, ...]:
        finished = 0

        async def one(number: int) -> Completion:
            nonlocal finished
            completion = await self.answer(number, workload, lambda _: None)
            finished += 1
            progress(finished)
            return completion

        tasks = [self.loop.create_task(one(n)) for n in range(len(workload.prompts))]
        try:
            return tuple(await asyncio.gather(*tasks))
        finally:
            # All are done, but for a request that failed or a run that was broken off.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def answer(
        self, number: int, workload: Workload, progress: Callable[[int], None]
    ) -> Completion:
        """Submit one request now, and wait for its end.

        Raises:
            LlemError: for a request that it doesn't take, and for one that came without times.
        """
        prompt = list(workload.prompts[number])
        chosen = sampling(workload, number, self._about.end_id)
        submitted_s = time.monotonic()
        try:
            request = self._llm.generate_async(
                {"prompt_token_ids": prompt},
                sampling_params=self._parameters(**chosen),
                streaming=True,
            )
        except ValueError as error:
            raise LlemError(
                f"TensorRT-LLM doesn't take a request of {len(prompt)} tokens: {error};"
                " tensorrt.max_num_tokens and tensorrt.enable_chunked_prefill set what it takes"
            ) from error
        stamps: list[float] = []
        try:
            # It yields itself again and again, with more tokens each time.
            async for _ in request:
                now_s = time.monotonic()
                stamps += [now_s] * (len(request.outputs[0].token_ids) - len(stamps))
                progress(len(stamps))
        finally:
            if not request.finished:
                request.abort()
        return self._completion(request, submitted_s, stamps, len(prompt))

    def _completion(
        self, request: Any, submitted_s: float, stamps: Sequence[float], prompt_tokens: int
    ) -> Completion:
        output = request.outputs[0]
        measured = output.request_perf_metrics
        if measured is None:
            raise LlemError("TensorRT-LLM gave a request back without request_perf_metrics")
        token_s, scheduled_s = on_our_clock(submitted_s, stamps, measured.timing_metrics)
        return Completion(
            timing=RequestTiming(
                submitted_s=submitted_s,
                token_s=token_s,
                input_tokens=len(request.prompt_token_ids),
                output_tokens=len(output.token_ids),
                scheduled_s=scheduled_s,
            ),
            token_ids=tuple(output.token_ids),
            cached_tokens=self._cached(request, measured, prompt_tokens),
        )

    def _cached(self, request: Any, measured: Any, prompt_tokens: int) -> int | None:
        """Tokens of the prompt that were found in the cache.

        Its count of tokens is 0 where the executor doesn't report one, so the count of blocks is
        looked at, too; the last block may be used in part, so it can be a block too many.
        """
        blocks = getattr(measured.kv_cache_metrics, "num_reused_blocks", None)
        tokens = getattr(request, "cached_tokens", None)
        if blocks is None or tokens:
            return None if tokens is None else int(tokens)
        return min(int(blocks) * self._about.block_tokens, prompt_tokens)

    def reset_peak_memory(self) -> None:
        """Nothing to reset: TensorRT-LLM takes its memory when it is loaded, and keeps it."""

    def peak_memory_bytes(self) -> int | None:
        """Memory in use on the GPU; None where it computes on several, in processes of its own."""
        return self._memory()

    def close(self) -> None:
        """End the executor and its processes; a second call does nothing."""
        llm, self._llm = self._llm, None
        if llm is not None:
            llm.shutdown()
            self.loop.close()
        del llm
        gc.collect()


def on_our_clock(
    submitted_s: float, stamps: Sequence[float], theirs: Any
) -> tuple[tuple[float, ...], float | None]:
    """Times of a request's tokens, and when it was scheduled, on the clock of this process.

    The first and the last token are the executor's: several may reach us at once. Those between
    are as they reached us, none after the last. Where the executor's times don't lie between
    submission and the last arrival here, its clock is another one; then it is put so that the
    request arrived there when it was submitted here, which is early by the way there.

    Args:
        submitted_s: when we submitted it.
        stamps: when each token reached us.
        theirs: ``timing_metrics``, whose times are ``timedelta`` since its clock's beginning.
    """
    if not stamps:
        return (), None
    arrival_s = theirs.arrival_time.total_seconds()
    scheduled_s = theirs.first_scheduled_time.total_seconds()
    first_s = theirs.first_token_time.total_seconds()
    last_s = theirs.last_token_time.total_seconds()
    same = submitted_s - _TICK_S <= arrival_s and last_s <= stamps[-1] + _TICK_S
    shift_s = 0.0 if same else submitted_s - arrival_s
    first_s, last_s = max(submitted_s, first_s + shift_s), last_s + shift_s
    between = (min(max(stamp, first_s), last_s) for stamp in stamps[1:-1])
    ends = (first_s,) if len(stamps) == 1 else (first_s, *between, last_s)
    return ends, max(submitted_s, scheduled_s + shift_s)


def _memory_in_use() -> int | None:
    """Bytes in use on the first GPU, as CUDA tells."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    with contextlib.suppress(RuntimeError):
        free, total = torch.cuda.mem_get_info()
        return int(total - free)
    return None


def _unknown() -> None:
    """Memory of processes that aren't ours to ask."""
