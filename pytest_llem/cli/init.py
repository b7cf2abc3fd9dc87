"""``init``: a commented study that runs as it is, and the shape of its model."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shlex
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pytest_llem.errors import LlemError, ResultsError
from pytest_llem.reports.files import check_writable, write

__all__ = ["FILES", "add_command", "create", "next_steps", "run"]

FILES = ("first.study.yaml", "models/tiny-llama/config.json")
"""What is written, below the folder as below ``templates``."""

ENGINE = ("torch", "transformers")
"""What the study's backend needs, by its own word: the host doesn't import backends."""

INSTALL = 'pip install "pytest-llem[pytorch]"'

_PLACEHOLDER = "FOLDER"
"""In the commands of a template: the folder it is written to."""


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``init`` to the commands."""
    parser = commands.add_parser(
        "init",
        help="write a first study, with comments, that runs as it is",
        description="Write a first study, with comments, that runs as it is: a tiny model on the"
        " CPU, no download. Files that are there already are left alone.",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("benchmarks"),
        metavar="FOLDER",
        help="where to write it (default: benchmarks)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the files; say which, and what to do next.

    Raises:
        LlemError: when they can't be written, or are there and may not be overwritten.
    """
    written = create(options.folder, force=options.force)
    lines = [f"Wrote {path}" for path in written]
    sys.stdout.write("\n".join([*lines, "", *next_steps(options.folder, _missing())]) + "\n")
    return 0


def create(folder: Path, *, force: bool = False) -> list[Path]:
    """Write the study and its model to a folder, which is made if need be.

    Raises:
        LlemError: when a file is there already and ``force`` isn't given, or can't be written.
            Of the first, nothing has been written then.
    """
    paths = [folder / name for name in FILES]
    _refuse_odd(folder)
    if not force:
        _refuse_existing(paths)
    _refuse_unwritable(paths)
    templates = resources.files("pytest_llem") / "cli" / "templates"
    for name, path in zip(FILES, paths, strict=True):
        text = (templates / name).read_text("utf-8")
        write(path, text.replace(_PLACEHOLDER, shlex.quote(str(folder))))
    return paths


def next_steps(folder: Path, missing: Sequence[str]) -> list[str]:
    """The commands to go on with, a line each; what is missing of the engine comes first."""
    lines = [f"Next: pytest {shlex.quote(str(folder))}"]
    if missing:
        lines[:0] = [f"The study's engine lacks {' and '.join(missing)}.", f"First: {INSTALL}"]
    return lines


def _refuse_odd(folder: Path) -> None:
    """A name that would break the study's comments, or that no file is called by."""
    if not str(folder).isprintable():
        raise LlemError(f"{str(folder)!a} can't be printed; give the folder another name")
    if os.path.lexists(folder) and not os.path.isdir(folder):  # noqa: PTH112
        # os.path answers where pathlib would raise: in a folder that may not be read.
        raise LlemError(f"{folder} is not a folder; name another")


def _refuse_existing(paths: Sequence[Path]) -> None:
    if found := [str(path) for path in paths if os.path.lexists(path)]:
        are = "is" if len(found) == 1 else "are"
        raise LlemError(
            f"{' and '.join(found)} {are} there already, so nothing was written;"
            " name another folder, or overwrite with --force"
        )


def _refuse_unwritable(paths: Sequence[Path]) -> None:
    try:
        for path in paths:
            check_writable(path)
    except ResultsError as error:
        raise LlemError(f"{error}; name a folder that you may write to") from error


def _missing() -> list[str]:
    """What the engine needs and isn't installed here, by metadata: nothing is imported."""
    found = []
    for package in ENGINE:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found.append(package)
    return found
