"""In which order the measurements of a study are made."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

__all__ = ["Order", "balance", "base_first", "schedule", "turn_of"]

Order = Literal["interleaved", "sequential", "shuffled", "latin_square"]


def schedule(
    experiments: Sequence[str], cycles: int, order: Order, seed: int
) -> list[tuple[str, int]]:
    """Every cycle of every experiment, once each, in the order in which they are measured.

    What drifts over a session (temperature, clocks) should fall on all experiments alike: every
    order but ``sequential`` measures all experiments once before any of them again.

    ``latin_square`` is the design of E. J. Williams, "Experimental designs balanced for the
    estimation of residual effects of treatments", Australian Journal of Scientific Research A 2
    (1949) 149-168: each cycle is a row of a Latin square in which every experiment also follows
    every other one equally often, so that what one leaves behind (heat, caches) falls on all
    alike. An even number n of experiments takes n rows, an odd one 2n: a square and its mirror
    image. The rows are used in order, and again from the first. ``balance`` tells whether they
    come out even.

    Args:
        experiments: their names, each once.
        cycles: how often each is measured.
        order: ``interleaved`` is A1 B1 A2 B2, ``sequential`` A1 A2 B1 B2; ``shuffled`` measures
            the experiments of every cycle in a random order of its own.
        seed: of the random orders; equal seeds give equal orders on every host.

    Returns:
        Experiments and cycles, which count from 1 and ascend for each experiment.
    """
    if order == "sequential":
        return [(name, cycle) for name in experiments for cycle in range(1, cycles + 1)]
    if order == "shuffled":
        blocks = _shuffled(experiments, cycles, seed)
    elif order == "latin_square":
        rows = _williams(len(experiments))
        blocks = [[experiments[i] for i in rows[c % len(rows)]] for c in range(cycles)]
    else:
        blocks = [list(experiments)] * cycles
    return [(name, cycle) for cycle, block in enumerate(blocks, start=1) for name in block]


def base_first(cycle: int) -> bool:
    """Whether the base comes before the head in a cycle, from 1, of an A/B comparison.

    Base-head, head-base, head-base, base-head, and so on after the sequence of Thue and Morse: of 2
    cycles an even drift falls on both alike, of 4 one that slows down evenly too.
    """
    return bin(cycle - 1).count("1") % 2 == 0


def turn_of(cycle: int, arm: str | None) -> int:
    """Where an arm, ``base`` or ``head``, stands in a cycle: 0 or 1; the only one at 0."""
    return int(arm is not None and (arm == "base") != base_first(cycle))


def balance(n: int, cycles: int, order: Order) -> str:
    """Why a Latin square of so many experiments and cycles is not balanced; empty when it is.

    Empty for the other orders too, which promise no balance.
    """
    if order != "latin_square" or n < 2 or cycles % (rows := len(_williams(n))) == 0:
        return ""
    counted = "1 cycle" if cycles == 1 else f"{cycles} cycles"
    return f"latin_square is not balanced: {counted} of {n} experiments; use a multiple of {rows}"


def _shuffled(experiments: Sequence[str], cycles: int, seed: int) -> list[list[str]]:
    # Text seeds and random() are all that Python promises to keep the same; shuffle() is not.
    generator = random.Random(f"{seed}")
    return [sorted(experiments, key=lambda _: generator.random()) for _ in range(cycles)]


def _williams(n: int) -> list[list[int]]:
    """The rows of the design for n experiments; one empty row for none."""
    # 0, 1, n-1, 2, n-2: the steps between neighbours are all different when n is even. When it is
    # odd, half of the steps come twice, and the mirror image has the other half.
    first = [(i + 1) // 2 if i % 2 else -i // 2 for i in range(n)]
    square = [[(i + shift) % n for i in first] for shift in range(max(n, 1))]
    return square if n % 2 == 0 else square + [row[::-1] for row in square]
