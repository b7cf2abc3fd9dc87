"""Warm-up: a number of requests, then batches until their time no longer changes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from pytest_llem.experiment import Experiment, Warmup
from pytest_llem.extensions import Engine, Workload
from pytest_llem.records import WarmUp
from pytest_llem.worker import workload

__all__ = ["LAST", "MOST_DRIFT", "MOST_VARIATION", "drift", "stable", "variation", "warm_up"]

LAST = 5
"""Batches that are looked at."""

MOST_VARIATION = 0.05
"""Of the last batches' times: standard deviation relative to their mean."""

MOST_DRIFT = 0.02
"""Of the same: slope per batch relative to their mean.

A steady slope of s makes a variation of 1.6 s: one of 3 % a batch would pass as 4.7 % of scatter.
Scatter alone of 5 % makes a slope of ±1.6 % (one sigma), which mostly passes.
"""


def warm_up(
    experiment: Experiment,
    requests: Workload,
    engine: Engine,
    vocab_size: int,
    clock: Callable[[], float],
) -> tuple[WarmUp, tuple[str, ...]]:
    """Make warm-up requests batch by batch; returns what came of it, and warnings.

    Args:
        experiment: with a warm-up.
        requests: those that are made in any case.
        engine: loaded.
        vocab_size: of the prompts.
        clock: in seconds.
    """
    wanted = experiment.warmup
    assert wanted != "none"
    deadline = clock() + wanted.timeout_s
    size = experiment.batch_size
    total = len(requests.prompts)
    batches: list[tuple[list[int], float]] = []

    def make(batch: Workload) -> None:
        begun_s = clock()
        engine.run(batch, lambda _: None)
        batches.append(([len(prompt) for prompt in batch.prompts], clock() - begun_s))

    for first in range(0, total, size):
        if clock() > deadline:
            made = f"warm-up ended after {wanted.timeout_s:g} s with {first} of {total} requests"
            return _ended(batches, wanted), (made,)
        make(workload.part(requests, first, first + size))
    while wanted.until_stable:
        batch = workload.warmup_batch(experiment, vocab_size, len(batches))
        found = _ended(batches, wanted, [len(prompt) for prompt in batch.prompts])
        if found.stable:
            return found, ()
        if clock() > deadline:
            return found, (_unstable(found, wanted),)
        make(batch)
    return _ended(batches, wanted), ()


def _ended(
    batches: Sequence[tuple[list[int], float]], wanted: Warmup, lengths: Sequence[int] = ()
) -> WarmUp:
    """A warm-up so far. Only batches of the given lengths can be compared with each other."""
    if not wanted.until_stable:
        return WarmUp(batches=len(batches))
    times = [time_s for shape, time_s in batches if shape == list(lengths)][-LAST:]
    if len(times) < LAST:
        return WarmUp(batches=len(batches), stable=False)
    return WarmUp(
        batches=len(batches),
        stable=stable(times),
        variation=variation(times),
        drift=drift(times),
    )


def _unstable(found: WarmUp, wanted: Warmup) -> str:
    """What kept a warm-up from being stable in time."""
    text = f"warm-up was not stable after {wanted.timeout_s:g} s: "
    if found.variation is None or found.drift is None:
        text += f"{found.batches} batches, and it takes {LAST} equally long ones to tell"
    else:
        text += (
            f"the times of the last {LAST} of {found.batches} batches"
            f" vary by {found.variation * 100:.1f} % (at most {MOST_VARIATION * 100:g} %)"
            f" and change by {found.drift * 100:+.1f} % a batch (at most {MOST_DRIFT * 100:g} %)"
        )
    return f"{text}; raise warmup.timeout_s"


def stable(times: Sequence[float]) -> bool:
    """Whether times of batches neither scatter nor drift."""
    return variation(times) < MOST_VARIATION and abs(drift(times)) < MOST_DRIFT


def variation(times: Sequence[float]) -> float:
    """Sample standard deviation relative to the mean; 0 where no time passed at all."""
    mean = statistics.fmean(times)
    return statistics.stdev(times) / mean if mean > 0 else 0.0


def drift(times: Sequence[float]) -> float:
    """Slope of the least-squares line through them, per batch and relative to the mean."""
    mean = statistics.fmean(times)
    slope, _ = statistics.linear_regression(range(len(times)), times)
    return slope / mean if mean > 0 else 0.0
