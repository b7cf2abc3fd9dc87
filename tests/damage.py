"""Plain data that some program got wrong: valid JSON, but not what was agreed on."""

from __future__ import annotations

import copy
import random
from typing import Any

__all__ = ["changed"]

ODD: list[Any] = [None, True, "", "x\ud800", -1, 0.5, 10**400, -1e308, [], {}, [[]], {"a": [None]}]


def changed(generator: random.Random, data: Any) -> Any:
    """A copy of plain data in which some parts are something else, twice there, or gone."""
    found = copy.deepcopy(data)
    for _ in range(generator.randrange(1, 4)):
        holder = found
        while children := [each for each in _inside(holder) if isinstance(each, dict | list)]:
            if generator.random() < 0.3:
                break
            holder = generator.choice(children)
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            continue
        key = generator.choice(keys)
        match generator.randrange(4):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[generator.choice([*keys, "odd"])] = copy.deepcopy(holder[key])
            case _:
                holder[key] = copy.deepcopy(generator.choice(ODD))
    return found


def _inside(holder: Any) -> list[Any]:
    return list(holder.values()) if isinstance(holder, dict) else list(holder)
