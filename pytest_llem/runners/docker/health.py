"""Whether the GPUs of a container are fit for a measurement: readings, limits and a rule. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["LOST_GPUS", "Gpu", "Reading", "Rule", "limits", "read", "verdict", "worst"]

LOST_GPUS = 999
"""NVML's ``Unknown Error``: what a container sees whose devices were taken away from it."""

_SLACK_OF_TOTAL = 0.05
_SLACK_BYTES = 2**30
_GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """Memory of a GPU, whoever uses it."""

    uuid: str
    total_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What NVML says inside of a container.

    Attributes:
        gpus: those that it has.
        error: NVML's own number for what went wrong; 0 for nothing.
        reason: the same in words.
    """

    gpus: tuple[Gpu, ...] = ()
    error: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What memory in use is compared with.

    Attributes:
        start: bytes in use on each GPU, by UUID, before anything of ours was on it.
        loaded: the same once the engine was loaded and had answered; None where none is loaded.
        threshold_percent: of all memory; None for the levels above.
        count: GPUs that there must be.
    """

    start: Mapping[str, int]
    loaded: Mapping[str, int] | None = None
    threshold_percent: float | None = None
    count: int = 1


def read(answer: Mapping[str, Any]) -> Reading:
    """An answer from inside as a reading."""
    if "gpus" in answer:
        return Reading(
            gpus=tuple(
                Gpu(uuid=row["uuid"], total_bytes=row["total"], used_bytes=row["used"])
                for row in answer["gpus"]
            )
        )
    if "error" in answer:
        number = int(answer["error"])
        return Reading(error=number, reason=f"NVML error {number} ({answer.get('words')})")
    return Reading(error=-1, reason=f"NVML can't be loaded: {answer.get('missing')}")


def limits(reading: Reading, rule: Rule) -> dict[str, int]:
    """Bytes that may be in use on each GPU."""
    return {gpu.uuid: _limit(gpu, rule) for gpu in reading.gpus}


def verdict(reading: Reading, rule: Rule) -> str:
    """Why the GPUs aren't fit for a measurement; empty where they are."""
    if reading.error:
        return reading.reason
    if len(reading.gpus) < rule.count:
        return f"NVML shows {len(reading.gpus)} of {rule.count} GPUs"
    for number, gpu in enumerate(reading.gpus):
        if gpu.used_bytes > (limit := _limit(gpu, rule)):
            return (
                f"GPU {number}: {gpu.used_bytes / _GIB:.1f} GiB of {gpu.total_bytes / _GIB:.1f} GiB"
                f" memory in use, over {limit / _GIB:.1f} GiB ({_why(gpu, rule)})"
            )
    return ""


def worst(levels: Mapping[str, int] | None, gpus: Sequence[Gpu]) -> dict[str, int]:
    """For each GPU the most that was ever in use."""
    known = levels or {}
    return {gpu.uuid: max(gpu.used_bytes, known.get(gpu.uuid, 0)) for gpu in gpus}


def _limit(gpu: Gpu, rule: Rule) -> int:
    if rule.threshold_percent is not None:
        return round(gpu.total_bytes * rule.threshold_percent / 100)
    if rule.loaded is not None and gpu.uuid in rule.loaded:
        return rule.loaded[gpu.uuid] + round(gpu.total_bytes * _SLACK_OF_TOTAL)
    return rule.start.get(gpu.uuid, gpu.used_bytes) + _SLACK_BYTES


def _why(gpu: Gpu, rule: Rule) -> str:
    if rule.threshold_percent is not None:
        return f"gpu_memory_threshold_pct: {rule.threshold_percent:g}"
    if rule.loaded is not None and gpu.uuid in rule.loaded:
        return "5 % more than with the engine loaded"
    return "1 GiB more than at the start"
