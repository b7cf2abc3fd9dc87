"""What a study says of an experiment, the same class for host and worker.

Units are part of a name: ``_j _w _s _bytes``. A field's type holds its rule and its ``metadata``
the help text, both in pydantic's words: the host validates these very classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

from pytest_llem.rules import (
    FORBID_UNKNOWN,
    Count,
    EnvText,
    Factor,
    FactorOrZero,
    Flag,
    Fraction,
    Name,
    Rule,
    Seconds,
    Seed,
    Text,
    TraceHz,
    described,
)

__all__ = [
    "BUILT_FROM",
    "DECODING",
    "NOT_IN_DIGEST",
    "Concurrency",
    "Decoding",
    "Experiment",
    "Lognormal",
    "LognormalShape",
    "Poisson",
    "Prompts",
    "Slo",
    "Uniform",
    "Warmup",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """Lengths drawn evenly from a range."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    uniform: tuple[Count, Count] = field(metadata={"description": "shortest and longest"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LognormalShape:
    """A lognormal distribution, cut off at its longest."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    median: Count = field(
        metadata={
            "description": "half of all draws are shorter; one above the longest is made again"
        }
    )
    sigma: Factor = field(metadata={"description": "standard deviation of the logarithm"})
    max: Count = field(metadata={"description": "the longest"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Lognormal:
    """Lengths as people's own prompts have them: many short ones, few long ones."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    lognormal: LognormalShape = field(metadata={"description": "shape of the distribution"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The requests of a measurement: prompts that are drawn, or those of a file.

    ``input_tokens`` is None where they are of a file: they are taken whole.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    source: Text = described(
        "synthetic", "synthetic, or a .jsonl or .json file of prompts relative to the study"
    )
    count: Count = described(100, "number of requests")
    input_tokens: Count | Uniform | Lognormal | None = described(
        512, "tokens of each prompt, or how lengths are drawn; not for prompts of a file"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """Requests made before the measurement and not counted."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    prompts: Count = described(5, "number of warm-up requests")
    timeout_s: Seconds = described(30.0, "no new warm-up batch starts after this time")
    until_stable: Flag = described(False, "go on until the time of a batch no longer changes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How the next token is chosen; greedy where nothing is set."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    temperature: FactorOrZero | None = described(None, "divides the logits; 0 is greedy")
    top_k: Count | None = described(None, "only the k likeliest tokens")
    top_p: Annotated[float, Rule(gt=0, le=1, strict=True)] | None = described(
        None, "only the likeliest tokens that together reach this probability"
    )
    min_p: Annotated[float, Rule(ge=0, le=1, strict=True)] | None = described(
        None, "only tokens at least this likely, relative to the likeliest"
    )
    repetition_penalty: Factor | None = described(None, "above 1 makes repetitions less likely")

    @property
    def sampled(self) -> bool:
        """Whether tokens are drawn at random, which is the same for all engines.

        They are with a temperature above 0, and with top_k, top_p or min_p at a temperature that
        isn't set, which is then 1. A repetition penalty alone changes what is likeliest.
        """
        if self.temperature is not None:
            return self.temperature > 0
        return any(part is not None for part in (self.top_k, self.top_p, self.min_p))


DECODING = tuple(each.name for each in fields(Decoding))
"""All ways to say how the next token is chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson:
    """Requests arrive at random times, independent of each other."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    poisson: Factor = field(metadata={"description": "mean number of requests per second"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """A fixed number of requests in flight: each that ends is followed by another."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    concurrency: Count = field(metadata={"description": "requests in flight"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """What a request must keep to, to count as good."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    ttft_s: Seconds | None = described(None, "longest time to the first token")
    tpot_s: Seconds | None = described(None, "longest time per output token after the first")
    e2e_s: Seconds | None = described(None, "longest time from end to end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One configuration to measure.

    ``options`` are handed to the engine of the backend; in a study they stand under its name.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    id: str = described("", "name of the experiment; made from its own fields when not given")
    model: Text = field(
        metadata={"description": "hub id, or model directory relative to the study"}
    )
    backend: Text = described("pytorch", "engine")
    revision: Text | None = described(None, "revision of a hub model")
    weights: Literal["pretrained", "random"] = described(
        "pretrained", "random: dummy weights from the directory's config.json"
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = described(
        "auto", "number format; auto leaves it to the model"
    )
    device: Literal["auto", "cuda", "cpu", "mps"] = described(
        "auto", "where the engine computes; auto takes a GPU where there is one"
    )
    gpus: Count | None = described(None, "devices; tensor_parallel × pipeline_parallel if not set")
    tensor_parallel: Count = described(1, "devices that share each layer")
    pipeline_parallel: Count = described(1, "groups of devices that share the layers")
    batch_size: Count = described(
        1, "requests computed together; not for engines that schedule by themselves"
    )
    prompts: Prompts = described(Prompts(), "the requests")
    output_tokens: Count = described(128, "tokens generated per request, exactly; EOS is ignored")
    decoding: Decoding = described(Decoding(), "how the next token is chosen; greedy if not set")
    seed: Seed = described(42, "seed of prompts, weights and sampling")
    scenario: Literal["offline"] | Poisson | Concurrency = described(
        "offline", "how requests arrive: all at once, at random, or a fixed number in flight"
    )
    slo: Slo = described(Slo(), "what a request must keep to, to count for goodput")
    warmup: Warmup | Literal["none"] = described(Warmup(), "requests before the measurement")
    idle: Seconds | Literal["none"] = described(
        30.0, "seconds of idle power, measured once for a loaded state, or none"
    )
    precision: Fraction | None = described(
        None, "relative uncertainty of the energy to reach by repeating"
    )
    phases: Flag = described(False, "also measure prefill and decode by themselves")
    meters: tuple[str, ...] | Literal["auto"] = described("auto", "meters to read")
    power_trace_hz: TraceHz | Literal["none"] = described(
        10.0, "samples a second of the GPUs' power, temperature and clocks, or none"
    )
    worker: Literal["fresh", "forked", "reuse"] = described(
        "fresh", "a process for each measurement: new, forked, or the one of the measurement before"
    )
    timeout_s: Seconds = described(600.0, "longest time from loaded to closed")
    load_timeout_s: Seconds = described(1800.0, "longest time to load")
    env: Mapping[Name, EnvText] = field(
        default_factory=dict, metadata={"description": "environment variables of the worker"}
    )
    image: Text | None = described(None, "container image for this experiment")
    marks: tuple[Name | Mapping[Name, Any], ...] = described(
        (), "pytest marks: a name, or name: arguments"
    )
    skip: Text | None = described(None, "reason not to measure it")
    xfail: Text | None = described(None, "reason why it is expected to fail")
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def devices(self) -> int:
        """Devices it computes on, as asked for."""
        return self.gpus or self.tensor_parallel * self.pipeline_parallel


BUILT_FROM = (
    "backend",
    "model",
    "revision",
    "weights",
    "dtype",
    "device",
    "devices",
    "tensor_parallel",
    "pipeline_parallel",
    "options",
    "env",
)
"""What every engine may be built from; random weights are drawn with the seed, too.

Measurements that share these may share an engine."""

NOT_IN_DIGEST = frozenset(
    {
        "id",
        "slo",
        "warmup",
        "idle",
        "precision",
        "phases",
        "meters",
        "power_trace_hz",
        "worker",
        "timeout_s",
        "load_timeout_s",
        "image",
        "marks",
        "skip",
        "xfail",
    }
)
"""Fields that say how to measure, name or select an experiment, and not what it is."""
