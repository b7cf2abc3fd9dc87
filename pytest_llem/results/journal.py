"""The journal: a line for every measurement, on the disk before anything else happens with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote

from pytest_llem.errors import ResultsError
from pytest_llem.records import to_dict
from pytest_llem.results.outcome import Outcome

__all__ = ["Journal"]


class Journal:
    """Appends outcomes to ``journal.<writer>.jsonl`` in a session's directory.

    Each process writes a file of its own, so that no two ever share one.
    """

    def __init__(self, folder: Path, writer: str) -> None:
        """Make the directory and the file.

        Raises:
            ResultsError: when either can't be written.
        """
        self.folder = folder
        path = folder / f"journal.{writer}.jsonl"
        try:
            for name in ("logs", "raw"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise ResultsError(
                f"results can't be written to {path}: {error.strerror};"
                " make it writable, or set llem_results_dir to another directory"
            ) from error

    def append(self, outcome: Outcome) -> None:
        """Write one line and have the system put it on the disk.

        Raises:
            ResultsError: when the disk doesn't take it.
        """
        line = json.dumps(to_dict(outcome), allow_nan=False, separators=(",", ":")) + "\n"
        try:
            self._file.write(line.encode())
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ResultsError(f"{self._file.name}: {error.strerror}") from error

    def log_path(self, file: str, experiment: str, cycle: int) -> Path:
        """Where the worker of a measurement of a study file writes its log."""
        return self.folder / "logs" / f"{_name(file, experiment, cycle)}.log"

    def raw_path(self, file: str, experiment: str, cycle: int) -> Path:
        """Where the raw series of a measurement go."""
        return self.folder / "raw" / f"{_name(file, experiment, cycle)}.jsonl"

    def close(self) -> None:
        """Close the file; all of it is on the disk already."""
        self._file.close()


def _name(file: str, experiment: str, cycle: int) -> str:
    """Quoted, so that no two studies of one session share a file."""
    return quote(f"{file}.{experiment}.c{cycle}", safe="")
