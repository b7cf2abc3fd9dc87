"""The journal: a line for every measurement, on the disk before anything else happens with it."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from pytest_llem.errors import ResultsError
from pytest_llem.results.outcome import Outcome
from pytest_llem.wire import from_dict, to_dict

__all__ = ["Journal", "read"]


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
        end = os.fstat(self._file.fileno()).st_size
        rest = memoryview(line.encode())
        try:
            # A disk that is nearly full takes a part, and tells only at the next write.
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            # Half a line would spoil the next one.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), end)
            raise ResultsError(f"{self._file.name}: {error.strerror}") from error

    def log_path(self, file: str, experiment: str, turn: str) -> Path:
        """Where the worker of a measurement, ``c1``, of a study file writes its log."""
        return self.folder / "logs" / f"{_name(file, experiment, turn)}.log"

    def raw_path(self, file: str, experiment: str, turn: str) -> Path:
        """Where the raw series of a measurement go."""
        return self.folder / "raw" / f"{_name(file, experiment, turn)}.jsonl"

    def close(self) -> None:
        """Close the file; all of it is on the disk already."""
        self._file.close()


def _name(file: str, experiment: str, turn: str) -> str:
    """Quoted, so that no two studies of one session share a file."""
    return quote(f"{file}.{experiment}.{turn}", safe="")


def read(folder: Path) -> tuple[list[Outcome], list[str]]:
    """What the journals of a session hold, and what of them can't be read.

    Args:
        folder: of the session.

    Returns:
        The outcomes of all writers, each writer's in the order of its file, and a line with file
        and line number for each one that is left out: a crash may have cut the last of a file.
    """
    outcomes: list[Outcome] = []
    problems: list[str] = []
    for path in sorted(folder.glob("journal.*.jsonl")):
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            problems.append(f"{path}: can't be read: {error.strerror}")
            continue
        for number, line in enumerate(lines, 1):
            if not line and number == len(lines):
                break  # behind the last newline
            try:
                outcomes.append(_outcome(line))
            except (ValueError, RecursionError) as error:
                cause = str(error).partition("\n")[0]
                problems.append(f"{path}:{number}: left out, it is not a whole outcome: {cause}")
    return outcomes, problems


def _outcome(line: bytes) -> Outcome:
    data = json.loads(line, parse_constant=_refuse)
    if not isinstance(data, dict):
        raise ValueError(f"expected an object, got {data!r:.80}")
    return from_dict(Outcome, data)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number that was measured")
