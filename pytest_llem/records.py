"""Frozen records that pass between modules and over the wire, the same on both sides.

Units are part of a name: ``_j _w _s _bytes``. Times are seconds of the worker's monotonic clock.
A field's type holds its rule, its ``metadata`` the help text, both in pydantic's words: the host
validates these very classes, and the worker needs no pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pytest_llem.errors import RunnerError

__all__ = [
    "WORST_FIRST",
    "Execution",
    "Experiment",
    "Failure",
    "Figure",
    "Judgement",
    "Limit",
    "Measurement",
    "Prompts",
    "Quality",
    "Reading",
    "RequestTiming",
    "RunnerSpec",
    "Summary",
    "Verdict",
    "Warmup",
    "Window",
]

Quality = Literal["ok", "short", "degraded", "estimated", "unmeasured"]
"""How far a reading can be trusted; ``unmeasured`` always comes with a reason and no number."""

WORST_FIRST: tuple[Quality, ...] = ("unmeasured", "estimated", "degraded", "short", "ok")
"""A figure made of several is as good as the worst of them."""

Judgement = Literal["passed", "failed", "skipped"]

_FORBID_UNKNOWN = {"extra": "forbid"}


class _Rule:
    """A rule of a number, in the words of pydantic's schemas; needs no pydantic itself."""

    __slots__ = ("_rules",)

    def __init__(self, **rules: Any) -> None:
        self._rules = rules

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return {**handler(source), **self._rules}


Count = Annotated[int, _Rule(ge=1, strict=True)]
Seed = Annotated[int, _Rule(ge=0, strict=True)]
Seconds = Annotated[float, _Rule(gt=0, allow_inf_nan=False, strict=True)]
SecondsOrZero = Annotated[float, _Rule(ge=0, allow_inf_nan=False, strict=True)]


def _help(default: Any, description: str) -> Any:
    """A field with a default and a line of help."""
    return field(default=default, metadata={"description": description})


# --- what a study says ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The requests of a measurement: token-id prompts that differ from each other."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN

    source: Literal["synthetic"] = _help("synthetic", "where prompts come from")
    count: Count = _help(100, "number of requests")
    input_tokens: Count = _help(512, "tokens of each prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """Requests made before the measurement and not counted."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN

    prompts: Count = _help(5, "number of warm-up requests")
    timeout_s: Seconds = _help(30.0, "no new warm-up batch starts after this time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One configuration to measure.

    ``options`` are handed to the engine of the backend; in a study they stand under its name.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN

    id: str = _help("", "name of the experiment; made from its own fields when not given")
    model: str = field(metadata={"min_length": 1, "description": "hub id, or model directory"})
    backend: str = _help("pytorch", "engine")
    revision: str | None = _help(None, "revision of a hub model")
    weights: Literal["pretrained", "random"] = _help(
        "pretrained", "random: dummy weights from the directory's config.json"
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = _help("auto", "number format")
    device: Literal["auto", "cuda", "cpu"] = _help("auto", "where the engine computes")
    batch_size: Count = _help(1, "requests computed together")
    prompts: Prompts = _help(Prompts(), "the requests")
    output_tokens: Count = _help(128, "tokens generated per request, exactly; EOS is ignored")
    seed: Seed = _help(42, "seed of prompts, weights and sampling")
    warmup: Warmup | Literal["none"] = _help(Warmup(), "requests before the measurement")
    idle: Seconds | Literal["none"] = _help(30.0, "seconds of idle power, or none")
    meters: tuple[str, ...] | Literal["auto"] = _help("auto", "meters to read")
    timeout_s: Seconds = _help(600.0, "longest time from loaded to closed")
    load_timeout_s: Seconds = _help(1800.0, "longest time to load")
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How often and in which order the experiments of a study are measured."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN

    cycles: Count = _help(3, "repetitions of each experiment")
    order: Literal["interleaved"] = _help("interleaved", "A1 B1 A2 B2")
    gaps: SecondsOrZero | Literal["none"] = _help("none", "seconds between measurements, or none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a gate asks of a metric. ``where`` is ``file:line`` of the study."""

    metric: str
    least: float | None = None
    most: float | None = None
    where: str = ""


# --- where it runs -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSpec:
    """Where a worker runs, and who said so (``cli env study ini default``)."""

    mode: str
    image: str | None = None
    source: str = "default"

    @property
    def value(self) -> str:
        """As a user would write it: ``local``, ``docker:image``."""
        return f"{self.mode}:{self.image}" if self.image else self.mode

    @classmethod
    def parse(cls, value: str, source: str) -> RunnerSpec:
        """Read ``local``, ``docker`` or ``docker:<image>``; the image may hold colons itself.

        Raises:
            RunnerError: for anything else, naming source, value and what is accepted.
        """
        mode, colon, image = value.strip().partition(":")
        if mode not in {"local", "docker"} or (colon and (mode == "local" or not image.strip())):
            raise RunnerError(
                f"{source}: {value!r} is no runner; accepted: local, docker, docker:<image>"
            )
        return cls(mode=mode, image=image.strip() or None, source=source)


# --- what was measured ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Energy of one domain over one window.

    Attributes:
        domain: ``gpu:<uuid>``, ``cpu:0`` or ``dram:0``.
        energy_j: null where it could not be read; then ``reason`` says why.
        uncertainty_j: standard uncertainty (one sigma), without the systematic part.
        systematic: relative systematic uncertainty (a gain error, say).
        method: ``counter``, ``power`` or ``estimate``.
    """

    domain: str
    meter: str
    method: Literal["counter", "power", "estimate"]
    energy_j: float | None = None
    uncertainty_j: float | None = None
    systematic: float = 0.0
    quality: Quality = "ok"
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A phase of a measurement: ``load idle warmup measure close``."""

    phase: str
    start_s: float
    duration_s: float
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTiming:
    """One request: when it was submitted and when each of its tokens arrived.

    ``output_tokens`` is the engine's own count, kept apart from ``len(token_s)`` so that the two
    can be compared.
    """

    submitted_s: float
    token_s: tuple[float, ...]
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The value of a metric in one measurement; null comes with a reason."""

    value: float | None
    uncertainty: float | None = None
    quality: Quality = "ok"
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """An experiment × cycle, measured.

    Attributes:
        metrics: every name of ``metrics.METRICS``.
        integrity: what casts doubt on the figures; empty when all is well.
        tokens: counts of ``requests``, ``input`` and ``output`` tokens.
        tokens_sha256: over all generated token ids: equal runs give equal digests.
        testbed: what two measurements must share to be comparable.
        subject: what is being measured: engine, versions, experiment digest.
    """

    experiment: str
    digest: str
    cycle: int
    windows: tuple[Window, ...]
    metrics: Mapping[str, Figure]
    tokens: Mapping[str, int]
    tokens_sha256: str
    integrity: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    testbed: Mapping[str, Any] = field(default_factory=dict)
    subject: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no measurement: cause, fix, and the end of the worker's log."""

    kind: str
    message: str
    fix: str = ""
    log_tail: str = ""


# --- what follows from it ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A metric over the cycles of an experiment.

    ``low`` and ``high`` are the least and the greatest cycle. All numbers are null where any
    cycle has no value: a median of the rest would hide what is missing.
    """

    n: int
    median: float | None
    mean: float | None
    low: float | None
    high: float | None
    quality: Quality = "ok"
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of one limit of a gate."""

    metric: str
    outcome: Judgement
    measured: float | None
    limit: str
    reason: str
    where: str = ""

    @property
    def text(self) -> str:
        """One line for people; a verdict about the cycles as such needs no metric's name."""
        return self.reason if self.metric == "cycles" else f"{self.metric}: {self.reason}"
