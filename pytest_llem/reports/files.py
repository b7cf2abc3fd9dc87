"""Writes reports: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pytest_llem.errors import ResultsError

__all__ = ["append", "check_writable", "write"]


def check_writable(path: Path) -> None:
    """Find out that a report can't be written before hours have been spent on it.

    Raises:
        ResultsError: when the path is a directory, or its directory can't be made or written.
    """
    try:
        if path.is_dir():  # which may fail: in a folder nobody may look into, for one
            raise ResultsError(f"{path} is a directory; name a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ResultsError(f"{path} can't be written: {error.strerror}") from error


def write(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Put a text, in UTF-8, or bytes in place of a file, atomically.

    Args:
        path: of the file.
        content: also as parts of a text that is too long to be in memory twice.

    Raises:
        ResultsError: when the disk doesn't take it; an older file is then still whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    parts = [content] if isinstance(content, (str, bytes)) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.writelines(part if isinstance(part, bytes) else part.encode() for part in parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, (OSError, UnicodeError)):
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ResultsError(f"{path} can't be written: {reason}") from error


def append(path: Path, text: str) -> None:
    """Put a text behind what a file holds, beginning a line of its own.

    Raises:
        ResultsError: when the disk doesn't take it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if end := file.tell():
                file.seek(end - 1)
                text = f"\n{text}" if file.read(1) == b"\n" else f"\n\n{text}"
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ResultsError(f"{path} can't be written: {reason}") from error
