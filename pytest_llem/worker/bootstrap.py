"""The first program of a worker: ``python -c <this text>``, the package arriving over stdin.

Nothing of pytest-llem needs to be installed where it runs, and nothing is left on its disk: the
archive lives in anonymous memory where the system has that. Python 3.10+, standard library only.

Standard input: one JSON line ``{"archive_bytes": n, ...}``, then the archive, then frames. Where
the line has an ``environment``, this program starts itself again with it: some variables count only
from a process's beginning, and none of them is to be seen where the process was ordered.
"""

import json
import os
import sys
import tempfile
from typing import Any


def read_exactly(count: int) -> bytes:
    """Read from standard input without a buffer: the frames behind belong to others."""
    parts = []
    while count:
        part = os.read(0, min(count, 1 << 20))
        if not part:
            os._exit(75)  # whoever started us is gone
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_line() -> bytes:
    """Read up to the first newline, and not a byte more."""
    line = b""
    while not line.endswith(b"\n"):
        line += read_exactly(1)
    return line


def keep(archive: bytes) -> str:
    """Put the archive where Python can import from it; returns the path."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("pytest-llem")
        path = f"/proc/{os.getpid()}/fd/{handle}"
    else:
        handle, path = tempfile.mkstemp(suffix=".zip")
    with open(handle, "wb", closefd=not hasattr(os, "memfd_create")) as file:
        file.write(archive)
    return path


def begin_again(header: dict[str, Any], environment: dict[str, str]) -> None:
    """Become the same program with these variables too; it is told what was read so far."""
    read_end, write_end = os.pipe()
    os.set_inheritable(read_end, True)
    arguments = [sys.executable, *sys.orig_argv[1:], str(read_end)]
    os.write(write_end, json.dumps(header).encode())  # far less than a pipe holds
    os.execve(sys.executable, arguments, {**os.environ, **environment})


def read_header() -> dict[str, Any]:
    """The first line; what an earlier start of this program read of it."""
    if len(sys.argv) > 1:
        with os.fdopen(int(sys.argv.pop())) as file:
            told: dict[str, Any] = json.load(file)
        return told
    header: dict[str, Any] = json.loads(read_line())
    if environment := header.pop("environment", None):
        begin_again(header, environment)
    return header


if __name__ == "__main__":
    header = read_header()
    sys.path.insert(0, keep(read_exactly(header["archive_bytes"])))
    from pytest_llem.worker.__main__ import main

    main(header)
