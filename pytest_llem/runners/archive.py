"""What is sent to a worker: its side of this package, as an archive Python can import from."""

from __future__ import annotations

import functools
import importlib.metadata
import io
import json
import zipfile
from importlib import resources
from typing import TYPE_CHECKING

from pytest_llem.extensions import Launch

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable  # Python 3.11+; only a type here

__all__ = ["bootstrap", "build", "opening"]

_MODULES = (
    "__init__.py",
    "errors.py",
    "experiment.py",
    "extensions.py",
    "gpus.py",
    "metrics.py",
    "nvml.py",
    "powercap.py",
    "records.py",
    "rules.py",
    "wire.py",
)
_FOLDERS = ("backends", "meters", "worker")
_DISTRIBUTION = "pytest-llem"


@functools.cache
def bootstrap() -> str:
    """The text of the worker's first program."""
    return (resources.files("pytest_llem") / "worker" / "bootstrap.py").read_text("utf-8")


def opening(launch: Launch) -> bytes:
    """What the bootstrap reads: a line, and the archive behind it.

    The variables of an experiment are in it, wherever the worker runs: what orders a container is
    kept by its daemon, and somebody's token may be among them.
    """
    archive = build()
    header = {
        "archive_bytes": len(archive),
        "backend": launch.backend,
        "role": launch.role,
        "environment": dict(launch.environment),
    }
    return json.dumps(header).encode() + b"\n" + archive


@functools.cache
def build() -> bytes:
    """A zip of what a worker may import, with the metadata that its entry points need.

    The same bytes for the same sources: dates are left out.
    """
    package = resources.files("pytest_llem")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in _MODULES:
            _add(archive, package / name, f"pytest_llem/{name}")
        for folder in _FOLDERS:
            for file in sorted((package / folder).iterdir(), key=lambda file: file.name):
                if file.name.endswith(".py"):
                    _add(archive, file, f"pytest_llem/{folder}/{file.name}")
        distribution = importlib.metadata.distribution(_DISTRIBUTION)
        for name in ("METADATA", "entry_points.txt"):
            path = f"pytest_llem-{distribution.version}.dist-info/{name}"
            archive.writestr(zipfile.ZipInfo(path), distribution.read_text(name) or "")
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, file: Traversable, path: str) -> None:
    archive.writestr(zipfile.ZipInfo(path), file.read_bytes())
