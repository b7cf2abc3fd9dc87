"""How the next token is chosen: greedily, or drawn, by transformers' own processors of logits."""

from __future__ import annotations

from typing import Any

from pytest_llem.experiment import Decoding

__all__ = ["Chooser"]


class Chooser:
    """Chooses the next token of each row, throughout one run."""

    def __init__(self, decoding: Decoding, seed: int, device: str, torch: Any) -> None:
        """Begin a run: the same seed, and the same batches, give the same tokens again."""
        self._torch = torch
        self._processors = _processors(decoding)
        self._generator: Any = None
        if decoding.sampled:
            self._generator = torch.Generator(device=device).manual_seed(seed)

    @property
    def looks_back(self) -> bool:
        """Whether it needs the tokens so far."""
        return bool(self._processors)

    def choose(self, logits: Any, history: Any) -> Any:
        """The next token of each row, shape (batch, 1).

        Args:
            logits: shape (batch, vocabulary).
            history: token ids so far, shape (batch, length); None where it doesn't look back.
        """
        if not self._processors and self._generator is None:
            return logits.argmax(dim=-1, keepdim=True)
        scores = logits.float()
        for processor in self._processors:
            scores = processor(history, scores)
        if self._generator is None:
            return scores.argmax(dim=-1, keepdim=True)
        return self._torch.multinomial(scores.softmax(dim=-1), 1, generator=self._generator)


def _processors(decoding: Decoding) -> list[Any]:
    """In the order in which ``generate()`` applies them."""
    from transformers.generation import logits_process

    found: list[Any] = []
    if decoding.repetition_penalty not in {None, 1.0}:
        penalty = float(decoding.repetition_penalty or 1.0)
        found.append(logits_process.RepetitionPenaltyLogitsProcessor(penalty))
    if not decoding.sampled:
        return found
    if decoding.temperature not in {None, 1.0}:
        found.append(logits_process.TemperatureLogitsWarper(float(decoding.temperature or 1.0)))
    if decoding.top_k is not None:
        found.append(logits_process.TopKLogitsWarper(decoding.top_k))
    if decoding.top_p is not None and decoding.top_p < 1.0:
        found.append(logits_process.TopPLogitsWarper(float(decoding.top_p)))
    if decoding.min_p is not None:
        found.append(logits_process.MinPLogitsWarper(float(decoding.min_p)))
    return found
