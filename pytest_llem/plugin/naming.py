"""Which files are studies, and whether the user asked for them.

A bare ``pytest`` in an application's repository must not start hours of measuring.
"""

from __future__ import annotations

import fnmatch
import os
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import pytest

__all__ = [
    "SESSION_NAME",
    "STUDY_ITEM",
    "holds_study",
    "is_study",
    "item_name",
    "left_out",
    "named_paths",
    "session_name",
    "shown_path",
]

SESSION_NAME = pytest.StashKey[str]()

STUDY_ITEM = re.compile(
    r"(?P<experiment>.+\.ya?ml::[^:]+)::(?:c\d+(?:-base)?|gate)(?:@(?P<group>.+))?"
)
"""The id of a study's item; xdist's mode loadgroup adds a group to it."""


def holds_study(ids: Iterable[str]) -> bool:
    """Whether there is a measurement or a gate among the ids of tests."""
    return any(map(STUDY_ITEM.fullmatch, ids))


def named_paths(config: pytest.Config) -> list[Path]:
    """Paths that were given on the command line or in ``testpaths``; none for a bare pytest."""
    worker_input = getattr(config, "workerinput", None)
    if worker_input is not None:
        # On another host the root directory may be another.
        return [config.rootpath / path for path in worker_input.get("llem_named", [])]
    if config.args_source == pytest.Config.ArgsSource.INVOCATION_DIR:
        return []
    base = config.invocation_params.dir
    return [(base / argument.split("::")[0]).resolve() for argument in config.args]


def is_study(
    config: pytest.Config, path: Path, named: Sequence[Path]
) -> Literal["collect", "left out", "no"]:
    """Whether a file is a study, and one to be collected."""
    path = path.resolve()
    if path.suffix not in {".yaml", ".yml"}:
        return "no"
    if path in named:
        return "collect"
    if not any(fnmatch.fnmatch(path.name, pattern) for pattern in config.getini("llem_files")):
        return "no"
    if config.getini("llem_collect") == "always" or not set(named).isdisjoint(path.parents):
        return "collect"
    return "left out"


def left_out(paths: Sequence[Path], base: Path) -> str:
    """One line about studies that were seen and not asked for; paths relative to ``base``."""
    folder = paths[0].parent
    shown = folder.relative_to(base) if folder.is_relative_to(base) else folder
    count = f"{len(paths)} stud{'y' if len(paths) == 1 else 'ies'}"
    return f"llem: {count} left out; name a path to run them: pytest {shown}"


def session_name(config: pytest.Config) -> str:
    """Name of the session's results directory, the same in all workers of pytest-xdist."""
    worker_input = getattr(config, "workerinput", {})
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return str(worker_input.get("llem_session") or f"{moment}-{os.urandom(2).hex()}")


def item_name(cycle: int, arm: str | None) -> str:
    """The name of a measurement: ``c1``, and ``c1-base`` for what it is compared with."""
    return f"c{cycle}-base" if arm == "base" else f"c{cycle}"


def shown_path(config: pytest.Config, path: Path) -> str:
    """A path as messages name it: relative to where pytest was called, when below it."""
    for base in (config.invocation_params.dir, config.rootpath):
        if path.is_relative_to(base):
            return str(path.relative_to(base))
    return str(path)
