"""From the cycles of an experiment to one summary for each metric."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pytest_llem.metrics import METRICS
from pytest_llem.records import WORST_FIRST, Figure, Measurement, Quality, Summary
from pytest_llem.results.mixed import mixed_testbeds

__all__ = ["CONFIDENCE", "interval", "summarise", "summarise_figures"]

CONFIDENCE = 0.95
"""What an interval is to reach; fewer than six cycles can't, and say what they do reach."""

_UNKNOWN = Figure(
    value=None, quality="unmeasured", reason="the version that measured didn't have this metric"
)


def summarise(measurements: Sequence[Measurement]) -> dict[str, Summary]:
    """Each metric over the cycles; empty without any measurement.

    Cycles of different testbeds have no common figure: those of fresh, forked and reused workers
    found different caches, for one.
    """
    if not measurements:
        return {}
    if mixed := mixed_testbeds(measurements):
        reason = f"cycles of different testbeds are not pooled: {mixed}"
        return dict.fromkeys(METRICS, _none(len(measurements), "unmeasured", reason))
    return {
        # Measurements that are taken over may be of a version that didn't have all of them yet.
        name: summarise_figures([m.metrics.get(name, _UNKNOWN) for m in measurements])
        for name in METRICS
    }


def summarise_figures(figures: Sequence[Figure]) -> Summary:
    """One metric over its cycles, one at least.

    The quality is that of the worst cycle.
    """
    quality = next(q for q in WORST_FIRST if any(f.quality == q for f in figures))
    reason = next((f.reason for f in figures if f.quality == quality and f.reason), None)
    values = [f.value for f in figures if f.value is not None]
    if len(values) < len(figures):
        reason = f"{len(figures) - len(values)} of {len(figures)} cycles: {reason}"
        return _none(len(figures), quality, reason)
    low, high, confidence = interval(values)
    return Summary(
        n=len(values),
        median=statistics.median(values),
        mean=statistics.fmean(values),
        stdev=statistics.stdev(values) if len(values) > 1 else None,
        low=low,
        high=high,
        confidence=confidence,
        quality=quality,
        reason=reason,
    )


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """An interval for the median, and the probability that it holds it.

    From the k-th least to the k-th greatest value, with the greatest k that reaches
    :data:`CONFIDENCE`; of fewer than six values all of them, which reach less. It supposes that
    cycles are independent of each other, and nothing of how they are distributed: as many lie below
    the median as heads come of fair coins. The probability is 1 − 2·P(fewer than k heads of n).
    (H. A. David, H. N. Nagaraja, "Order Statistics", 3rd edition, 7.1.)

    What differs from session to session, a host's temperature say, isn't seen in a single one.
    """
    ordered = sorted(values)
    n = len(ordered)
    k, outside = 1, 2 * 0.5**n
    while k < n // 2 and (more := outside + 2 * math.comb(n, k) * 0.5**n) <= 1 - CONFIDENCE:
        k, outside = k + 1, more
    return ordered[k - 1], ordered[n - k], 1 - outside


def _none(n: int, quality: Quality, reason: str | None) -> Summary:
    """A summary without a value."""
    return Summary(n=n, median=None, mean=None, quality=quality, reason=reason)
