"""What a study may say: pydantic validates the very classes of records.py.

Errors come back as (where, what) pairs; ``load`` turns them into lines of the file.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pytest_llem.study.yaml_lines import Key

__all__ = ["Problem", "fields_at", "nearest", "validate"]

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
    return _nearest(name, tuple(sorted(accepted)))


@functools.lru_cache(maxsize=1024)
def _nearest(name: str, choices: tuple[str, ...]) -> str:
    # A slip in a large grid is made at each of its points.
    if close := difflib.get_close_matches(name, choices, n=1):
        return f"did you mean {close[0]}?"
    return f"accepted: {', '.join(choices)}" if len(choices) <= 30 else "no name is near"


def _problems(cls: Any, data: Any, errors: Iterable[Any]) -> list[Problem]:
    """Pydantic's errors, one for each place, without the branches of unions in the path."""
    messages: dict[Key, list[str]] = {}
    unknown: set[Key] = set()
    for error in _meant(data, list(errors)):
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


def _meant(data: Any, errors: Sequence[Any]) -> Sequence[Any]:
    """The errors without those of a union's branches that the user clearly didn't mean.

    A branch that doesn't know a key of the user's isn't meant where another branch knows them all.
    """
    strangers = {
        branch
        for error in errors
        if error["type"] in _UNKNOWN and (branch := _branch(data, error["loc"]))
    }
    known = {branch[:-1] for error in errors if (branch := _branch(data, error["loc"]))}
    unions = {union for union in known if not _all_strangers(data, errors, union, strangers)}
    return [
        error
        for error in errors
        if (branch := _branch(data, error["loc"])) not in strangers
        or branch is None
        or (branch[:-1] not in unions and error["type"] not in _ABSENT)
    ]


def _branch(data: Any, loc: tuple[str | int, ...]) -> tuple[str | int, ...] | None:
    """A location up to the name of the record class that a union has tried; None for none."""
    for index, part in enumerate(loc[:-1]):
        if isinstance(part, str) and part[:1].isupper() and not _has(data, part):
            return loc[: index + 1]
        if _has(data, part):
            data = data[part]
    return None


def _all_strangers(
    data: Any,
    errors: Sequence[Any],
    union: tuple[str | int, ...],
    strangers: set[tuple[str | int, ...]],
) -> bool:
    """Whether no record class of a union knows all keys of the user's."""
    branches = {_branch(data, error["loc"]) for error in errors}
    return all(b in strangers for b in branches if b is not None and b[:-1] == union)


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
_WORDS = {"tuple_type": "should be a list", "list_type": "should be a list"}
_PATTERNS = {
    r"^[A-Za-z_][A-Za-z0-9_]*$": "should be a name of letters, digits and _",
    r"^[0-9]+[kKmMgG]?[bB]?$": "should be a size, like 512m or 8g",
    r"^[^\x00]*$": "should be text without NUL",
}
"""What the patterns of fields mean, in words."""

_NO_MAPPING = {"dataclass_type", "dict_type", "mapping_type"}


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
        return f"unknown field; {nearest(str(key[-1]), fields_at(cls, key[:-1]))}"
    if error["type"] in _ABSENT:
        return "required, and not given"
    if error["type"] in _NO_MAPPING:
        return _wanted(cls, key, error)
    if error["type"] in _WORDS:
        return _WORDS[error["type"]]
    if error["type"] == "string_pattern_mismatch":
        return _PATTERNS.get(str((error.get("ctx") or {}).get("pattern")), "is not of this form")
    return str(error["msg"]).partition(", unable")[0].replace("Input should", "should", 1)


def _wanted(cls: Any, key: Key, error: Any) -> str:
    """What a mapping should stand for, by the fields that it can't be without."""
    named = (error.get("ctx") or {}).get("class_name")
    for option in _options(cls, key):
        if dataclasses.is_dataclass(option) and getattr(option, "__name__", "") == named:
            needed = [
                f"{field.name}: …"
                for field in dataclasses.fields(option)
                if field.default is field.default_factory is dataclasses.MISSING
            ]
            if needed:
                return f"should be {{{', '.join(needed)}}}"
    return "should be a mapping"


def _options(cls: Any, key: Key) -> list[Any]:
    """The types that a value may have at a place below a record class."""
    options: list[Any] = [cls]
    for part in key:
        records = [option for option in options if dataclasses.is_dataclass(option)]
        hints = [typing.get_type_hints(record).get(str(part)) for record in records]
        options = [option for hint in hints for option in (hint, *typing.get_args(hint))]
    return options


def fields_at(cls: Any, key: Key) -> list[str]:
    """Names of the fields at a place below a record class; of all that may stand there."""
    records = [option for option in _options(cls, key) if dataclasses.is_dataclass(option)]
    names = [field.name for record in records for field in dataclasses.fields(record)]
    return [name for name in dict.fromkeys(names) if name != "options"]
