"""Checks that a run did what was asked; what they find casts doubt on every figure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Completion
from pytest_llem.worker.workload import asked_lengths

__all__ = ["check"]


def check(
    experiment: Experiment,
    completions: Sequence[Completion],
    repeats: int = 1,
    reuses: bool = False,
) -> tuple[str, ...]:
    """What is wrong with so many runs, a line each; empty when nothing is.

    Args:
        experiment: that was run.
        completions: all answers, in the order of the requests.
        repeats: runs of the workload.
        reuses: whether the study asked for the work on earlier prompts to be used again.
    """
    asked = experiment.prompts.count * repeats
    found = [*_lengths(experiment, completions, repeats, asked)]
    for problem, is_wrong in {**_counts(experiment), **_TIMES}.items():
        if wrong := sum(map(is_wrong, completions)):
            found.append(f"{wrong} of {asked} requests {problem}")
    if not reuses:
        found += _cached(completions, asked)
    return (*found, *_preempted(completions, asked))


_Check = Callable[[Completion], bool]


def _lengths(
    experiment: Experiment, completions: Sequence[Completion], repeats: int, asked: int
) -> Iterator[str]:
    if len(completions) != asked:
        yield f"{len(completions)} of {asked} requests were answered"
    lengths = asked_lengths(experiment) * repeats
    if wrong := sum(c.timing.input_tokens != n for c, n in zip(completions, lengths, strict=False)):
        yield f"{wrong} of {asked} requests did not have exactly the input tokens asked for"


def _counts(experiment: Experiment) -> dict[str, _Check]:
    """What is said of requests whose tokens aren't those asked for, and whether one is such."""
    return {
        f"did not produce exactly {experiment.output_tokens} tokens": lambda c: (
            c.timing.output_tokens != experiment.output_tokens
            or len(c.token_ids) != c.timing.output_tokens
        ),
        "have no time for each of their tokens": lambda c: (
            len(c.timing.token_s) != c.timing.output_tokens
        ),
    }


def _began(completion: Completion) -> float:
    """When a request is said to have been computed from; its submission where that isn't known."""
    timing = completion.timing
    return timing.submitted_s if timing.scheduled_s is None else timing.scheduled_s


_EARLY_S = 0.001
"""An event loop's timers may be early by what its clock resolves."""

_TIMES: dict[str, _Check] = {
    "have times that run backwards": lambda c: (
        not _ascending((c.timing.submitted_s, *c.timing.token_s))
    ),
    "were begun before they were submitted": lambda c: _began(c) < c.timing.submitted_s,
    "have a token from before they were begun": lambda c: (
        c.timing.scheduled_s is not None
        and any(time_s < c.timing.scheduled_s for time_s in c.timing.token_s)
    ),
    "were submitted before they were due": lambda c: (
        c.timing.due_s is not None and c.timing.submitted_s < c.timing.due_s - _EARLY_S
    ),
}
"""The same for times. All are of one clock, so that none may be before another's cause."""


def _cached(completions: Sequence[Completion], asked: int) -> Iterator[str]:
    hits = [c.cached_tokens for c in completions if c.cached_tokens]
    if hits:
        yield (
            f"{len(hits)} of {asked} requests found {sum(hits)} tokens of their prompts in a cache"
            " that wasn't asked for; switch the engine's prefix caching off"
        )


def _preempted(completions: Sequence[Completion], asked: int) -> Iterator[str]:
    times = [c.preemptions for c in completions if c.preemptions]
    if times:
        yield (
            f"{len(times)} of {asked} requests were interrupted, {sum(times)} times in all, to make"
            " room for others; give the engine more memory for its cache, or fewer requests at a"
            " time"
        )


def _ascending(times: Sequence[float]) -> bool:
    return all(before <= after for before, after in itertools.pairwise(times))
