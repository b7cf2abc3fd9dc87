"""What the power trace is made into: a summary, rows for the side file, a check of the counter."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from pytest_llem.gpus import Gpu
from pytest_llem.meters.gpu_state import events_of
from pytest_llem.meters.trace import Sample
from pytest_llem.records import Reading, TraceSummary

__all__ = ["LEAST_SAMPLES", "cross_check", "rows", "summary"]

LEAST_SAMPLES = 20
"""Fewer say nothing about a mean, nor about what changed over the window."""

_APART = 0.10
_SIGMAS = 3.0


def summary(
    samples: Sequence[Sample], gpus: Sequence[Gpu], sources: Sequence[str], reason: str
) -> TraceSummary:
    """The window in four figures.

    Args:
        samples: of the window.
        gpus: in the order of the samples' numbers.
        sources: for each GPU what its power is, ``instant`` or ``usage``.
        reason: why samples are missing; empty where none are known to be.
    """
    rounds: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        rounds[sample.round].append(sample)
    whole = [found for found in rounds.values() if len(found) == len(gpus)]
    if not whole:
        why = reason or "the window was over before the power trace took a sample"
        return TraceSummary(reason=why)
    sums = [_sum([sample.power_w for sample in found]) for found in whole]
    celsius = [sample.temperature_c for found in whole for sample in found]
    averaged = [gpu for gpu, source in zip(gpus, sources, strict=False) if source != "instant"]
    note = (
        f"GPU {', '.join(str(gpu.index) for gpu in averaged)} tells no power of the moment: the"
        " peak is that of NVML's power usage, which may be a mean over 1 s"
        if averaged
        else ""
    )
    return TraceSummary(
        # A maximum of what is left would be too small.
        peak_w=_most(sums),
        temperature_max_c=_most(celsius),
        samples=len(whole),
        reason="; ".join(filter(None, (reason, note))) or None,
    )


def _sum(values: Sequence[float | None]) -> float | None:
    return None if None in values else sum(value or 0.0 for value in values)


def _most(values: Sequence[float | None]) -> float | None:
    return None if None in values else max(value or 0.0 for value in values)


def rows(samples: Sequence[Sample], gpus: Sequence[Gpu]) -> Iterator[dict[str, Any]]:
    """A row for each sample, as the side file keeps it."""
    for sample in samples:
        bits = sample.event_bits
        yield {
            "gpu": gpus[sample.gpu].uuid,
            "at_s": sample.at_s,
            "power_w": sample.power_w,
            "usage_w": sample.usage_w,
            "temperature_c": sample.temperature_c,
            "sm_clock_mhz": sample.sm_clock_mhz,
            "events": None if bits is None else list(events_of(bits)),
        }


def cross_check(
    samples: Sequence[Sample],
    gpus: Sequence[Gpu],
    sources: Sequence[str],
    readings: Sequence[Reading],
    duration_s: float,
) -> Iterator[str]:
    """Warnings where the mean power by the counter and by the samples are over 10 % apart.

    Told only where that is more than three standard errors of the mean, too: few samples of a
    power that goes up and down say little.

    Args:
        samples: of the window.
        gpus: in the order of the samples' numbers.
        sources: for each GPU what its power is; only ``instant`` can be compared.
        readings: of the window.
        duration_s: of the window.
    """
    counted = {
        reading.domain: reading.energy_j
        for reading in readings
        if reading.method == "counter" and reading.energy_j is not None
    }
    for number, (gpu, source) in enumerate(zip(gpus, sources, strict=False)):
        energy_j = counted.get(f"gpu:{gpu.uuid}")
        own = [s.power_w for s in samples if s.gpu == number and s.power_w is not None]
        if energy_j is None or source != "instant" or len(own) < LEAST_SAMPLES or duration_s <= 0:
            continue
        counter_w, mean_w = energy_j / duration_s, statistics.fmean(own)
        error_w = statistics.stdev(own) / math.sqrt(len(own))
        if abs(mean_w - counter_w) > max(_APART * abs(counter_w), _SIGMAS * error_w):
            yield (
                f"GPU {gpu.index}: its energy counter says {counter_w:.0f} W over the window, and"
                f" {len(own)} samples of its power {mean_w:.0f} W: one of the two sensors is"
                " wrong, or sees only a part of the time; compare energies only with those of the"
                " same GPU model and driver, and report it to NVIDIA if an update of the driver"
                " doesn't mend it"
            )
