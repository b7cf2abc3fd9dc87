"""From a study's mapping to its experiments: the grid, the list, their names and digests."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llem.records import Experiment
from pytest_llem.study.yaml_lines import Key
from pytest_llem.wire import to_dict

__all__ = ["NAME", "Point", "digest", "expand", "merge", "name_of", "resolve_model"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""What an experiment may be called: pytest's own syntax uses the other characters."""

_NOT_IN_DIGEST = ("id", "warmup", "idle", "meters", "timeout_s", "load_timeout_s")


@dataclass(frozen=True, slots=True)
class Point:
    """An experiment as it stands in the study, not validated yet.

    Attributes:
        data: its fields, shared ones included.
        own: the fields it doesn't share with all others; they make its name.
        sources: where its fields were written, most specific first: the key of a mapping in the
            document, the fields it stands for there, and its content.
    """

    data: dict[str, Any]
    own: dict[str, Any]
    sources: tuple[tuple[Key, Key, Any], ...]

    def locate(self, key: Key) -> Key:
        """Where in the document a field of this experiment was written."""
        for place, prefix, content in self.sources:
            if key[: len(prefix)] == prefix and _has(content, key[len(prefix) :]):
                return place + key[len(prefix) :]
        return self.sources[0][0]


def _has(content: Any, key: Key) -> bool:
    for part in key:
        if isinstance(content, list) and isinstance(part, int) and part < len(content):
            content = content[part]
        elif isinstance(content, Mapping) and part in content:
            content = content[str(part)]
        else:
            return False
    return True


def expand(
    shared: dict[str, Any], sweep: Mapping[str, list[Any]], listed: Mapping[int, dict[str, Any]]
) -> Iterator[Point]:
    """The points of the grid, equal ones once, then the listed experiments.

    A study with neither is one experiment.

    Args:
        shared: fields of all experiments.
        sweep: (dotted) field to its values.
        listed: index in the document's list to an experiment's own fields.
    """
    base: tuple[tuple[Key, Key, Any], ...] = (((), (), shared),)
    if sweep or not listed:
        seen = set()
        for choice in itertools.product(*(list(enumerate(values)) for values in sweep.values())):
            own = {key: value for key, (_, value) in zip(sweep, choice, strict=True)}
            text = json.dumps(own, sort_keys=True, default=str)
            if text not in seen:
                seen.add(text)
                yield _grid_point(shared, own, [index for index, _ in choice], base)
    for index, own in listed.items():
        place: Key = ("experiments", index)
        yield Point(merge(shared, own), own, ((place, (), own), *base))


def _grid_point(
    shared: dict[str, Any],
    own: dict[str, Any],
    indices: list[int],
    base: tuple[tuple[Key, Key, Any], ...],
) -> Point:
    data = shared
    sources: list[tuple[Key, Key, Any]] = []
    for (dotted, value), index in zip(own.items(), indices, strict=True):
        path: Key = tuple(dotted.split("."))
        nested: Any = value
        for part in reversed(path):
            nested = {part: nested}
        data = merge(data, nested)
        sources.append((("sweep", dotted, index), path, value))
    return Point(data, own, (*sources, *base))


def merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``; mappings are merged, all else is replaced.

    A null means *not set*: the field keeps its default.
    """
    merged = dict(base)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            inner = merged.get(key)
            merged[key] = merge(inner if isinstance(inner, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def name_of(point: Point, stem: str) -> str:
    """The name of an experiment that was given none: its own fields and their values."""
    parts = [
        f"{key.replace('.', '_')}-{_slug(value)}"
        for key, value in sorted(_flat(point.own))
        if key not in {"id", "expect"} and not key.startswith("expect.")
    ]
    return "-".join(parts) or _slug(stem)


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _slug(value: Any) -> str:
    """A value as part of a name; of a model only the last part of its path."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", str(value).rstrip("/").rpartition("/")[2])


def resolve_model(model: str, folder: Path) -> str:
    """A model directory as an absolute path; a hub id as it is.

    A directory next to the study wins over a hub model of the same name; what starts like a path
    is one even where nothing is there, so that the error speaks of a directory.
    """
    path = os.path.join(folder, os.path.expanduser(model))  # noqa: PTH111, PTH118
    # os.path answers False where pathlib would raise: for names that are too long, say.
    if os.path.isdir(path) or model.startswith((".", "/", "~")):  # noqa: PTH112
        return os.path.abspath(path)  # noqa: PTH100
    return model


def digest(experiment: Experiment) -> str:
    """SHA-256 of everything that makes an experiment what it is, the same on every host.

    Of a model directory count its config and the names and sizes of its weights, not its path.
    """
    fields = to_dict(experiment)
    for name in _NOT_IN_DIGEST:
        del fields[name]
    if Path(experiment.model).is_absolute():
        fields["model"] = _directory(Path(experiment.model))
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _directory(path: Path) -> dict[str, Any]:
    try:
        weights = sorted((*path.glob("*.safetensors"), *path.glob("*.bin")))
        return {
            "config": hashlib.sha256((path / "config.json").read_bytes()).hexdigest(),
            "weights": [[file.name, file.stat().st_size] for file in weights],
        }
    except OSError:
        # Not there, or not to be read: said before the first measurement, not at collection.
        return {"config": None, "weights": []}
