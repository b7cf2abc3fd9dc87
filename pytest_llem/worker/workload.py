"""Requests of a run: token ids drawn from a seed, each different from all others, or of a file."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment, Lognormal, LognormalShape, Uniform
from pytest_llem.extensions import Workload
from pytest_llem.prompt_file import SYNTHETIC
from pytest_llem.worker import prompts as files

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


_GUESSABLE = 64 * math.log(2)
"""Prompts of fewer bits may be drawn twice; of more, nobody will live to see it."""


def measured(experiment: Experiment, vocab_size: int, repeat: int = 0) -> Workload:
    """The requests that count; each repeat has other prompts of the same lengths.

    Raises:
        LlemError: when a file's prompts can't be used, or are asked for again.
    """
    if experiment.prompts.source == SYNTHETIC:
        return _again(experiment, vocab_size, "measure", repeat)
    if repeat:
        raise LlemError("prompts of a file can't be run again: a cache would know them")
    loaded = files.load(experiment)
    loaded.check(vocab_size)
    return _workload(experiment, loaded.prompts[: experiment.prompts.count])


def prefill(experiment: Experiment, vocab_size: int, repeat: int) -> Workload:
    """Requests of the same lengths that end with their first token; other prompts again.

    They are drawn even where those that count are of a file: what prefill takes is a matter of
    lengths, and a cache would know the file's.
    """
    whole = _again(experiment, vocab_size, "prefill", repeat)
    return dataclasses.replace(whole, output_tokens=1)


def _again(experiment: Experiment, vocab_size: int, purpose: str, repeat: int) -> Workload:
    seed = f"{experiment.seed}/{purpose}" + (f"/{repeat}" if repeat else "")
    return _workload(experiment, synthetic(asked_lengths(experiment), vocab_size, seed))


def most_repeats(experiment: Experiment) -> int:
    """How many times the requests fit into one window's memory; at least once."""
    tokens = sum(asked_lengths(experiment)) + experiment.prompts.count * experiment.output_tokens
    return max(1, MOST_TOKENS // tokens)


def asked_lengths(experiment: Experiment) -> list[int]:
    """Input tokens of each request that counts."""
    prompts = experiment.prompts
    if prompts.source != SYNTHETIC:
        return [len(prompt) for prompt in files.load(experiment).prompts[: prompts.count]]
    return _drawn(experiment, prompts.count, f"{experiment.seed}/measure")


def _drawn(experiment: Experiment, count: int, seed: str) -> list[int]:
    shape = experiment.prompts.input_tokens
    # Only a file has none.
    return lengths(512 if shape is None else shape, count, seed)


def warmup(experiment: Experiment, vocab_size: int) -> Workload | None:
    """The requests made before, with other prompts than the measured ones; None for none.

    Those of a file are the next of that file; where it ends before, drawn ones of the lengths of
    its first.
    """
    if experiment.warmup == "none":
        return None
    count, seed = experiment.warmup.prompts, f"{experiment.seed}/warmup"
    if experiment.prompts.source == SYNTHETIC:
        drawn = _drawn(experiment, count, seed)
        return _workload(experiment, _others(experiment, drawn, vocab_size, seed))
    if following := _following(experiment):
        files.load(experiment).check(vocab_size)
        return _workload(experiment, following)
    drawn = _repeated(asked_lengths(experiment), count)
    return _workload(experiment, _others(experiment, drawn, vocab_size, seed))


def warmup_batch(experiment: Experiment, vocab_size: int, number: int) -> Workload:
    """A further batch of warm-up requests: other prompts, the lengths the same in each batch.

    The lengths are those of the warm-up's first batch, so that their times can be compared.
    """
    seed = f"{experiment.seed}/warmup"
    if experiment.prompts.source == SYNTHETIC:
        drawn = _drawn(experiment, experiment.batch_size, seed)
    else:
        first = [len(prompt) for prompt in _following(experiment)] or asked_lengths(experiment)
        drawn = _repeated(first, experiment.batch_size)
    return _workload(experiment, _others(experiment, drawn, vocab_size, f"{seed}/{number}"))


def _following(experiment: Experiment) -> Sequence[Sequence[int]]:
    """What follows in a file behind the prompts that count: enough to warm up, or none."""
    following = files.load(experiment).prompts[experiment.prompts.count :]
    wanted = experiment.warmup
    return following if wanted != "none" and len(following) >= wanted.prompts else ()


def _repeated(values: Sequence[int], count: int) -> list[int]:
    """So many values, from the first again behind the last."""
    return [values[index % len(values)] for index in range(count)]


def _others(
    experiment: Experiment, drawn: Sequence[int], vocab_size: int, seed: str
) -> list[list[int]]:
    """Prompts of the drawn lengths that differ from those that count, as far as there are any."""
    short = {n for n in drawn if n * math.log(vocab_size) < _GUESSABLE} if vocab_size > 1 else ()
    if not short:
        return synthetic(drawn, vocab_size, seed)
    taken = [tuple(p) for p in measured(experiment, vocab_size).prompts if len(p) in short]
    counts = Counter(map(len, taken)) + Counter(drawn)
    return synthetic(
        drawn,
        vocab_size,
        seed,
        [prompt for prompt in taken if _exist(counts[len(prompt)], len(prompt), vocab_size)],
    )


def _workload(experiment: Experiment, prompts: Sequence[Sequence[int]]) -> Workload:
    return Workload(
        prompts=prompts,
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


def synthetic(
    lengths: Sequence[int],
    vocab_size: int,
    seed: str,
    taken: Iterable[tuple[int, ...]] = (),
) -> list[list[int]]:
    """Draw different prompts of the given lengths, of token ids below ``vocab_size``.

    All ids are drawn, those of special tokens too: to a model that reads a prompt they are ids like
    others. The same arguments give the same prompts on every host and Python version: the generator
    is seeded by text, which Python hashes with SHA-512, not with the process's hash seed.

    Args:
        lengths: of each prompt.
        vocab_size: of the model.
        seed: of the generator.
        taken: prompts that may not be drawn; there are enough beside them.

    Raises:
        LlemError: when there are fewer different prompts of a length than asked for.
    """
    for length, count in Counter(lengths).items():
        if not _exist(count, length, vocab_size):
            raise LlemError(
                f"{count} different prompts of {length} tokens don't exist with {vocab_size} token"
                " ids; lower prompts.count or raise prompts.input_tokens"
            )
    generator = random.Random(seed)
    known = set(taken)
    prompts: list[list[int]] = []
    for length in lengths:
        prompt = tuple(generator.choices(range(vocab_size), k=length))
        while prompt in known:
            prompt = tuple(generator.choices(range(vocab_size), k=length))
        known.add(prompt)
        prompts.append(list(prompt))
    return prompts


def _exist(count: int, length: int, vocab_size: int) -> bool:
    """Whether there are so many different prompts of a length."""
    # Compared by logarithm: the power itself may have thousands of digits.
    return vocab_size >= 1 and length * math.log(vocab_size) >= math.log(count) - 1e-9


def part(whole: Workload, first: int, last: int) -> Workload:
    """The requests from ``first`` up to, not including, ``last``."""
    return dataclasses.replace(whole, prompts=whole.prompts[first:last])
