"""From the cycles of an experiment to one summary for each metric."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pytest_llem.metrics import METRICS
from pytest_llem.records import WORST_FIRST, Figure, Measurement, Quality, Summary

__all__ = ["summarise", "summarise_figures"]


def summarise(measurements: Sequence[Measurement]) -> dict[str, Summary]:
    """Median, mean and range of each metric over the cycles; empty without any measurement.

    Cycles of fresh, forked and reused workers found different caches: they have no common figure.
    """
    if not measurements:
        return {}
    modes = sorted({str(m.testbed.get("worker")) for m in measurements})
    if len(modes) > 1:
        reason = f"cycles of workers that are {' and '.join(modes)} are not pooled"
        return dict.fromkeys(METRICS, _none(len(measurements), "unmeasured", reason))
    return {name: summarise_figures([m.metrics[name] for m in measurements]) for name in METRICS}


def summarise_figures(figures: Sequence[Figure]) -> Summary:
    """One metric over its cycles, one at least.

    The range is that of the cycles; an interval for the median would claim more than a few
    cycles can tell. The quality is that of the worst cycle.
    """
    quality = next(q for q in WORST_FIRST if any(f.quality == q for f in figures))
    reason = next((f.reason for f in figures if f.quality == quality and f.reason), None)
    values = [f.value for f in figures if f.value is not None]
    if len(values) < len(figures):
        reason = f"{len(figures) - len(values)} of {len(figures)} cycles: {reason}"
        return _none(len(figures), quality, reason)
    return Summary(
        n=len(values),
        median=statistics.median(values),
        mean=statistics.fmean(values),
        low=min(values),
        high=max(values),
        quality=quality,
        reason=reason,
    )


def _none(n: int, quality: Quality, reason: str | None) -> Summary:
    """A summary without a value."""
    return Summary(n=n, median=None, mean=None, low=None, high=None, quality=quality, reason=reason)
