"""Prompts: token ids, drawn from a seed, each different from all others."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Sequence

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment, Lognormal, LognormalShape, Uniform
from pytest_llem.extensions import Workload

__all__ = [
    "MOST_TOKENS",
    "asked_lengths",
    "lengths",
    "measured",
    "most_repeats",
    "part",
    "prefill",
    "synthetic",
    "warmup",
    "warmup_batch",
]

MOST_TOKENS = 5_000_000
"""Of all requests of a window together: they are drawn before it and kept in memory."""


def measured(experiment: Experiment, vocab_size: int, repeat: int = 0) -> Workload:
    """The requests that count; each repeat has other prompts of the same lengths."""
    return _again(experiment, vocab_size, "measure", repeat)


def prefill(experiment: Experiment, vocab_size: int, repeat: int) -> Workload:
    """Requests of the same lengths that end with their first token; other prompts again."""
    whole = _again(experiment, vocab_size, "prefill", repeat)
    return dataclasses.replace(whole, output_tokens=1)


def _again(experiment: Experiment, vocab_size: int, purpose: str, repeat: int) -> Workload:
    seed = f"{experiment.seed}/{purpose}" + (f"/{repeat}" if repeat else "")
    return _workload(experiment, asked_lengths(experiment), vocab_size, seed)


def most_repeats(experiment: Experiment) -> int:
    """How many times the requests fit into one window's memory; at least once."""
    tokens = sum(asked_lengths(experiment)) + experiment.prompts.count * experiment.output_tokens
    return max(1, MOST_TOKENS // tokens)


def asked_lengths(experiment: Experiment) -> list[int]:
    """Input tokens of each request that counts."""
    prompts = experiment.prompts
    return lengths(prompts.input_tokens, prompts.count, f"{experiment.seed}/measure")


def warmup(experiment: Experiment, vocab_size: int) -> Workload | None:
    """The requests made before, with other prompts than the measured ones; None for none."""
    if experiment.warmup == "none":
        return None
    seed = f"{experiment.seed}/warmup"
    drawn = lengths(experiment.prompts.input_tokens, experiment.warmup.prompts, seed)
    return _workload(experiment, drawn, vocab_size, seed)


def warmup_batch(experiment: Experiment, vocab_size: int, number: int) -> Workload:
    """A further batch of warm-up requests: other prompts, the lengths the same in each batch.

    The lengths are those of the warm-up's first batch, so that their times can be compared.
    """
    seed = f"{experiment.seed}/warmup"
    drawn = lengths(experiment.prompts.input_tokens, experiment.batch_size, seed)
    return _workload(experiment, drawn, vocab_size, f"{seed}/{number}")


def _workload(experiment: Experiment, drawn: Sequence[int], vocab_size: int, seed: str) -> Workload:
    return Workload(
        prompts=synthetic(drawn, vocab_size, seed),
        output_tokens=experiment.output_tokens,
        batch_size=experiment.batch_size,
        seed=experiment.seed,
        decoding=experiment.decoding,
    )


def lengths(shape: int | Uniform | Lognormal, count: int, seed: str) -> list[int]:
    """How many tokens each prompt has: the same for all, or drawn.

    A lognormal length is exp(N(ln median, sigma)), rounded, and drawn again where it is above the
    longest: cutting it there would heap prompts up at that length.
    """
    if isinstance(shape, int):
        return [shape] * count
    generator = random.Random(f"{seed}/lengths")
    if isinstance(shape, Uniform):
        low, high = shape.uniform
        return [generator.randint(low, high) for _ in range(count)]
    return [_lognormal(shape.lognormal, generator) for _ in range(count)]


def _lognormal(shape: LognormalShape, generator: random.Random) -> int:
    # The median is at most the longest, so at least about half of all draws are taken.
    while True:
        exponent = generator.gauss(math.log(shape.median), shape.sigma)
        # Compared before the power is taken, which may be more than a float holds.
        if exponent < math.log(shape.max + 0.5):
            length = max(1, round(math.exp(exponent)))
            if length <= shape.max:
                return length


def synthetic(lengths: Sequence[int], vocab_size: int, seed: str) -> list[list[int]]:
    """Draw different prompts of the given lengths, of token ids below ``vocab_size``.

    The same arguments give the same prompts on every host and Python version: the generator is
    seeded by text, which Python hashes with SHA-512, not with the process's hash seed.

    Raises:
        LlemError: when there are fewer different prompts of a length than asked for.
    """
    for length, count in Counter(lengths).items():
        # Compared by logarithm: the power itself may have thousands of digits.
        if vocab_size < 1 or length * math.log(vocab_size) < math.log(count) - 1e-9:
            raise LlemError(
                f"{count} different prompts of {length} tokens don't exist with {vocab_size} token"
                " ids; lower prompts.count or raise prompts.input_tokens"
            )
    generator = random.Random(seed)
    prompts: dict[tuple[int, ...], None] = {}
    for length in lengths:
        prompt = tuple(generator.choices(range(vocab_size), k=length))
        while prompt in prompts:
            prompt = tuple(generator.choices(range(vocab_size), k=length))
        prompts[prompt] = None
    return [list(prompt) for prompt in prompts]


def part(whole: Workload, first: int, last: int) -> Workload:
    """The requests from ``first`` up to, not including, ``last``."""
    return dataclasses.replace(whole, prompts=whole.prompts[first:last])
