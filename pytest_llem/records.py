"""Frozen records that pass between modules and over the wire, the same on both sides.

Units are part of a name: ``_j _w _s _bytes``. Times are seconds of the worker's monotonic clock.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_llem.errors import RunnerError

__all__ = [
    "WORST_FIRST",
    "Failure",
    "Figure",
    "Judgement",
    "Limit",
    "Measurement",
    "Quality",
    "Reading",
    "RequestTiming",
    "RunnerSpec",
    "Summary",
    "Verdict",
    "Window",
]

Quality = Literal["ok", "short", "degraded", "estimated", "unmeasured"]
"""How far a reading can be trusted; ``unmeasured`` always comes with a reason and no number."""

WORST_FIRST: tuple[Quality, ...] = ("unmeasured", "estimated", "degraded", "short", "ok")
"""A figure made of several is as good as the worst of them."""

_IMAGE = re.compile(r"(?!.*//)[A-Za-z0-9][A-Za-z0-9._:/@-]*")
"""Registry, port, tag and digest; the daemon knows more exactly."""

Judgement = Literal["passed", "failed", "skipped"]


# --- what a gate asks ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a gate asks of a metric.

    Attributes:
        regression: how much worse than the reference it may be, relative: 0.05 for 5 %.
        where: ``file:line`` of the study.
    """

    metric: str
    least: float | None = None
    most: float | None = None
    regression: float | None = None
    where: str = ""


# --- where it runs -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSpec:
    """Where a worker runs, and who said so.

    Attributes:
        mode: ``local``, ``docker`` or another runner's name.
        argument: what stood behind the name and a colon; of docker it is the image.
        image: for containers.
        source: ``cli env study ini user_config auto_detected auto_elevated default``.
        image_source: ``experiment runner env study ini user_config default``.
    """

    mode: str
    argument: str | None = None
    image: str | None = None
    source: str = "default"
    image_source: str | None = None

    @property
    def value(self) -> str:
        """As a user would write it: ``local``, ``docker:image``."""
        argument = self.image if self.mode == "docker" else self.argument
        return f"{self.mode}:{argument}" if argument else self.mode

    @property
    def chosen(self) -> bool:
        """Whether a person named this runner."""
        return self.source not in {"auto_detected", "auto_elevated", "default"}

    @classmethod
    def parse(cls, value: str, source: str, others: Collection[str] = ()) -> RunnerSpec:
        """Read ``local``, ``docker``, ``docker:<image>`` or ``<other runner>[:<argument>]``.

        An image or argument may hold colons itself.

        Raises:
            RunnerError: for anything else, naming source, value and what is accepted.
        """
        mode, colon, argument = (part.strip() for part in value.strip().partition(":"))
        if mode == "docker" and argument and not _IMAGE.fullmatch(argument):
            raise RunnerError(f"{source}: {argument!r} is no name of a container image")
        known = mode in {"local", "docker"} or mode in others
        if not known or (colon and (mode == "local" or not argument)):
            accepted = ", ".join(("local", "docker", "docker:<image>", *sorted(others)))
            raise RunnerError(f"{source}: {value!r} is no runner; accepted: {accepted}")
        image = argument if mode == "docker" else ""
        return cls(
            mode=mode,
            argument=None if image else argument or None,
            image=image or None,
            source=source,
            image_source="runner" if image else None,
        )


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
