"""Records as plain JSON data and back: what host and worker say to each other is made of it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

__all__ = ["OLDEST_PROTOCOL", "PROTOCOL", "checksum", "from_dict", "to_dict"]

PROTOCOL = 1
"""Version of what host and worker say to each other."""

OLDEST_PROTOCOL = 1
"""The oldest version that a host still understands."""

_T = TypeVar("_T")


def checksum(data: Any) -> str:
    """SHA-256 of plain JSON data; the same before and after a trip over the wire."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def to_dict(record: Any) -> dict[str, Any]:
    """A record as plain JSON data; tuples become lists."""
    data = _plain(record)
    assert isinstance(data, dict)
    return data


_SCALARS = frozenset({str, int, float, bool, type(None)})


@functools.cache
def _fields(cls: Any) -> tuple[str, ...]:
    """Names of a record's fields; none for what is no record."""
    if not dataclasses.is_dataclass(cls):
        return ()
    return tuple(field.name for field in dataclasses.fields(cls))


def _plain(value: Any) -> Any:
    kind: Any = type(value)
    if kind in _SCALARS:
        return value
    if names := _fields(kind):
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def from_dict(cls: type[_T], data: Mapping[str, Any]) -> _T:
    """The record that :func:`to_dict` was given.

    Raises:
        ValueError: when a value has another type than its field, or a field is unknown or missing.
    """
    record = _build(cls, data)
    assert isinstance(record, cls)
    return record


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build(hint: Any, value: Any) -> Any:
    """``value`` as the type ``hint``; understands just the types that records use."""
    origin = typing.get_origin(hint)
    if origin in {typing.Union, types.UnionType}:
        return _build_union(typing.get_args(hint), value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return _build_record(hint, value)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_build(typing.get_args(hint)[0], item) for item in value)
    if origin is Mapping and isinstance(value, Mapping):
        return {str(k): _build(typing.get_args(hint)[1], item) for k, item in value.items()}
    if hint is Any or _is_scalar(hint, value):
        return value
    raise ValueError(f"expected {hint}, got {value!r:.80}")


def _build_record(cls: Any, data: Mapping[str, Any]) -> Any:
    hints = _hints(cls)
    if unknown := set(data) - {f.name for f in dataclasses.fields(cls)}:
        raise ValueError(f"{cls.__name__}: unknown fields {sorted(unknown)}")
    try:
        return cls(**{key: _build(hints[key], item) for key, item in data.items()})
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: {error}") from None


def _build_union(options: tuple[Any, ...], value: Any) -> Any:
    for option in options:
        try:
            return _build(option, value)
        except ValueError:
            continue
    raise ValueError(f"expected one of {options}, got {value!r:.80}")


def _is_scalar(hint: Any, value: Any) -> bool:
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(hint, type) and type(value) is hint
