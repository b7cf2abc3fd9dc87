"""Records as plain JSON data and back: what host and worker say to each other is made of it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

__all__ = ["OLDEST_PROTOCOL", "PROTOCOL", "Misfit", "checksum", "dotted", "from_dict", "to_dict"]

PROTOCOL = 1
"""Version of what host and worker say to each other."""

_LARGEST = 10**300
"""JSON has integers of any length, and no float is larger than some 10^308."""

OLDEST_PROTOCOL = 1
"""The oldest version that a host still understands."""

_T = TypeVar("_T")


class Misfit(ValueError):
    """Data that aren't what a record holds.

    Attributes:
        text: what is wrong.
        where: the way to it from the outermost record: ``windows[2].readings[0].energy_j``.
    """

    def __init__(self, text: str, where: str = "") -> None:
        """Say what is wrong, and where."""
        super().__init__(f"{where}: {text}" if where else text)
        self.text = text
        self.where = where

    def below(self, step: str) -> Misfit:
        """The same, told from one level further out."""
        dot = "." if self.where and not self.where.startswith("[") else ""
        return Misfit(self.text, f"{step}{dot}{self.where}")


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


def dotted(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one: ``{"a": {"b": 1}}`` is ``{"a.b": 1}``; empty ones are left out."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            found |= dotted(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def from_dict(cls: type[_T], data: Mapping[str, Any]) -> _T:
    """The record that :func:`to_dict` was given.

    Raises:
        Misfit: when a value has another type than its field, or a field is unknown or missing.
    """
    kind: Any = cls
    record = _reader(kind)(data)
    assert isinstance(record, cls)
    return record


_Reader = Callable[[Any], Any]
"""Makes a value of one type out of plain data; Misfit where it isn't one."""


@functools.cache
def _reader(hint: Any) -> _Reader:
    """How to read a type; worked out once, as journals hold many of each.

    Understands just the types that records use.
    """
    origin, kinds = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return _union(kinds)
    if dataclasses.is_dataclass(hint):
        return _record(hint)
    if origin is tuple:
        return _tuple(kinds, hint)
    if origin is Mapping:
        return _mapping(_reader(kinds[1]), hint)
    if hint is Any:
        return lambda value: value
    return _scalar(hint)


def _wrong(hint: Any, value: Any) -> Misfit:
    name = hint.__name__ if isinstance(hint, type) else hint
    return Misfit(f"expected {name}, got {value!r:.80}")


def _record(cls: Any) -> _Reader:
    # Worked out when first used: a record may hold others of its own kind.
    readers: dict[str, _Reader] = {}

    def read(data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise _wrong(cls, data)
        if not readers:
            hints = typing.get_type_hints(cls)
            readers.update({name: _reader(hints[name]) for name in _fields(cls)})
        values = {}
        name = ""
        try:
            for name, item in data.items():
                values[name] = readers[name](item)
            return cls(**values)
        except Misfit as error:
            raise error.below(name) from None
        except KeyError:
            unknown = sorted(set(data) - set(readers))
            raise Misfit(f"{cls.__name__}: unknown fields {unknown}") from None
        except TypeError as error:
            # Python's own words begin with the class and its __init__.
            missing = str(error).replace(f"{cls.__name__}.__init__() ", "")
            raise Misfit(f"{cls.__name__}: {missing}") from None

    return read


def _items(every: _Reader, value: Any) -> tuple[Any, ...]:
    found: list[Any] = []
    try:
        for item in value:
            found.append(every(item))
    except Misfit as error:
        raise error.below(f"[{len(found)}]") from None
    return tuple(found)


def _tuple(kinds: tuple[Any, ...], hint: Any) -> _Reader:
    if kinds[-1] is Ellipsis:
        every = _reader(kinds[0])

        def read(value: Any) -> Any:
            if not isinstance(value, (list, tuple)):
                raise _wrong(hint, value)
            return _items(every, value)

        return read
    readers = [_reader(kind) for kind in kinds]

    def read_fixed(value: Any) -> Any:
        if not isinstance(value, (list, tuple)) or len(value) != len(readers):
            raise _wrong(hint, value)
        return tuple(reader(item) for reader, item in zip(readers, value, strict=True))

    return read_fixed


def _mapping(inner: _Reader, hint: Any) -> _Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _wrong(hint, value)
        found = {}
        name = ""
        try:
            for name, item in value.items():
                found[str(name)] = inner(item)
        except Misfit as error:
            raise error.below(str(name)) from None
        return found

    return read


def _union(kinds: tuple[Any, ...]) -> _Reader:
    readers = [_reader(kind) for kind in kinds if kind is not types.NoneType]
    nothing = types.NoneType in kinds
    if len(readers) == 1:
        (only,) = readers
        # What is wrong within it says more than that it is neither this nor null.
        return lambda value: None if value is None else only(value)

    def read(value: Any) -> Any:
        if value is None and nothing:
            return None
        for reader in readers:
            try:
                return reader(value)
            except Misfit:
                continue
        names = ", ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
        raise Misfit(f"expected one of {names}, got {value!r:.80}")

    return read


def _scalar(hint: Any) -> _Reader:
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        accepts = choices.__contains__
    elif hint is float:
        accepts = _is_number
    else:
        accepts = functools.partial(_is_exactly, hint)

    def read(value: Any) -> Any:
        if not accepts(value):
            raise _wrong(hint, value)
        return value

    return read


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and _has_float(value)


def _is_exactly(kind: Any, value: Any) -> bool:
    return type(value) is kind and (kind is not int or _has_float(value))


def _has_float(value: Any) -> bool:
    """Whether there is arithmetic for it; not a number, and infinity, are told of elsewhere."""
    return not isinstance(value, int) or abs(value) <= _LARGEST
