"""A file of prompts: text, token ids or conversations, read no further than needed.

A ``.jsonl`` file has a JSON object on each line, a ``.json`` file a list of them. Each has one of

* ``prompt_token_ids`` or ``token_ids``: whole numbers from 0;
* ``prompt``: text;
* ``conversations``: ``[{"from": "human", "value": …}, …]``, as in the data of ShareGPT, of which
  the first turn of a human is the prompt. Conversations without one are left out.

The first of these that is there counts; other keys are not looked at.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

__all__ = ["SUFFIXES", "SYNTHETIC", "Contents", "Entry", "read"]

SYNTHETIC = "synthetic"
"""The source that is no file."""

SUFFIXES = (".jsonl", ".json")

_MOST_PROBLEMS = 5
_CHUNK = 1 << 16
_IDS = ("prompt_token_ids", "token_ids")
_HUMANS = frozenset({"human", "user"})
_BETWEEN = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """A prompt, and the line on which it begins."""

    line: int
    prompt: str | tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a file holds, as far as it was read.

    Attributes:
        problems: ``file:line: what is wrong``, a few at most.
        left_out: conversations in which no human says anything.
        lengths: lines that also say how long the answer is to be, which nothing here honours.
    """

    entries: tuple[Entry, ...]
    problems: tuple[str, ...] = ()
    left_out: int = 0
    lengths: int = 0


def read(path: Path, most: int) -> Contents:
    """Read the first prompts of a file, in its order.

    Args:
        path: ending in one of :data:`SUFFIXES`.
        most: prompts to read at most; what follows them is not looked at.
    """
    entries: list[Entry] = []
    problems: list[str] = []
    left_out = lengths = 0
    try:
        with contextlib.closing(_values(path)) as values:
            for line, found in values:
                wanted = _prompt(found)
                lengths += isinstance(found, Mapping) and "output_tokens" in found
                if isinstance(wanted, _Wrong):
                    problems.append(f"{path}:{line}: {wanted.text}")
                elif wanted is None:
                    left_out += 1
                else:
                    entries.append(Entry(line, wanted))
                if len(entries) >= most or len(problems) >= _MOST_PROBLEMS:
                    break
    except (OSError, ValueError) as error:
        # A path with a NUL in it is a ValueError.
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problems.append(f"{path}: can't be read: {reason}")
    return Contents(
        entries=tuple(entries), problems=tuple(problems), left_out=left_out, lengths=lengths
    )


@dataclass(frozen=True, slots=True)
class _Wrong:
    """What is wrong with a line."""

    text: str


# --- from the file to JSON values ----------------------------------------------------------


def _values(path: Path) -> Generator[tuple[int, Any], None, None]:
    """Each value with its line; what can't be read is a :class:`_Wrong`."""
    if path.exists() and not path.is_file():
        # A pipe would be waited for, and can be read only once.
        raise OSError(0, "not a regular file")
    if path.suffix == ".json":
        with path.open(encoding="utf-8-sig") as text:
            yield from _Array(text).values()
        return
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if raw.strip():
                yield number, _decoded(raw)


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8-sig").rstrip())
    except UnicodeDecodeError as error:
        return _Wrong(f"not UTF-8: {error.reason} at byte {error.start}")
    except json.JSONDecodeError as error:
        return _Wrong(f"not JSON: {error.msg} at character {error.colno}")
    except (ValueError, RecursionError) as error:
        return _Wrong(f"not to be read: {error}")


class _Array:
    """A list of values, decoded one after the other: the file may be far larger than needed."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._line = 1
        self._decoder = json.JSONDecoder()

    def values(self) -> Iterator[tuple[int, Any]]:
        """Each value with its line; after one that can't be read there are no more."""
        try:
            if self._next() != "[":
                text = "should be a list; give a file of one object a line the suffix .jsonl"
                yield self._line, _Wrong(text)
                return
            self._at += 1
            while (mark := self._next()) != "]":
                if not mark:
                    yield self._line, _Wrong("not JSON: the list doesn't end")
                    return
                self._at += mark == ","
                self._next()
                line = self._line
                value = self._value()
                yield line, value
                if isinstance(value, _Wrong):
                    return
        except UnicodeDecodeError as error:
            yield self._line, _Wrong(f"not UTF-8 at or after this line: {error.reason}")

    def _next(self) -> str:
        """Go to the next character that isn't white; it is empty at the end."""
        while True:
            found = _BETWEEN.match(self._text, self._at)
            assert found is not None
            self._line += self._text.count("\n", self._at, found.end())
            self._at = found.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(_CHUNK):
                return ""

    def _value(self) -> Any:
        """The value that begins here; more is read until it is whole."""
        size = _CHUNK
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._more(size):
                    size *= 2
                    continue
                return _Wrong(f"not JSON: {error.msg}")
            except (ValueError, RecursionError) as error:
                return _Wrong(f"not to be read: {error}")
            self._line += self._text.count("\n", self._at, end)
            self._at = end
            return value

    def _more(self, size: int) -> bool:
        """Read on; what was passed is let go."""
        read = self._file.read(size)
        self._text = self._text[self._at :] + read
        self._at = 0
        return bool(read)


# --- from a JSON value to a prompt ---------------------------------------------------------


def _prompt(value: Any) -> str | tuple[int, ...] | _Wrong | None:
    """The prompt of a line; None for a conversation without one."""
    if isinstance(value, _Wrong):
        return value
    if not isinstance(value, Mapping):
        return _Wrong(f"should be an object with a prompt, not {value!r:.40}")
    for name in _IDS:
        if name in value:
            return _ids(name, value[name])
    if "prompt" in value:
        return _text("prompt", value["prompt"])
    if "conversations" in value:
        return _first_turn(value["conversations"])
    found = ", ".join(map(str, value)) or "nothing"
    return _Wrong(f"no prompt, prompt_token_ids or conversations, but {found:.80}")


def _ids(name: str, value: Any) -> tuple[int, ...] | _Wrong:
    if not isinstance(value, list) or not value:
        return _Wrong(f"{name}: should be a list of token ids, not {value!r:.40}")
    for one in value:
        if type(one) is not int or one < 0:
            return _Wrong(f"{name}: a token id is a whole number from 0, not {one!r:.40}")
    return tuple(value)


def _text(name: str, value: Any) -> str | _Wrong:
    if not isinstance(value, str):
        return _Wrong(f"{name}: should be text, not {value!r:.40}")
    if not value.strip():
        return _Wrong(f"{name}: is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        return _Wrong(f"{name}: holds half of a surrogate pair, which is no character")
    return value


def _first_turn(turns: Any) -> str | _Wrong | None:
    if not isinstance(turns, list):
        return _Wrong(f"conversations: should be a list of turns, not {turns!r:.40}")
    for turn in turns:
        if not isinstance(turn, Mapping) or "from" not in turn or "value" not in turn:
            return _Wrong(f"conversations: a turn has from and value, not {turn!r:.40}")
        if turn["from"] in _HUMANS:
            value = turn["value"]
            return None if isinstance(value, str) and not value.strip() else _text("value", value)
    return None
