"""The journal: a line for every measurement, on the disk before anything else happens with it.

A line is an outcome as compact JSON. Its last field, ``crc32``, is the CRC-32 of all bytes before
it, in hexadecimal: a byte that a disk changed must not pass for another figure.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from pytest_llem.errors import ResultsError
from pytest_llem.results.outcome import Outcome
from pytest_llem.wire import from_dict, to_dict

__all__ = ["Journal", "entries", "journals", "read", "written_to"]

_SUM = re.compile(rb',"crc32":"([0-9a-f]{8})"}')
_SUM_LENGTH = len(b',"crc32":"01234567"}')
_PATIENCE_S = 2.0
"""Who looks whether a journal is being written holds it for a moment."""


class Journal:
    """Appends outcomes to ``journal.<writer>.jsonl`` in a session's directory.

    Each process writes a file of its own, and holds a lock on it as long as it lives: no two ever
    share one, and whoever reads it can tell whether more is to come.
    """

    def __init__(self, folder: Path, writer: str, kind: str = "journal") -> None:
        """Make the directory and the file, ``<kind>.<writer>.jsonl``.

        Raises:
            ResultsError: when either can't be written, or another process writes the file.
        """
        self.folder = folder
        path = folder / f"{kind}.{writer}.jsonl"
        try:
            for name in ("logs", "raw"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
            if not _lock(self._file.fileno(), patience_s=_PATIENCE_S):
                self._file.close()
                raise ResultsError(f"{path} is being written by another pytest; run this one again")
            self._end_line()
        except OSError as error:
            raise ResultsError(
                f"results can't be written to {path}: {error.strerror};"
                " make it writable, or set llem_results_dir to another directory"
            ) from error

    def _end_line(self) -> None:
        """Keep half a line, which a crash left at the file's end, from spoiling the next one."""
        if os.fstat(self._file.fileno()).st_size:
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

    def append(self, outcome: Outcome) -> None:
        """Write one line and have the system put it on the disk.

        Raises:
            ResultsError: when the disk doesn't take it.
        """
        end = os.fstat(self._file.fileno()).st_size
        rest = memoryview(_line(outcome))
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


def _line(outcome: Outcome) -> bytes:
    text = json.dumps(to_dict(outcome), allow_nan=False, separators=(",", ":"))
    body = text[:-1].encode()
    return b'%b,"crc32":"%08x"}\n' % (body, zlib.crc32(body))


def journals(folder: Path, kind: str = "journal") -> list[Path]:
    """The journals of a session, one for each process that wrote; none of what is no session."""
    return sorted(folder.glob(f"{kind}.*.jsonl"))


def read(folder: Path, kind: str = "journal") -> tuple[list[Outcome], list[str]]:
    """What the journals of a session hold, and what of them can't be read.

    Args:
        folder: of the session.
        kind: of the files.

    Returns:
        The outcomes of all writers, each writer's in the order of its file, and a line with file
        and line number for each one that is left out: a crash may have cut the last of a file.
    """
    outcomes: list[Outcome] = []
    problems: list[str] = []
    for entry in entries(folder, kind):
        if isinstance(entry, Outcome):
            outcomes.append(entry)
        else:
            problems.append(entry)
    return outcomes, problems


def entries(folder: Path, kind: str = "journal") -> Iterator[Outcome | str]:
    """What :func:`read` gives, one at a time: for journals longer than what is needed of them."""
    for path in journals(folder, kind):
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    try:
                        yield _outcome(line.removesuffix(b"\n"))
                    except (ValueError, RecursionError) as error:
                        cause = str(error).partition("\n")[0]
                        yield f"{path}:{number}: left out, it is not a whole outcome: {cause}"
        except OSError as error:
            yield f"{path}: can't be read: {error.strerror}"


def _outcome(line: bytes) -> Outcome:
    body, found = line[:-_SUM_LENGTH], _SUM.fullmatch(line[-_SUM_LENGTH:])
    if found is None:
        raise ValueError("its end is missing")
    if int(found[1], 16) != zlib.crc32(body):
        raise ValueError("it was changed after it was written")
    data = json.loads(body + b"}", parse_constant=_refuse)
    if not isinstance(data, dict):
        raise ValueError(f"expected an object, got {data!r:.80}")
    return from_dict(Outcome, data)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number that was measured")


# --- who writes it -------------------------------------------------------------------------


def written_to(folder: Path) -> Path | None:
    """A journal of a session that a living process writes; None where none does."""
    for path in journals(folder):
        # It can't be read either, which whoever reads it says.
        with contextlib.suppress(OSError), path.open("rb") as file:
            if not _lock(file.fileno(), shared=True):
                return path
    return None


def _lock(handle: int, *, shared: bool = False, patience_s: float = 0.0) -> bool:
    """Lock a file for as long as it is open; False where somebody else has it locked."""
    try:
        import fcntl
    except ImportError:  # Windows: names of sessions differ, which has to do
        return True
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(0.01)
        except OSError:  # a file system without locks
            return True
        else:
            return True
