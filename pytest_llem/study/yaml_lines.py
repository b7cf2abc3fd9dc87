"""YAML text to plain data that knows its lines; refuses what would mislead or exhaust us."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llem.errors import StudyError

__all__ = ["Document", "Key", "read"]

Key = tuple[str | int, ...]
"""Where a value stands: the keys and indices that lead to it."""

_MAX_BYTES = 10_000_000
_MAX_NODES = 1_000_000
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed study file.

    Attributes:
        path: of the file, for messages.
        data: its mapping.
        lines: the line (from 1) of each key and list element.
    """

    path: Path
    data: dict[str, Any]
    lines: dict[Key, int] = field(repr=False)

    def line(self, key: Key) -> int:
        """The line of a key, or of the nearest thing around it that stands in the file."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)


def read(path: Path, shown: str) -> Document:
    """Parse a study file.

    Args:
        path: of the file.
        shown: how messages name it.

    Raises:
        StudyError: when it can't be read, isn't valid YAML, or isn't a mapping.
    """
    import yaml

    try:
        raw = path.read_bytes()
        if len(raw) > _MAX_BYTES:
            raise StudyError([f"{shown}:1: larger than {_MAX_BYTES // 1_000_000} MB"])
        builder = _Builder(getattr(yaml, "CSafeLoader", yaml.SafeLoader)(raw.decode()), shown)
        data = builder.root()
    except OSError as error:
        raise StudyError([f"{shown}:1: can't be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise StudyError([f"{shown}:{line}: not UTF-8 text"]) from error
    except RecursionError as error:
        raise StudyError([f"{shown}:1: nested too deeply"]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise StudyError([f"{shown}:{line}: not valid YAML: {error.problem}"]) from error
    except yaml.YAMLError as error:
        raise StudyError([f"{shown}:1: not valid YAML: {error}"]) from error
    if builder.problems:
        raise StudyError(builder.problems)
    if not isinstance(data, dict):
        found = "empty" if data is None else f"a {type(data).__name__}"
        raise StudyError([f"{shown}:1: a study is a mapping of fields, this file is {found}"])
    return Document(path, data, builder.lines)


class _Builder:
    """Makes plain data of YAML nodes, noting lines."""

    def __init__(self, loader: Any, shown: str) -> None:
        self.lines: dict[Key, int] = {}
        self.problems: list[str] = []
        self._loader = loader
        self._shown = shown
        self._open: set[int] = set()
        self._count = 0

    def root(self) -> Any:
        """The document's data; None for an empty one."""
        node = self._loader.get_single_node()
        return None if node is None else self._value(node, ())

    def _value(self, node: Any, key: Key) -> Any:
        self._count += 1
        if self._count > _MAX_NODES or id(node) in self._open:
            raise StudyError([f"{self._where(node)}: aliases make this file endless or too large"])
        if node.id == "scalar":
            return self._loader.construct_object(node)
        self._open.add(id(node))
        try:
            if node.id == "mapping":
                return self._mapping(node, key)
            items = []
            for index, item in enumerate(node.value):
                self.lines[(*key, index)] = item.start_mark.line + 1
                items.append(self._value(item, (*key, index)))
            return items
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: Any, key: Key) -> dict[str, Any]:
        self._refuse_duplicates(node)
        if any(name.tag == _MERGE for name, _ in node.value):
            self._loader.flatten_mapping(node)
        found: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if name_node.id != "scalar":
                self.problems.append(f"{self._where(name_node)}: a key must be text")
                continue
            # The text itself: on, no and 1.0 as keys mean what they say.
            name = str(name_node.value)
            self.lines[(*key, name)] = name_node.start_mark.line + 1
            found[name] = self._value(value_node, (*key, name))
        return found

    def _refuse_duplicates(self, node: Any) -> None:
        seen: dict[str, int] = {}
        for name, _ in node.value:
            if name.id != "scalar" or name.tag == _MERGE:
                continue
            line = name.start_mark.line + 1
            if first := seen.get(name.value):
                self.problems.append(
                    f"{self._where(name)}: {name.value} is given twice, first on line {first}"
                )
            seen[name.value] = line

    def _where(self, node: Any) -> str:
        return f"{self._shown}:{node.start_mark.line + 1}"
