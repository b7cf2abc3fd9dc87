"""Raw series of a measurement, beside the journal: too much for a report, too good to lose."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from pytest_llem.errors import ResultsError

__all__ = ["SideFile"]


class SideFile:
    """One JSON line per request or sample of the power trace, in place only when complete.

    A context manager: what isn't :meth:`keep`-ed leaves no file.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is written before the first row."""
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        self._file: IO[str] | None = None

    def add(self, rows: Sequence[Any]) -> None:
        """Append rows of plain JSON data.

        Raises:
            ResultsError: when the disk doesn't take them.
        """
        with self._translated():
            if self._file is None:
                self._file = self._temporary.open("w", encoding="utf-8")
            for row in rows:
                self._file.write(json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n")

    def keep(self) -> str | None:
        """Put the file in place; returns its name, None when there were no rows.

        Raises:
            ResultsError: when the disk doesn't take it.
        """
        if self._file is None:
            return None
        with self._translated():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._temporary.replace(self.path)
        return self.path.name

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ResultsError(f"{self.path} can't be written: {error.strerror}") from error

    def __enter__(self) -> SideFile:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close; remove what wasn't kept."""
        if self._file is not None:
            # Closing flushes: on a full disk it fails again, after the failure was told.
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._temporary.unlink()
