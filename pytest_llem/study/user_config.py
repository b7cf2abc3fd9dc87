"""``.lem-config.yaml``: a user's own defaults; what is wrong in it costs a line, not a session."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llem.demands import RunnerSpec
from pytest_llem.errors import RunnerError, StudyError
from pytest_llem.study.keys import UserConfig
from pytest_llem.study.schema import nearest, validate
from pytest_llem.study.yaml_lines import Document, Key, read

__all__ = ["NAME", "Found", "find", "load"]

NAME = ".lem-config.yaml"


@dataclass(frozen=True, slots=True)
class Found:
    """A user's settings, and a line for each part of them that was left out."""

    settings: UserConfig
    problems: tuple[str, ...] = ()


def find(root: Path, environ: Mapping[str, str]) -> Path | None:
    """The settings file: in the root directory, else in the user's directory for settings.

    That is ``$XDG_CONFIG_HOME``, by default ``~/.config``.
    """
    folders = [root]
    if given := environ.get("XDG_CONFIG_HOME"):
        folders.append(Path(given))
    elif home := environ.get("HOME"):
        folders.append(Path(home) / ".config")
    for folder in folders:
        path = folder / NAME
        try:
            if path.is_file():
                return path
        except OSError:  # a directory that this user may not look into
            continue
    return None


def load(path: Path, shown: str, backends: Collection[str], runners: Collection[str]) -> Found:
    """Read a settings file; what is wrong is left out, and said.

    Args:
        path: of the file.
        shown: how messages name it.
        backends: names of backends.
        runners: names of runners besides ``local`` and ``docker``.
    """
    try:
        document = read(path, shown, "this file")
    except StudyError as error:
        empty = [problem for problem in error.problems if problem.endswith("this file is empty")]
        return Found(UserConfig(), () if empty else tuple(map(_left_out, error.problems)))
    problems: dict[Key, str] = {}
    told = list(map(_left_out, document.problems))
    data = _without_nulls(document.data)
    _refuse_names(data, backends, runners, problems)
    settings, wrong = validate(UserConfig, data)
    # A mistake in one place must not cost the settings in another.
    while settings is None:
        before = len(json.dumps(data, default=str))
        for key, text in wrong:
            problems[key] = text
            _remove(data, key)
        if len(json.dumps(data, default=str)) == before:
            data.clear()
        settings, wrong = validate(UserConfig, data)
    lines = [_line(document, shown, key, text) for key, text in problems.items()]
    return Found(settings, (*told, *(_left_out(line) for _, line in sorted(lines))))


def _left_out(line: str) -> str:
    return f"{line}; left out"


def _line(document: Document, shown: str, key: Key, text: str) -> tuple[int, str]:
    line = document.line(key)
    return line, f"{shown}:{line}: {'.'.join(map(str, key))}: {text}"


def _without_nulls(data: Mapping[str, Any]) -> dict[str, Any]:
    """A null means *not set*."""
    return {
        key: _without_nulls(value) if isinstance(value, Mapping) else value
        for key, value in data.items()
        if value is not None
    }


def _refuse_names(
    data: dict[str, Any],
    backends: Collection[str],
    runners: Collection[str],
    problems: dict[Key, str],
) -> None:
    """Leave out backends that nobody knows, and runners that are none."""
    default = data.get("default_backend")
    if isinstance(default, str) and default not in backends:
        problems["default_backend",] = f"unknown backend {default}; {nearest(default, backends)}"
        del data["default_backend"]
    for name in ("runners", "images"):
        given = data.get(name)
        for backend, value in list(given.items() if isinstance(given, dict) else ()):
            key = (name, backend)
            if backend not in backends:
                problems[key] = f"unknown backend; {nearest(backend, backends)}"
                _remove(data, key)
            elif name == "runners" and isinstance(value, str):
                try:
                    RunnerSpec.parse(value, NAME, runners)
                except RunnerError as error:
                    problems[key] = str(error).partition(": ")[2]
                    _remove(data, key)


def _remove(data: dict[str, Any], key: Key) -> None:
    """Take away the innermost mapping entry that a place is in; the first when it is none."""
    holder: Any = data
    entries: list[tuple[dict[str, Any], str]] = []
    for part in key:
        if not isinstance(holder, dict):
            break
        if part not in holder:
            return  # It went with another mistake in it.
        entries.append((holder, str(part)))
        holder = holder[part]
    if not entries:
        data.clear()
        return
    holder, name = entries[-1]
    holder.pop(name)
