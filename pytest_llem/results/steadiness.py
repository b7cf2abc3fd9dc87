"""Whether the cycles of an experiment are worth their median: do they scatter, or drift, and why?

The rules for scatter are those of ``pyperf check``.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence

from pytest_llem.records import Measurement
from pytest_llem.results.compare import FEWEST

__all__ = ["doubts", "too_few", "trend_p"]

_WATCHED = ("output_tokens_per_s", "energy_per_output_token_j")
_MOST_STDEV = 0.10
_MOST_OFF = 0.50
"""Of the mean."""

_MOST_STOLEN = 0.05
_TOLD_FROM_S = 0.5
"""Of shorter windows a tick or two of a processor's time is a large share."""

_MOST_CHANGE = 0.02
_SIGNIFICANT = 0.05
"""A trend: at least so much from the first to the last cycle, and no likelier by chance."""


def doubts(measurements: Sequence[Measurement]) -> tuple[str, ...]:
    """What speaks against the figures of an experiment, in the order of its cycles; a line each.

    Speed and energy are looked at; what is estimated or wasn't measured says nothing of noise.
    """
    found = []
    for metric in _WATCHED:
        figures = [measurement.metrics[metric] for measurement in measurements]
        values = [figure.value for figure in figures if figure.quality != "estimated"]
        known = [value for value in values if value is not None]
        if len(known) == len(measurements) > 1 and statistics.fmean(known) > 0:
            found += [f"{metric}: {text}" for text in _scatter(known)]
            found += [f"{metric}: {text}" for text in _trend(known)]
    return (*found, *_stolen(measurements))


def too_few(count: int) -> tuple[str, ...]:
    """A line where so many cycles, one at least, can't tell noise from change."""
    if not 0 < count < FEWEST:
        return ()
    text = f"too few cycles: {count}; {FEWEST} or more tell noise from change"
    return (f"{text}: raise execution.cycles",)


def _scatter(values: Sequence[float]) -> Iterator[str]:
    mean = statistics.fmean(values)
    share = statistics.stdev(values) / mean
    off = max(values, key=lambda value: abs(value - mean)) / mean - 1
    what = ""
    if share >= _MOST_STDEV:
        what = f"the standard deviation is {share * 100:.0f} % of the mean"
    elif abs(off) >= _MOST_OFF:
        what = f"one of {len(values)} cycles is {off * 100:+.0f} % off the mean"
    if what:
        yield (
            f"unstable: {what}; see what else runs on the host, let the window be longer (more"
            " prompts, or precision:), or raise execution.cycles"
        )


def _stolen(measurements: Sequence[Measurement]) -> Iterator[str]:
    """Other virtual machines had the processors: no load average shows that."""
    metrics = [measurement.metrics for measurement in measurements]
    shares = [
        share
        for one in metrics
        if "cpu_steal_share" in one and (one["duration_s"].value or 0.0) >= _TOLD_FROM_S
        if (share := one["cpu_steal_share"].value) is not None
    ]
    if shares and max(shares) >= _MOST_STOLEN:
        least, most = (f"{share * 100:.0f} %" for share in (min(shares), max(shares)))
        spread = most if least == most else f"{least} to {most}"
        yield (
            f"cpu_steal_share: other virtual machines had {spread} of the processors' time, and"
            " speeds follow that; measure where processors are yours alone, or beside a base"
            " (--llem-ab)"
        )


def _trend(values: Sequence[float]) -> Iterator[str]:
    """A change that goes on from cycle to cycle: by the median of all slopes."""
    slope = statistics.median(
        (later - earlier) / (j - i)
        for (i, earlier), (j, later) in itertools.combinations(enumerate(values), 2)
    )
    change = slope * (len(values) - 1) / statistics.fmean(values)
    if abs(change) >= _MOST_CHANGE and trend_p(values) < _SIGNIFICANT:
        yield (
            f"drifts: {change * 100:+.0f} % from the first to the last of {len(values)} cycles; let"
            " it warm up longer (warmup:), or rest between cycles (execution: gaps)"
        )


def trend_p(values: Sequence[float]) -> float:
    """Probability that values without a trend are ordered like these, or more.

    Two-sided, of Kendall's S: exact for values that all differ, by counting permutations by their
    inversions; ties count as half of each and make it no smaller. (M. G. Kendall, "A new measure of
    rank correlation", Biometrika 30, 1938.)
    """
    pairs = list(itertools.combinations(values, 2))
    inversions = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs)
    least = math.floor(min(inversions, len(pairs) - inversions) + 0.5)
    counts = [1]
    for n in range(2, len(values) + 1):
        # One more element makes 0 to n − 1 inversions more.
        wider = [0] * (len(counts) + n - 1)
        for i, count in enumerate(counts):
            for more in range(n):
                wider[i + more] += count
        counts = wider
    return min(1.0, 2 * sum(counts[: least + 1]) / math.factorial(len(values)))
