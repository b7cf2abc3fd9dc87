"""What an experiment is called, which model it means, and what makes it the same as another."""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import os
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pytest_llem.demands import RunnerSpec
from pytest_llem.experiment import BUILT_FROM, NOT_IN_DIGEST, Experiment
from pytest_llem.extensions import abilities
from pytest_llem.prompt_file import SYNTHETIC
from pytest_llem.wire import dotted, to_dict

__all__ = ["NAME", "digest", "engine_key", "name_of", "resolve_path", "same_as"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""What an experiment may be called: pytest's own syntax uses the other characters."""

_LONGEST = 80
_CHUNK_BYTES = 1 << 20
_UNNAMED = re.compile(r"[^A-Za-z0-9._+-]+")
_HASHABLE = tuple(
    field.name
    for field in fields(Experiment)
    if field.name not in {"id", "gpus", "env", "marks", "options"}
)
_values = operator.attrgetter(*_HASHABLE)


def name_of(own: Iterable[tuple[str, Any]], stem: str) -> str:
    """The name of an experiment that was given none: its own fields and their values.

    Args:
        own: (dotted) field or axis of variants, and its value.
        stem: the name of an experiment with nothing of its own.
    """
    flat = sorted((pair for key, value in own for pair in dotted({key: value}).items()), key=_key)
    return (
        "-".join(f"{key.replace('.', '_')}-{_slug(value)}" for key, value in flat)
        or _slug(stem).lstrip("._+-")
        or "study"
    )


_key = operator.itemgetter(0)


def _slug(value: Any) -> str:
    """A value as part of a name; of a model only the last part of its path."""
    if isinstance(value, (list, tuple)):
        value = "_".join(map(str, value))
    text = _UNNAMED.sub("_", str(value).rstrip("/").rpartition("/")[2])
    if len(text) > _LONGEST:
        # Its end would be lost to people anyway, but must not be lost to the name.
        text = f"{text[:_LONGEST]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return text


def resolve_path(text: str, folder: Path) -> str:
    """A model directory or a file as an absolute path; a hub id as it is.

    What is next to the study wins over a hub model of the same name; what starts like a path is
    one even where nothing is there, so that the error speaks of a path.
    """
    if "\0" in text:  # no path, and an error of everything that takes one
        return text
    path = os.path.join(folder, os.path.expanduser(text))  # noqa: PTH111, PTH118
    # os.path answers False where pathlib would raise: for names that are too long, say.
    if os.path.isdir(path) or text.startswith((".", "/", "~")):  # noqa: PTH112
        return os.path.abspath(path)  # noqa: PTH100
    return text


def same_as(experiment: Experiment) -> tuple[Any, ...]:
    """A value that two experiments share when they differ by name at most."""
    rest = [experiment.env, experiment.marks, experiment.options]
    text = json.dumps(rest, sort_keys=True, default=str) if any(rest) else ""
    if len(text) > _LONGEST:  # one is kept for each point of a grid
        text = hashlib.sha256(text.encode()).hexdigest()
    return (_values(experiment), experiment.devices, text)


def engine_key(experiment: Experiment, runner: RunnerSpec) -> Hashable:
    """What two measurements share whose engine may be the same.

    What is asked of an engine isn't part of it, unless the backend builds it for that.
    """
    able = abilities(experiment.backend)
    return (
        *(_hashable(getattr(experiment, name)) for name in BUILT_FROM),
        experiment.seed if experiment.weights == "random" else None,
        runner.value,
        *(repr(getattr(experiment, name)) for name in sorted(able.built_from if able else ())),
    )


def _hashable(value: Any) -> Hashable:
    return json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value


def digest(experiment: Experiment) -> str:
    """SHA-256 of everything that makes an experiment what it is, the same on every host.

    Of a model directory count its config and the names and sizes of its weights, not its path.
    """
    data = to_dict(experiment)
    for name in NOT_IN_DIGEST:
        del data[name]
    data["gpus"] = experiment.devices
    if Path(experiment.model).is_absolute():
        data["model"] = _directory(Path(experiment.model))
    if experiment.prompts.source != SYNTHETIC:
        data["prompts"]["source"] = _content_once(experiment.prompts.source)
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _directory(path: Path) -> dict[str, Any]:
    try:
        weights = sorted((*path.glob("*.safetensors"), *path.glob("*.bin")))
        return {
            "config": _content(path / "config.json"),
            "weights": [[file.name, file.stat().st_size] for file in weights],
        }
    except (OSError, ValueError):
        # Not there, or not to be read: said before the first measurement, not at collection.
        return {"config": None, "weights": []}


def _content(path: Path) -> str | None:
    whole = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                whole.update(chunk)
    except (OSError, ValueError):
        return None
    return whole.hexdigest()


def _content_once(path: str) -> str | None:
    """The same of a file that a thousand experiments share, and that may be large."""
    try:
        stat = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return _known_content(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=64)
def _known_content(path: str, _changed_ns: int, _size: int) -> str | None:
    return _content(Path(path))
