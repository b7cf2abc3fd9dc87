"""The parts of a report that are plain mappings in the code: which keys each of them has.

Several shapes of one mapping are told apart by their keys, so each has all of its own, always. What
an extension says of itself (a backend's engine, a meter, a runner's place) is open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from pytest_llem.experiment import Experiment
from pytest_llem.meters.gpu_state import GpuState
from pytest_llem.records import Figure, Summary
from pytest_llem.study.keys import Carbon

__all__ = ["BY_NAME", "SHAPES"]


class Git(TypedDict):
    """The commit of the user's project."""

    commit: str
    dirty: bool


class Environment(TypedDict):
    """The host and what measured there; of a merged report null where sessions differ."""

    pytest_llem: str | None
    python: str | None
    system: str | None
    git: Git | None
    carbon: Carbon | None


class FixedGap(TypedDict):
    """A rest of a length that was asked for."""

    mode: Literal["fixed"]
    waited_s: float


class ThermalGap(TypedDict):
    """A rest until a device had cooled down."""

    mode: Literal["thermal"]
    waited_s: float
    idle_c: float | None
    before_c: float | None
    after_c: float | None
    reached: bool
    reason: str | None


class Tokens(TypedDict):
    """Counts of the measured window."""

    requests: int
    input: int
    output: int


class Testbed(TypedDict):
    """What two measurements must share to be comparable."""

    device: str
    cpu: str
    cpus: int
    system: str
    meters: Mapping[str, tuple[str, ...]]
    worker: str


class GpuTestbed(Testbed):
    """The same on GPUs."""

    gpus: tuple[str, ...]
    gpu_count: int
    power_limits_w: tuple[float | None, ...]
    driver_branch: str | None
    mig: bool


class Subject(TypedDict):
    """What was measured."""

    backend: str
    versions: Mapping[str, str | None]
    digest: str
    engine: Mapping[str, Any]


class Lengths(TypedDict):
    """Lengths of the prompts in tokens."""

    min: int
    median: float
    max: int


class Workload(TypedDict):
    """Where synthetic prompts come from, and how long they are."""

    source: str
    tokenizer: str | None
    sha256: str | None
    input_tokens: Lengths


class FileWorkload(Workload):
    """The same of prompts of a file."""

    equal_prompts: int
    left_out: int


class UnknownModel(TypedDict):
    """A model of which nothing is known."""

    source: str | None
    reason: str


class Model(TypedDict):
    """What a model's configuration tells."""

    source: str
    reason: None
    family: str
    parameters: int
    active_parameters: int
    embedding_parameters: int
    dtype: str | None
    kv_dtype: str | None
    weights_bytes: int | None
    kv_bytes_per_token: int | None
    sliding_layers: int
    sliding_window: int | None
    context_tokens: int
    prefill_flops_per_token: float
    decode_flops_per_token: float
    flops: float


class Conditions(TypedDict):
    """What was seen of the GPUs around the window."""

    driver: str | None
    before: tuple[GpuState, ...]
    after: tuple[GpuState, ...]
    waited_s: float
    trace_cpu_s: float | None
    seat: str | None
    unchecked: str | None
    reason: str | None


class Nothing(TypedDict):
    """No key at all."""


SHAPES: Mapping[str, Any] = {
    "Report.environment": Environment,
    "MergedFrom.environment": Environment,
    "Outcome.config": Experiment,
    "Outcome.gap": FixedGap | ThermalGap | None,
    "ExperimentReport.config": Experiment | None,
    "Measurement.tokens": Tokens,
    "Measurement.testbed": Testbed | GpuTestbed,
    "Measurement.subject": Subject,
    "Measurement.conditions": Nothing | Conditions,
    "Measurement.workload": Workload | FileWorkload,
    "Measurement.model": UnknownModel | Model,
}
"""Fields that the records call mappings, and what they hold."""

BY_NAME: Mapping[str, tuple[type, bool]] = {
    "Measurement.metrics": (Figure, False),
    "Measurement.derived": (Figure, False),
    "ExperimentReport.statistics": (Summary, True),
}
"""Fields that have every metric by its name: what each is, and whether all may be missing."""
