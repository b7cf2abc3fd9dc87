"""Where a value stands in JSON text, for messages: which line a person has to look at."""

from __future__ import annotations

import json
import re

__all__ = ["line_of"]

_SPACE = re.compile(r"[ \t\n\r]*")
_STEP = re.compile(r"\[(?P<index>\d+)\]|(?P<name>[^.\[\]]+)")


def line_of(text: str, where: str) -> int:
    """The line, from 1, of a value; of the innermost that is there and holds it, should it miss.

    Args:
        text: valid JSON.
        where: the way to the value: ``measurements[3].windows[2].energy_j``.
    """
    at = _skip(text, 0)
    for step in _STEP.finditer(where):
        index = step["index"]
        found = _member(text, at, step["name"]) if index is None else _item(text, at, int(index))
        if found is None:
            break
        at = found
    return text.count("\n", 0, at) + 1


def _skip(text: str, at: int) -> int:
    """Where the next thing begins that isn't white space."""
    space = _SPACE.match(text, at)
    assert space is not None
    return space.end()


def _member(text: str, at: int, name: str | None) -> int | None:
    """Where the value of an object's member begins; None where there is no such member."""
    if text[at] != "{":
        return None
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = json.JSONDecoder().raw_decode(text, at)
        value = _skip(text, _skip(text, at) + 1)
        if key == name:
            return value
        at = _behind(text, value)
    return None


def _item(text: str, at: int, index: int) -> int | None:
    """Where an item of an array begins; None where it is shorter."""
    if text[at] != "[":
        return None
    at = _skip(text, at + 1)
    while text[at] != "]":
        if index == 0:
            return at
        index -= 1
        at = _behind(text, at)
    return None


def _behind(text: str, at: int) -> int:
    """What comes behind a value and its comma."""
    _, at = json.JSONDecoder().raw_decode(text, at)
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at
