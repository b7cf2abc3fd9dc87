"""What a study may say: pydantic validates the very classes of records.py.

Errors come back as (where, what) pairs; ``load`` turns them into lines of the file.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pytest_llem.study.yaml_lines import Key

__all__ = ["Problem", "nearest", "validate"]

_T = TypeVar("_T")
Problem = tuple[Key, str]
"""Where in the validated data, and what is wrong there."""


@functools.cache
def _adapter(cls: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def validate(cls: Callable[..., _T], data: Mapping[str, Any]) -> tuple[_T | None, list[Problem]]:
    """The record that data describe, or everything that is wrong with them."""
    from pydantic import ValidationError

    try:
        record: _T = _adapter(cls).validate_python(data)
    except ValidationError as error:
        return None, _problems(cls, data, error.errors(include_url=False))
    return record, []


def nearest(name: str, accepted: Iterable[str]) -> str:
    """A hint for a misspelt name: the nearest accepted one, or all of them when few."""
    choices = sorted(accepted)
    if close := difflib.get_close_matches(name, choices, n=1):
        return f"did you mean {close[0]}?"
    return f"accepted: {', '.join(choices)}" if len(choices) <= 30 else "no name is near"


def _problems(cls: Any, data: Any, errors: Iterable[Any]) -> list[Problem]:
    """Pydantic's errors, one for each place, without the branches of unions in the path."""
    messages: dict[Key, list[str]] = {}
    unknown: set[Key] = set()
    for error in errors:
        key = _place(data, error["loc"], absent=error["type"] in _ABSENT)
        texts = messages.setdefault(key, [])
        if error["type"] in _UNKNOWN:
            unknown.add(key)
        if (text := _message(cls, key, error)) not in texts:
            texts.append(text)
    # Inside a mapping that has errors of its own, "should be 'none'" only misleads.
    return [
        (key, " or ".join(texts) + ("" if key in unknown else _given(data, key)))
        for key, texts in messages.items()
        if not key or not any(other[: len(key)] == key and other != key for other in messages)
    ]


def _given(data: Any, key: Key) -> str:
    """What stands at a place, for messages that say what should."""
    for part in key:
        if not _has(data, part):
            return ""
        data = data[part]
    return f", not {data!r:.60}" if not isinstance(data, Mapping) else ""


def _has(data: Any, part: str | int) -> bool:
    if isinstance(data, Mapping):
        return part in data
    return isinstance(data, list) and isinstance(part, int) and part < len(data)


_ABSENT = {"missing", "missing_argument"}
_UNKNOWN = {"unexpected_keyword_argument", "extra_forbidden"}


def _place(data: Any, loc: tuple[str | int, ...], *, absent: bool) -> Key:
    """The part of an error's location that exists in the data; the rest names union branches."""
    key: list[str | int] = []
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        if _has(data, part):
            data = data[part]
            key.append(part)
        elif last and absent:
            key.append(part)
    return tuple(key)


def _message(cls: Any, key: Key, error: Any) -> str:
    if error["type"] in _UNKNOWN:
        return f"unknown field; {nearest(str(key[-1]), _fields(cls, key[:-1]))}"
    if error["type"] in _ABSENT:
        return "required, and not given"
    return str(error["msg"]).partition(", unable")[0].replace("Input should", "should", 1)


def _fields(cls: Any, key: Key) -> list[str]:
    """Names of the fields at a place below a record class."""
    for part in key:
        options = [typing.get_type_hints(cls).get(str(part))]
        options += typing.get_args(options[0])
        cls = next((option for option in options if dataclasses.is_dataclass(option)), cls)
    return [field.name for field in dataclasses.fields(cls) if field.name != "options"]
