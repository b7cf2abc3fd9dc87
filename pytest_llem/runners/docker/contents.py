"""What belongs to a model on this host: files, links that lead out of its directory, digests."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llem.errors import ContainerError
from pytest_llem.runners.models import fetched

__all__ = ["File", "digest", "fingerprint", "links_out", "tree"]

_WEIGHTS = (".safetensors", ".bin")
_OTHERS = (".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".pth", ".tflite")
"""Weights for programs that no backend here is."""

_BLOB = re.compile(r"[0-9a-f]{64}")
_MOST_LINKS = 256
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that is to be copied; a folder where it has no path.

    Attributes:
        name: relative, with ``/``.
        path: on this host, no link.
        modified_ns: when it was changed.
    """

    name: str
    path: Path | None = None
    size_bytes: int = 0
    modified_ns: int = 0


def tree(folder: Path, *, weights: bool = True) -> list[File]:
    """What engines read of a model's directory, links followed, ordered by name.

    Hidden files and weights for other programs are left out; all weights where none are asked for.

    Raises:
        OSError: when it can't be read.
    """
    found = {name: path for name, path in _walk(folder) if not name.endswith(_OTHERS)}
    at_top = [name for name in found if "/" not in name and name.endswith(_WEIGHTS)]
    wanted = fetched(sorted(at_top), ()) if weights else []
    files = []
    for name in sorted(found):
        if name.endswith(_WEIGHTS) and (not weights or (name in at_top and name not in wanted)):
            continue
        path = found[name].resolve()
        stat = path.stat()
        files.append(
            File(name=name, path=path, size_bytes=stat.st_size, modified_ns=stat.st_mtime_ns)
        )
    return files


def digest(files: Iterable[File]) -> str:
    """SHA-256 of names and contents.

    A file of the hub's cache that is named by its own SHA-256 isn't read for it.
    """
    whole = hashlib.sha256()
    for file in files:
        content = _sha256(file.path) if file.path else "folder"
        whole.update(f"{file.name}\0{content}\n".encode())
    return whole.hexdigest()


def fingerprint(files: Iterable[File]) -> str:
    """SHA-256 of names, places, sizes and times on this host: tells at once what hasn't changed."""
    rows = [(f.name, str(f.path), f.size_bytes, f.modified_ns) for f in files]
    return hashlib.sha256(repr((os.uname().nodename, rows)).encode()).hexdigest()


def links_out(folder: Path, seen_at: Path, within: Sequence[Path] = ()) -> list[tuple[Path, Path]]:
    """Where links lead that leave a directory: what is there, and where a container will seek it.

    Args:
        folder: no link itself.
        seen_at: its path in the container.
        within: other places there that need nothing.

    Raises:
        ContainerError: when there are far too many.
    """
    found: dict[Path, Path] = {}
    waiting = [(folder, seen_at)]
    while waiting:
        place, at = waiting.pop()
        for link in _links(place):
            near = at / link.relative_to(place).parent
            sought = Path(os.path.normpath(near / link.readlink()))
            target = link.resolve()
            if target.name == sought.name and sought.parent.name == target.parent.name == "blobs":
                # The hub's cache has them all in one folder.
                target, sought = target.parent, sought.parent
            known = (seen_at, *within, *found)
            if any(map(sought.is_relative_to, known)) or not target.exists():
                continue
            found[sought] = target
            if target.is_dir():
                waiting.append((target, sought))
            if len(found) > _MOST_LINKS:
                raise ContainerError(
                    f"{folder}: more than {_MOST_LINKS} links lead out of it",
                    phase="create",
                    cause="too many links",
                    fix="point model at a directory that holds its files",
                )
    return [(target, sought) for sought, target in found.items()]


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths of all files that aren't hidden; a folder linked into itself only once."""
    seen: set[Path] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = Path(place).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(folder).as_posix(), path


def _links(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            if path.is_symlink():
                yield path


def _sha256(path: Path) -> str:
    if path.parent.name == "blobs" and _BLOB.fullmatch(path.name):
        return path.name
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            whole.update(chunk)
    return whole.hexdigest()
