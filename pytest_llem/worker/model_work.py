"""The work of a model's requests: floating-point operations, and bytes that must be read.

A matrix of n weights takes 2 n operations a token, a multiplication and an addition each (Kaplan et
al., "Scaling Laws for Neural Language Models", 2020, arXiv:2001.08361, table 1). Attention of a
token to c tokens takes 4 × heads × head_dim × c in each layer: 2 for queries × keys, 2 for scores ×
values (the same; Chowdhery et al., "PaLM", 2022, arXiv:2204.02311, appendix B). A token attends to
itself and to those before it, in a layer with a window to the last of them; only that half of the
scores counts. Left out, as is usual: norms, activations, softmax and rotary embeddings, together
below 1 % of models of a billion parameters. The output's matrix is needed once for each token that
is generated: no logits of a prompt's other tokens are.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_llem.worker.model_shape import Shape

__all__ = ["Work", "bytes_read", "decode_flops", "kv_bytes", "prefill_flops"]


@dataclass(frozen=True, slots=True)
class Work:
    """A request: tokens of its prompt, and tokens generated, the first of them by prefill."""

    input: int
    output: int


def prefill_flops(shape: Shape, tokens: int) -> int:
    """Operations to read a prompt of so many tokens, one at least, and to generate one token."""
    return tokens * _layers(shape) + 2 * shape.table + _attention(shape, 0, tokens)


def decode_flops(shape: Shape, context: int, count: int = 1) -> int:
    """Operations to generate so many tokens after the first, one after the other.

    Args:
        shape: of the model.
        context: tokens that the first of them attends to, itself included.
        count: how many; each attends to one more.
    """
    attention = _attention(shape, context - 1, context - 1 + count)
    return count * (_layers(shape) + 2 * shape.table) + attention


def kv_bytes(shape: Shape, context: int, element_bytes: float) -> float:
    """Bytes of the keys and values that a token after so many tokens needs.

    In a layer with a window no more tokens than that are kept.
    """
    kept = sum(
        layers * (context if window is None else min(context, window))
        for window, layers in _kinds(shape.windows)
    )
    return 2 * kept * shape.kv_heads * shape.head_dim * element_bytes


def bytes_read(
    shape: Shape,
    requests: Iterable[Work],
    together: int,
    weight_bytes: float,
    element_bytes: float,
) -> float:
    """Bytes that must be read to answer requests, at least.

    Each pass over the model reads its weights once for all requests in it, and the keys and values
    of each. Of a layer's experts those are read that any of the tokens chose: with n tokens, k of E
    experts each and even choice, E (1 − (1 − k / E)^n) of them. What is written isn't counted, nor
    is what prefill reads beyond one pass.

    Args:
        shape: of the model.
        requests: to be answered.
        together: requests in a pass, at most.
        weight_bytes: of a weight.
        element_bytes: of an element of the cache.
    """
    each = 2 * shape.kv_heads * shape.head_dim * element_bytes
    passes = cache = 0.0
    for work in requests:
        passes += work.output / together
        # What a token attends to was read from the cache, but for the token itself.
        seen = _seen(shape, work.input, work.input + work.output - 1)
        cache += each * (seen - len(shape.windows) * (work.output - 1))
    return passes * _pass_weights(shape, together) * weight_bytes + cache


def _pass_weights(shape: Shape, tokens: int) -> float:
    """Weights that a pass with so many tokens reads; looking a token up takes next to none."""
    experts = 0.0
    if shape.sparse:
        missed = (1 - shape.chosen / shape.experts) ** tokens
        experts = shape.sparse * shape.expert * shape.experts * (1 - missed)
    return shape.matrices + shape.small + shape.table + experts


def _layers(shape: Shape) -> int:
    """Operations of all matrices of the layers on one token."""
    return 2 * (shape.matrices + shape.sparse * shape.chosen * shape.expert)


def _attention(shape: Shape, before: int, last: int) -> int:
    """Operations of attention for the tokens behind number ``before`` up to number ``last``."""
    return 4 * shape.heads * shape.head_dim * _seen(shape, before, last)


def _seen(shape: Shape, before: int, last: int) -> int:
    """What these tokens attend to, over all layers, each token with itself."""
    return sum(
        layers * (_sum(last, window) - _sum(before, window))
        for window, layers in _kinds(shape.windows)
    )


@functools.cache
def _kinds(windows: tuple[int | None, ...]) -> tuple[tuple[int | None, int], ...]:
    """Each window, and how many layers have it: there are many requests, and many layers alike."""
    return tuple(Counter(windows).items())


def _sum(count: int, window: int | None) -> int:
    """The sum of min(i, window) for i from 1 to ``count``."""
    if window is None or count <= window:
        return count * (count + 1) // 2
    return window * (window + 1) // 2 + (count - window) * window
