"""YAML text to plain data that knows its lines; refuses what would mislead or exhaust us.

Data is built from the parser's events, not from its nodes: PyYAML's composer recurses in C without
a limit, and expands merges before anybody can count them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pytest_llem.errors import StudyError

__all__ = ["Document", "Key", "read", "readable"]

Key = tuple[str | int, ...]
"""Where a value stands: the keys and indices that lead to it."""

_MAX_BYTES = 10_000_000
_MAX_VALUES = 1_000_000
_MAX_DEPTH = 100
_MAX_BITS = 1024
_MAX_PLACES = 3_000_000
_SHOWN = 60
_TAG = "tag:yaml.org,2002:"
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
"""Numbers like 5e-3, which YAML 1.1 takes for text and everybody else doesn't."""


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed study file.

    Attributes:
        path: of the file.
        shown: how messages name it.
        data: its mapping.
        lines: the line (from 1) of each key and list element.
        origins: where the content of an alias or a merged key was written.
        problems: what is wrong with the text, in the form ``file:line: what``; the rest is usable.
    """

    path: Path
    shown: str
    data: dict[str, Any]
    lines: dict[Key, int] = field(repr=False)
    origins: dict[Key, Key] = field(repr=False)
    problems: tuple[str, ...] = ()

    def line(self, key: Key) -> int:
        """The line of a key, or of the nearest thing around it that stands in the file."""
        while key:
            if line := self._exact(key):
                return line
            key = key[:-1]
        return 1

    def _exact(self, key: Key) -> int | None:
        if key in self.lines:
            return self.lines[key]
        for end in range(len(key), 0, -1):
            if key[:end] in self.origins:
                return self._exact(self.origins[key[:end]] + key[end:])
        return None


def readable(text: str) -> str:
    """A text as messages can show it: on one line, of a length that can be read."""
    return text if text.isprintable() and len(text) <= _SHOWN else repr(text[:_SHOWN])


def read(path: Path, shown: str, what: str = "a study") -> Document:
    """Parse a file.

    Args:
        path: of the file.
        shown: how messages name it.
        what: the file is, for messages.

    Raises:
        StudyError: when it can't be read, isn't valid YAML, or isn't a mapping.
    """
    text = _text(path, shown)
    builder = _Builder(text, shown)
    data = builder.document()
    if not isinstance(data, dict):
        if builder.problems:
            raise StudyError(builder.problems)
        found = {type(None): "empty", list: "a list"}.get(type(data), "a single value")
        raise StudyError([f"{shown}:1: {what} is a mapping of fields, this file is {found}"])
    told = tuple(builder.problems)
    return Document(path, shown, data, builder.lines, builder.origins, told)


def _text(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as file:
            # No more than is needed to see that it is too much.
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise StudyError([f"{shown}:1: can't be read: {error.strerror}"]) from error
    if len(raw) > _MAX_BYTES:
        raise StudyError([f"{shown}:1: larger than {_MAX_BYTES // 1_000_000} MB"])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise StudyError([f"{shown}:{line}: not UTF-8 text"]) from error


@dataclass(slots=True)
class _Built:
    """A value: where it was written, and how many values are in it with aliases written out."""

    value: Any
    place: Key
    size: int = 1


class _Builder:
    """Makes plain data of YAML's events, noting lines."""

    def __init__(self, text: str, shown: str) -> None:
        import yaml

        self.lines: dict[Key, int] = {}
        self.origins: dict[Key, Key] = {}
        self.problems: list[str] = []
        self._yaml = yaml
        self._text = text
        self._shown = shown
        self._anchors: dict[str, _Built] = {}
        self._total = 0
        self._places = 0
        # Parsing is C's where PyYAML was built with it.
        self._loader: Any = None
        self._scalars: dict[str, Callable[[Any], Any]] = {}

    def document(self) -> Any:
        """The file's only document; None for an empty one.

        Raises:
            StudyError: for what isn't YAML, or would exhaust us.
        """
        yaml = self._yaml
        try:
            self._loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(self._text)
            self._scalars = {
                _TAG + "null": lambda _: None,
                _TAG + "bool": self._loader.construct_yaml_bool,
                _TAG + "int": self._loader.construct_yaml_int,
                _TAG + "float": self._loader.construct_yaml_float,
            }
            return self._document()
        except yaml.reader.ReaderError as error:
            # libyaml counts bytes, PyYAML's own reader characters.
            if hasattr(yaml, "CSafeLoader"):
                line = self._text.encode()[: error.position].count(b"\n") + 1
            else:
                line = self._text[: error.position].count("\n") + 1
            self._fail(line, f"not valid YAML: {error.reason}")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._fail(mark.line + 1 if mark else 1, f"not valid YAML: {error.problem}")

    def _document(self) -> Any:
        events = self._yaml.events
        self._loader.get_event()
        if self._loader.check_event(events.StreamEndEvent):
            return None
        self._loader.get_event()
        built = self._build((), 0)
        self._loader.get_event()
        if not self._loader.check_event(events.StreamEndEvent):
            line = self._loader.peek_event().start_mark.line + 1
            self._fail(line, "the file should be one document; remove the second")
        return built.value

    def _fail(self, line: int, text: str) -> NoReturn:
        raise StudyError([f"{self._shown}:{line}: {text}"])

    def _build(self, key: Key, depth: int) -> _Built:
        events = self._yaml.events
        event = self._loader.get_event()
        line = event.start_mark.line + 1
        if isinstance(event, events.AliasEvent):
            built = self._alias(event.anchor, line)
            self.origins[key] = built.place
        elif isinstance(event, events.ScalarEvent):
            built = _Built(self._scalar(event, line), key)
        elif depth >= _MAX_DEPTH:
            raise StudyError([f"{self._shown}:{line}: nested too deeply"])
        elif isinstance(event, events.SequenceStartEvent):
            built = self._sequence(key, depth)
            self._refuse_tag(event.tag, "seq", line)
        else:
            built = self._mapping(key, depth)
            self._refuse_tag(event.tag, "map", line)
        self._total += built.size if isinstance(event, events.AliasEvent) else 1
        if self._total > _MAX_VALUES:
            self._fail(line, f"more than {_MAX_VALUES:,} values, with those of aliases")
        if getattr(event, "anchor", None) and not isinstance(event, events.AliasEvent):
            self._anchors[event.anchor] = built
        return built

    def _refuse_tag(self, tag: str | None, kind: str, line: int) -> None:
        if tag not in {None, "!", _TAG + kind}:
            self.problems.append(f"{self._shown}:{line}: the tag {tag} has no meaning here")

    def _note(self, place: Key, line: int) -> None:
        """Note the line of a place; all places together must not take all memory."""
        self._places += len(place)
        if self._places > _MAX_PLACES:
            self._fail(line, "too much of this file is nested too deeply")
        self.lines[place] = line

    def _alias(self, name: str, line: int) -> _Built:
        if name not in self._anchors:
            self._fail(line, f"the alias *{name} stands for nothing, or for what it is part of")
        return self._anchors[name]

    def _scalar(self, event: Any, line: int) -> Any:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(self._yaml.ScalarNode, event.value, event.implicit)
        if event.implicit[0] and _EXPONENT.fullmatch(event.value):
            tag = _TAG + "float"
        if tag not in self._scalars and (event.tag in {None, "!", _TAG + "str"}):
            # Dates and signs that mean something to YAML only are text: they may be names.
            return event.value
        if tag not in self._scalars:
            self.problems.append(f"{self._shown}:{line}: the tag {tag} has no meaning here")
            return None
        node = self._yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        try:
            value = self._scalars[tag](node)
            if isinstance(value, int) and value.bit_length() > _MAX_BITS:
                raise ValueError("no float holds it, and Python refuses to print it")
            return value
        except (ValueError, KeyError, IndexError):  # !!int abc, a number of 5,000 digits
            kind = tag.removeprefix(_TAG)
            self.problems.append(f"{self._shown}:{line}: {event.value!r:.40} is no valid {kind}")
            return None

    def _sequence(self, key: Key, depth: int) -> _Built:
        built = _Built([], key)
        while not self._loader.check_event(self._yaml.events.SequenceEndEvent):
            place = (*key, len(built.value))
            self._note(place, self._loader.peek_event().start_mark.line + 1)
            item = self._build(place, depth + 1)
            built.value.append(item.value)
            built.size += item.size
        self._loader.get_event()
        return built

    def _mapping(self, key: Key, depth: int) -> _Built:
        own: dict[str, Any] = {}
        merged: dict[str, _Built] = {}
        first: dict[str, int] = {}
        built = _Built(own, key)
        while not self._loader.check_event(self._yaml.events.MappingEndEvent):
            name, line = self._name(depth)
            if name in first and name != "<<":
                text = f"{readable(name)} is given twice, first on line {first[name]}"
                self.problems.append(f"{self._shown}:{line}: {text}")
            first.setdefault(name, line)
            if name != "<<":
                self._note((*key, name), line)
            item = self._build((*key, name), depth + 1)
            built.size += item.size
            if name == "<<":
                self._merge(merged, item, line)
            else:
                own[name] = item.value
        self._loader.get_event()
        for name, source in merged.items():
            if name not in own:
                own[name] = source.value
                self.origins[(*key, name)] = source.place
        return built

    def _name(self, depth: int) -> tuple[str, int]:
        """A key as its text: on, no and 1.0 as keys mean what they say."""
        event = self._loader.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, self._yaml.events.ScalarEvent):
            return str(self._loader.get_event().value), line
        self.problems.append(f"{self._shown}:{line}: a key must be text")
        self._build(("?",), depth + 1)
        return "?", line

    def _merge(self, merged: dict[str, _Built], given: _Built, line: int) -> None:
        """Take the keys of a mapping, or of several: the first of them that has a key wins."""
        several = isinstance(given.value, list)
        for index, source in enumerate(given.value if several else [given.value]):
            if not isinstance(source, dict):
                self.problems.append(f"{self._shown}:{line}: << takes a mapping, or a list of them")
                return
            place = (*given.place, index) if several else given.place
            for name, item in source.items():
                merged.setdefault(name, _Built(item, (*place, name)))
