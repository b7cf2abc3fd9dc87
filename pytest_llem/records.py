"""Frozen records that pass between modules and over the wire, the same on both sides.

Units are part of a name: ``_j _w _s _bytes``. Times are seconds of the worker's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from pytest_llem.traffic import Stages, Traffic

__all__ = [
    "IDLE_LASTS_S",
    "WORST_FIRST",
    "Comparison",
    "Failure",
    "Figure",
    "Idle",
    "IdlePower",
    "Judgement",
    "Measurement",
    "Precision",
    "Prefill",
    "Quality",
    "Reading",
    "RequestTiming",
    "Summary",
    "ToIdle",
    "TraceSummary",
    "Verdict",
    "WarmUp",
    "Window",
]

Quality = Literal["ok", "short", "degraded", "shared", "estimated", "unmeasured"]
"""How far a reading can be trusted: ``unmeasured`` always comes with a reason and no number,
``shared`` is the energy of several measurements at once."""

WORST_FIRST: tuple[Quality, ...] = get_args(Quality)[::-1]
"""A figure made of several is as good as the worst of them."""

IDLE_LASTS_S = 600.0
"""Idle power that is older than this is measured anew."""

Judgement = Literal["passed", "failed", "skipped"]


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
        to_idle: what it took from the window's start until the device was back at its power
            before the window; None where the meter doesn't watch that.
        before_w: mean power just before the window; null where it wasn't observed.
    """

    domain: str
    meter: str
    method: Literal["counter", "power", "estimate"]
    energy_j: float | None = None
    uncertainty_j: float | None = None
    systematic: float = 0.0
    quality: Quality = "ok"
    reason: str | None = None
    to_idle: ToIdle | None = None
    before_w: float | None = None

    def without_figures(self, reason: str) -> Reading:
        """What was to be read, unmeasured."""
        return replace(
            self,
            energy_j=None,
            uncertainty_j=None,
            to_idle=None,
            before_w=None,
            quality="unmeasured",
            reason=reason,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ToIdle:
    """Energy above what a device drew before a window, from its start until it draws that again.

    Attributes:
        above_j: energy above ``before_w``; null with a reason where it didn't settle.
        settled_s: time from the window's end until it had.
    """

    above_j: float | None = None
    uncertainty_j: float | None = None
    settled_s: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdlePower:
    """Mean power of one domain with the engine loaded and no request.

    Attributes:
        power_w: null where it could not be measured; then ``reason`` says why.
        uncertainty_w: standard uncertainty (one sigma), without the systematic part.
        systematic: relative systematic uncertainty, as in a reading.
    """

    domain: str
    meter: str
    method: Literal["counter", "power", "estimate"]
    power_w: float | None = None
    uncertainty_w: float | None = None
    systematic: float = 0.0
    quality: Quality = "ok"
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """The idle power that a measurement's figures are made with, and where it comes from.

    Attributes:
        powers: one for each domain that was read.
        duration_s: how long it was measured.
        age_s: from the end of that to the beginning of the measured window.
        origin: the measurement that it was made in, where that is an earlier one: ``name c1``.
        drifted: whether a device of the experiment drew something else just before the window.
    """

    powers: tuple[IdlePower, ...]
    duration_s: float
    age_s: float = 0.0
    origin: str | None = None
    drifted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A phase of a measurement: ``load idle warmup pilot ramp measure drain prefill close``.

    A pilot only says how long a window must be: no figure of energy is made of it. Ramp and drain
    are what lies around the measured window where requests go on meanwhile.
    """

    phase: str
    start_s: float
    duration_s: float
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTiming:
    """One request: when it was submitted and when each of its tokens arrived.

    Attributes:
        output_tokens: the engine's own count, kept apart from ``len(token_s)`` so that the two can
            be compared.
        due_s: when it should have been submitted; None where it was whenever there was room.
        scheduled_s: when the engine began to compute it; None where the engine can't tell.
    """

    submitted_s: float
    token_s: tuple[float, ...]
    input_tokens: int
    output_tokens: int
    due_s: float | None = None
    scheduled_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """What a power trace saw over the measured window; null figures come with a reason.

    Attributes:
        peak_w: greatest power of all the experiment's own devices together.
        temperature_max_c: temperature of the warmest of them.
        samples: how many samples lie in the window.
    """

    peak_w: float | None = None
    temperature_max_c: float | None = None
    samples: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The value of a metric in one measurement; null comes with a reason.

    Attributes:
        value: in the metric's unit, as both uncertainties are.
        uncertainty: standard uncertainty (one sigma), without the systematic part; null where
            nothing is known of it.
        systematic: what the meter's own error, its gain, may amount to: the same in each cycle,
            so that more cycles don't make it smaller. Null for what no meter reads.
    """

    value: float | None
    uncertainty: float | None = None
    systematic: float | None = None
    quality: Quality = "ok"
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How precise the energy was to be, and what came of it.

    Attributes:
        asked: relative standard uncertainty of ``energy_j``, without its systematic part.
        reached: the same, of the measured window; null where it can't be told.
        tries: long windows that were measured; 0 where the pilot was the measurement.
        why_not: why it wasn't reached; null where it was.
    """

    asked: float
    reached: float | None
    tries: int
    why_not: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefill:
    """The window of the phase ``prefill``: how often the prompts were run, and their tokens."""

    repeats: int
    input_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """What a warm-up came to.

    Attributes:
        batches: how many were made.
        stable: whether their times no longer changed; null where that wasn't asked for.
        variation: standard deviation of the last batches' times, relative to their mean.
        drift: slope of a line through the same times, per batch and relative to their mean.
    """

    batches: int
    stable: bool | None = None
    variation: float | None = None
    drift: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """An experiment × cycle, measured.

    Attributes:
        metrics: every name of ``metrics.METRICS``.
        integrity: what casts doubt on the figures; empty when all is well.
        tokens: counts of ``requests``, ``input`` and ``output`` tokens in the measured window.
        tokens_sha256: over the token ids of the workload's first run: equal runs, equal digests.
        repeats: runs of the workload in the measured window; totals are those of a single one.
        precision: null where none was asked for.
        prefill: null where prefill wasn't measured by itself.
        warmup: null where there was none.
        traffic: null where all requests were there from the beginning.
        stages: null in measurements of versions that didn't have it.
        idle: the idle power that the figures are made with; null where there is none.
        testbed: what two measurements must share to be comparable.
        subject: what is being measured: engine, versions, experiment digest.
        conditions: the state of its GPUs before and after the window; empty for other devices.
        trace: what the power trace saw; None where there was none.
        meters: by meter and domain, what it found out of the counter.
        workload: where its prompts come from, and how long they are.
        model: what is known of the model from its configuration, and its work for one run.
        derived: figures made of both; each null comes with a reason.
    """

    experiment: str
    digest: str
    cycle: int
    windows: tuple[Window, ...]
    metrics: Mapping[str, Figure]
    tokens: Mapping[str, int]
    tokens_sha256: str
    repeats: int = 1
    precision: Precision | None = None
    prefill: Prefill | None = None
    warmup: WarmUp | None = None
    traffic: Traffic | None = None
    stages: Stages | None = None
    integrity: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    idle: Idle | None = None
    testbed: Mapping[str, Any] = field(default_factory=dict)
    subject: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    trace: TraceSummary | None = None
    meters: Mapping[str, Any] = field(default_factory=dict)
    workload: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    derived: Mapping[str, Figure] = field(default_factory=dict)


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

    All numbers are null where any cycle has no value: a median of the rest would hide what is
    missing.

    Attributes:
        stdev: sample standard deviation; null of a single cycle.
        low: lower end of an interval for the median; its method is that of
            :func:`pytest_llem.results.statistics.interval`.
        high: its upper end.
        confidence: probability that the median lies in it.
    """

    n: int
    median: float | None
    mean: float | None
    stdev: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    quality: Quality = "ok"
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A metric beside earlier sessions, or beside a base that was measured in the same one.

    Attributes:
        reference: median of the sessions' medians, or of the base's cycles, in the metric's unit.
        sessions: that it is compared with; 0 for a base.
        outcome: ``kept``, ``worse`` beyond noise, ``within noise`` over the budget, or
            ``inconclusive``; without a budget it is kept.
        text: for people.
        change: relative, 0.1 for 10 % more; null where there is no ratio, as what follows.
        noise: standard error of its logarithm.
        detectable: the smallest worsening that would fail four times in five, relative.
        pairs: of base and head, for a base; null for sessions, as what follows.
        low: lower end of the 95 % interval for the change.
        high: its upper end.
    """

    reference: float
    sessions: int
    outcome: Literal["kept", "worse", "within noise", "inconclusive"]
    text: str
    change: float | None = None
    noise: float | None = None
    detectable: float | None = None
    pairs: int | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of one limit of a gate.

    Attributes:
        measured: median of the cycles; null where there is none.
        quality: of what was judged, so that an estimate isn't taken for a measurement.
        comparison: with earlier sessions; null where a limit was judged, or there was none.
    """

    metric: str
    outcome: Judgement
    measured: float | None
    limit: str
    reason: str
    where: str = ""
    quality: Quality = "ok"
    comparison: Comparison | None = None

    @property
    def text(self) -> str:
        """One line for people; a verdict about the cycles as such needs no metric's name."""
        return self.reason if self.metric == "cycles" else f"{self.metric}: {self.reason}"
