"""Forward passes over a batch: prefill, then a token at a time, on a growing or a static cache."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_llem.errors import LlemError

__all__ = ["Batch", "Steps", "left_pad"]


class Steps:
    """One model, and how its forward pass is called."""

    def __init__(
        self, model: Any, torch: Any, *, static: bool, compiled: Mapping[str, Any] | None
    ) -> None:
        """Take a model that is on its device and in inference mode.

        Args:
            model: a causal language model of transformers.
            torch: the module.
            static: whether the cache has its room from the start.
            compiled: arguments of ``torch.compile`` for decode steps; None to compile nothing.
                It needs a static cache. Prefill is left as it is: its shape changes with every
                length of prompt.
        """
        self.model = model
        self.torch = torch
        self.static = static
        self.decode = model if compiled is None else torch.compile(model, **compiled)
        self.least = self.room = 0
        """Tokens that a static cache holds, in all runs at least and in this one."""
        self.kept: dict[tuple[int, int], Any] = {}
        """Static caches by their batch size and room: a compiled step is bound to its cache."""
        self.keep: frozenset[int] = frozenset()
        """Batch sizes whose static caches are kept."""
        accepted = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in accepted
        # Logits of one position only: the prompt's others would cost vocabulary × length.
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        if static and not getattr(model, "_can_compile_fullgraph", True):
            raise LlemError(f"pytorch.cache: {type(model).__name__} can't use a static cache")

    def make_room(self, tokens: int) -> None:
        """A run begins whose longest request caches so many tokens."""
        self.room = max(self.least, tokens)
        if self.decode is not self.model:
            # Each other size is compiled anew: it only grows.
            self.least = self.room

    def cache(self, rows: int) -> Any:
        """An empty static cache for a batch; None where the model makes a growing one."""
        if not self.static:
            return None
        room = self.room
        if (rows, room) in self.kept:
            self.kept[rows, room].reset()
            return self.kept[rows, room]
        from transformers import StaticCache

        made = StaticCache(config=self.model.config, max_cache_len=room)
        if rows in self.keep:
            self.kept[rows, room] = made
        return made


class Batch:
    """Requests that are computed together.

    Attributes:
        step: passes begun; the first is prefill.
    """

    def __init__(self, steps: Steps, prompts: Sequence[Sequence[int]], count: int) -> None:
        """Put the prompts on the device.

        Args:
            steps: of the model.
            prompts: token ids; one or more.
            count: tokens that will be generated for each.
        """
        torch, device = steps.torch, steps.model.device
        self.step = 0
        self._steps = steps
        ids, mask = left_pad(prompts)
        self._length = len(ids[0])
        self._ids = torch.tensor(ids, device=device)
        # The last token is never fed back; a whole mask for all others is made at once.
        room = steps.room if steps.static else self._length + count - 1
        self._mask = torch.ones(len(ids), room, dtype=torch.long, device=device)
        self._mask[:, : self._length] = torch.tensor(mask, device=device)
        # Equal prompts need neither mask nor positions: then attention has its fastest kernels.
        self._plain = not steps.static and all(map(all, mask))
        self._positions = (self._mask[:, : self._length].cumsum(-1) - 1).clamp(min=0)
        self._cache = steps.cache(len(ids))

    def forward(self, token: Any) -> Any:
        """One pass: the prompts first, then the token of each row, shape (batch, 1).

        Returns logits of the next token, shape (batch, vocabulary).
        """
        first = self.step == 0
        self.step += 1
        if not first:
            self._length += 1
            self._positions = self._positions[:, -1:] + 1
        call = self._steps.model if first else self._steps.decode
        out = call(
            input_ids=self._ids if first else token,
            past_key_values=self._cache,
            use_cache=True,
            **self._places(),
            **self._steps.last_only,
        )
        self._cache = out.past_key_values
        return out.logits[:, -1, :]

    def _places(self) -> dict[str, Any]:
        """Which tokens are padding, and where each of the others stands."""
        if self._plain:
            return {}
        # What a static cache doesn't hold yet is hidden by causality: its mask keeps its shape.
        mask = self._mask if self._steps.static else self._mask[:, : self._length]
        positions = {"position_ids": self._positions} if self._steps.takes_positions else {}
        return {"attention_mask": mask, **positions}

    def history(self) -> Any:
        """The prompts' token ids, with each row's first in place of its padding.

        A penalty of repetitions looks at which tokens there are: padding must add none.
        """
        torch = self._steps.torch
        width = self._ids.shape[1]
        mask = self._mask[:, :width].bool()
        first = mask.int().argmax(dim=-1, keepdim=True)
        return torch.where(mask, self._ids, self._ids.gather(1, first))


def left_pad(prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[int]]]:
    """Pad prompts on the left to the longest; returns (ids, mask), each (requests × longest).

    On the left, so that the next token of every row follows its prompt at once.
    """
    longest = max(map(len, prompts))
    ids = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return ids, mask
