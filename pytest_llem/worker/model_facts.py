"""What is known of a model from its configuration alone, and figures made of that.

Formulas stand in :mod:`.model_work` and in docs/methodology.md.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llem.experiment import Concurrency, Experiment, Poisson
from pytest_llem.extensions import WELL_KNOWN, Completion, EngineFacts
from pytest_llem.records import Figure
from pytest_llem.worker import bandwidth
from pytest_llem.worker.model_shape import Shape, Unknown, shape
from pytest_llem.worker.model_work import Work, bytes_read, decode_flops, kv_bytes, prefill_flops
from pytest_llem.worker.quantity import null

__all__ = ["DERIVED", "Known", "Served", "config_of", "derived", "known"]

DERIVED = {
    "energy_per_flop_j": "J",
    "output_tokens_per_s_bound": "1/s",
    "bandwidth_share": "",
}
"""Names of the figures, and their units."""

_BYTES = {
    "float64": 8,
    "float32": 4,
    "float": 4,
    "float16": 2,
    "half": 2,
    "bfloat16": 2,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int8": 1,
}
_QUANTISED = ("quantization", "quantization_config", "quant_config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a model.

    Attributes:
        source: where its configuration comes from: ``engine``, ``directory``, ``hub``.
        shape: None where it isn't known; then ``reason`` says why.
        dtype: of its weights, as far as it is told.
        weight_bytes: of one weight; None where it isn't known, or they differ.
        kv_dtype: of its cache.
        element_bytes: of one element of the cache.
    """

    source: str | None = None
    shape: Shape | None = None
    reason: str | None = None
    dtype: str | None = None
    weight_bytes: float | None = None
    kv_dtype: str | None = None
    element_bytes: float | None = None

    def plain(self, requests: Sequence[Work]) -> dict[str, Any]:
        """Plain data for the report.

        Args:
            requests: of one run of the workload.
        """
        if (shape := self.shape) is None:
            return {"source": self.source, "reason": self.reason}
        if not requests:
            return {"source": self.source, "reason": "no request was answered"}
        size, element = self.weight_bytes, self.element_bytes
        windows = [window for window in shape.windows if window is not None]
        length = max(1, round(statistics.fmean(work.input for work in requests)))
        prefill = prefill_flops(shape, length)
        return {
            "source": self.source,
            "family": shape.family,
            "parameters": shape.parameters,
            "active_parameters": shape.active_parameters,
            "embedding_parameters": shape.embeddings,
            "dtype": self.dtype,
            "weights_bytes": None if size is None else round(shape.parameters * size),
            "kv_dtype": self.kv_dtype,
            "kv_bytes_per_token": None if element is None else round(kv_bytes(shape, 1, element)),
            "sliding_window": min(windows, default=None),
            "sliding_layers": len(windows),
            "context_tokens": length,
            "prefill_flops_per_token": prefill / length,
            "decode_flops_per_token": decode_flops(shape, length + 1),
            "flops": flops(shape, requests),
            "reason": None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How requests were answered.

    Attributes:
        requests: of one run of the workload.
        together: of them in one pass over the model, at most; None where arrivals say so.
        gpus: names of the GPUs they were answered on; empty on other devices.
        cached: input tokens that came from a cache.
        divided: whether the GPUs are divided into instances.
        whole: whether they were all answered within the window, and no others.
    """

    requests: Sequence[Work]
    together: int | None
    gpus: Sequence[str]
    cached: int = 0
    divided: bool = False
    whole: bool = True

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        completions: Sequence[Completion],
        repeats: int,
        testbed: Mapping[str, Any],
        *,
        batches: bool,
    ) -> Served:
        """What a measurement's window came to.

        Args:
            experiment: that was measured.
            completions: of so many runs.
            repeats: runs in the window.
            testbed: of the measurement.
            batches: whether the study says how many requests are computed together.
        """
        count = len(completions) // repeats
        scenario = experiment.scenario
        together = experiment.batch_size if batches else count
        if isinstance(scenario, Concurrency):
            together = scenario.concurrency
        return cls(
            requests=[
                Work(c.timing.input_tokens, c.timing.output_tokens) for c in completions[:count]
            ],
            together=None if isinstance(scenario, Poisson) else min(together, count),
            gpus=tuple(testbed.get("gpus") or ()) if testbed.get("device") == "cuda" else (),
            cached=sum(c.cached_tokens or 0 for c in completions),
            divided=bool(testbed.get("mig")),
            whole=scenario == "offline",
        )


def known(experiment: Experiment, facts: EngineFacts) -> Known:
    """What is known of the model of a loaded engine."""
    config, source, reason = config_of(experiment, facts)
    if config is None:
        return Known(reason=reason)
    dtype = _dtype(experiment, facts, config)
    quantised = any(experiment.options.get(name) for name in _QUANTISED) or bool(
        config.get("quantization_config")
    )
    cache = experiment.options.get("kv_cache_dtype", "auto")
    kv_dtype = dtype if cache == "auto" else str(cache)
    try:
        return Known(
            source=source,
            shape=shape(config),
            dtype=None if quantised else dtype,
            weight_bytes=None if quantised or dtype is None else _BYTES.get(dtype),
            kv_dtype=kv_dtype,
            element_bytes=None if kv_dtype is None else _BYTES.get(kv_dtype),
        )
    except Unknown as error:
        return Known(source=source, reason=str(error))


def config_of(
    experiment: Experiment, facts: EngineFacts
) -> tuple[Mapping[str, Any] | None, str | None, str | None]:
    """The model's configuration and where it is from; else why there is none."""
    if facts.config is not None:
        return facts.config, "engine", None
    model = Path(experiment.model)
    if model.is_absolute():
        try:
            found = json.loads((model / "config.json").read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            return None, None, f"config.json of the model can't be read: {error}"
        if not isinstance(found, Mapping):
            return None, None, "config.json of the model holds no mapping"
        return found, "directory", None
    if experiment.backend not in WELL_KNOWN:
        return None, None, f"backend {experiment.backend} doesn't tell the model's configuration"
    return _of_hub(experiment)


def _of_hub(experiment: Experiment) -> tuple[Mapping[str, Any] | None, str | None, str | None]:
    """The configuration in the hub's cache: the engine has just loaded it from there."""
    try:
        from transformers import PretrainedConfig

        found, _ = PretrainedConfig.get_config_dict(
            experiment.model, revision=experiment.revision, local_files_only=True
        )
    except Exception as error:
        # A library's, of any kind; what is missing here is no reason to lose a measurement.
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        return None, None, f"config.json isn't in the hub's cache: {first}"
    return found, "hub", None


def _dtype(experiment: Experiment, facts: EngineFacts, config: Mapping[str, Any]) -> str | None:
    """What weights are held in: the engine knows best, then the study, then the model."""
    for told in (facts.details.get("dtype"), experiment.dtype, config.get("dtype")):
        if told is not None and told != "auto":
            return str(told).removeprefix("torch.")
    told = config.get("torch_dtype")
    return None if told is None else str(told).removeprefix("torch.")


def flops(shape: Shape, requests: Sequence[Work]) -> int:
    """Operations for some requests, no padding counted."""
    return sum(
        prefill_flops(shape, work.input) + decode_flops(shape, work.input + 1, work.output - 1)
        for work in requests
        if work.input and work.output
    )


def derived(known: Known, served: Served, metrics: Mapping[str, Figure]) -> dict[str, Figure]:
    """Figures of :data:`DERIVED`: made of a model's facts and of metrics.

    Args:
        known: of the model.
        served: the requests of one run.
        metrics: of one run.
    """
    bound = _bound(known, served)
    return {
        "energy_per_flop_j": _energy_per_flop(known, served, metrics["energy_j"]),
        "output_tokens_per_s_bound": bound,
        "bandwidth_share": _share(metrics["output_tokens_per_s"], bound),
    }


def _missing(reason: str | None) -> Figure:
    return null(reason or "unknown").figure


def _energy_per_flop(known: Known, served: Served, energy: Figure) -> Figure:
    if energy.value is None:
        return energy
    if known.shape is None:
        return _missing(known.reason)
    if not served.whole:
        return _missing("the window cuts requests, and their operations can't be told apart")
    if served.cached:
        return _missing("a part of the prompts came from a cache, and was not computed")
    work = flops(known.shape, served.requests)
    if not work:
        return _missing("no tokens were computed")
    value, spread, gain = (
        None if number is None else number / work
        for number in (energy.value, energy.uncertainty, energy.systematic)
    )
    return Figure(
        value=value,
        uncertainty=spread,
        systematic=gain,
        quality=energy.quality,
        reason=energy.reason,
    )


def _bound(known: Known, served: Served) -> Figure:
    """Output tokens per second, were reading memory all that takes time."""
    if not served.gpus:
        return _missing("the memory bandwidth of this device isn't known")
    if known.shape is None:
        return _missing(known.reason)
    if known.weight_bytes is None or known.element_bytes is None:
        return _missing("the bytes of a weight, or of an element of the cache, aren't known")
    if served.together is None:
        return _missing("it is the arrivals that say how many requests there are at a time")
    if served.divided:
        return _missing("the GPU is divided (MIG), and its memory with it")
    rates = [bandwidth.of(name) for name in served.gpus]
    if unknown := [name for name, rate in zip(served.gpus, rates, strict=True) if rate is None]:
        return _missing(f"the memory bandwidth of {unknown[0]} isn't known")
    size = bytes_read(
        known.shape,
        [work for work in served.requests if work.output],
        max(1, served.together),
        known.weight_bytes,
        known.element_bytes,
    )
    if size <= 0:
        return _missing("no tokens were computed")
    tokens = sum(work.output for work in served.requests)
    return Figure(value=tokens * sum(rate or 0.0 for rate in rates) / size)


def _share(rate: Figure, bound: Figure) -> Figure:
    if rate.value is None:
        return rate
    return bound if bound.value is None else Figure(value=rate.value / bound.value)
