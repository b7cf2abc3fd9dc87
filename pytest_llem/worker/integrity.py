"""Checks that a run did what was asked; what they find casts doubt on every figure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Completion
from pytest_llem.worker.workload import asked_lengths

__all__ = ["check"]


def check(
    experiment: Experiment, completions: Sequence[Completion], repeats: int = 1
) -> tuple[str, ...]:
    """What is wrong with a window of so many runs, a line each; empty when nothing is."""
    return tuple(_problems(experiment, completions, repeats))


def _problems(
    experiment: Experiment, completions: Sequence[Completion], repeats: int
) -> Iterator[str]:
    asked = experiment.prompts.count * repeats
    if len(completions) != asked:
        yield f"{len(completions)} of {asked} requests were answered"
    checks = {
        f"did not produce exactly {experiment.output_tokens} tokens": lambda c: (
            c.timing.output_tokens != experiment.output_tokens
            or len(c.token_ids) != c.timing.output_tokens
        ),
        "have no time for each of their tokens": lambda c: (
            len(c.timing.token_s) != c.timing.output_tokens
        ),
        "have times that run backwards": lambda c: (
            not _ascending((c.timing.submitted_s, *c.timing.token_s))
        ),
    }
    lengths = asked_lengths(experiment) * repeats
    if wrong := sum(c.timing.input_tokens != n for c, n in zip(completions, lengths, strict=False)):
        yield f"{wrong} of {asked} requests did not have exactly the input tokens asked for"
    for problem, is_wrong in checks.items():
        wrong = sum(map(is_wrong, completions))
        if wrong:
            yield f"{wrong} of {asked} requests {problem}"


def _ascending(times: Sequence[float]) -> bool:
    return all(before <= after for before, after in itertools.pairwise(times))
