"""Prompts: token ids, drawn from a seed, each different from all others."""

from __future__ import annotations

import dataclasses
import math
import random

from pytest_llem.errors import LlemError
from pytest_llem.extensions import Workload
from pytest_llem.records import Experiment

__all__ = ["measured", "part", "synthetic", "warmup"]


def measured(experiment: Experiment, vocab_size: int) -> Workload:
    """The requests that count."""
    return _workload(experiment, vocab_size, experiment.prompts.count, f"{experiment.seed}/measure")


def warmup(experiment: Experiment, vocab_size: int) -> Workload | None:
    """The requests made before, with other prompts than the measured ones; None for none."""
    if experiment.warmup == "none":
        return None
    count = experiment.warmup.prompts
    return _workload(experiment, vocab_size, count, f"{experiment.seed}/warmup")


def _workload(experiment: Experiment, vocab_size: int, count: int, seed: str) -> Workload:
    return Workload(
        prompts=synthetic(count, experiment.prompts.input_tokens, vocab_size, seed),
        output_tokens=experiment.output_tokens,
        batch_size=experiment.batch_size,
        seed=experiment.seed,
    )


def synthetic(count: int, length: int, vocab_size: int, seed: str) -> list[list[int]]:
    """Draw ``count`` different prompts of ``length`` token ids below ``vocab_size``.

    The same arguments give the same prompts on every host and Python version: the generator is
    seeded by text, which Python hashes with SHA-512, not with the process's hash seed.

    Raises:
        LlemError: when there are fewer different prompts of this length than asked for.
    """
    # Compared by logarithm: the power itself may have thousands of digits.
    if vocab_size < 1 or length * math.log(vocab_size) < math.log(count) - 1e-9:
        raise LlemError(
            f"{count} different prompts of {length} tokens don't exist with {vocab_size} token ids;"
            " lower prompts.count or raise prompts.input_tokens"
        )
    generator = random.Random(seed)
    prompts: dict[tuple[int, ...], None] = {}
    while len(prompts) < count:
        prompts[tuple(generator.choices(range(vocab_size), k=length))] = None
    return [list(prompt) for prompt in prompts]


def part(whole: Workload, first: int, last: int) -> Workload:
    """The requests from ``first`` up to, not including, ``last``."""
    return dataclasses.replace(whole, prompts=whole.prompts[first:last])
