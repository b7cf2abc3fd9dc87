"""The first program of a worker: ``python -c <this text>``, the package arriving over stdin.

Nothing of pytest-llem needs to be installed where it runs, and nothing is left on its disk: the
archive lives in anonymous memory where the system has that. Standard library only; Python 3.10+,
but older ones can read this text well enough to say that they are too old.

Standard input: one JSON line ``{"archive_bytes": n, ...}``, then the archive, then frames. An
argument is the number of seconds to wait for a next byte of it, where a network may lose them.
Where the line has an ``environment``, this program starts itself again with it: some variables
count only from a process's beginning, and none is to be seen where the process was ordered.
"""

import json
import os
import select
import sys
import tempfile
from typing import Any

OLDEST = (3, 10)
TOLD = "LLEM_HEADER_FD"


def read_exactly(count: int) -> bytes:
    """Read from standard input without a buffer: the frames behind belong to others."""
    parts = []
    patience = float(sys.argv[1]) if len(sys.argv) > 1 else None
    while count:
        heard, _, _ = select.select([0], [], [], patience)
        part = os.read(0, min(count, 1 << 20)) if heard else b""
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


def begin_again(header: "dict[str, Any]", environment: "dict[str, str]") -> None:
    """Become the same program with these variables too; it is told what was read so far."""
    read_end, write_end = os.pipe()
    os.set_inheritable(read_end, True)
    os.write(write_end, json.dumps(header).encode())  # far less than a pipe holds
    told = {TOLD: str(read_end)}
    arguments = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, arguments, {**os.environ, **environment, **told})


def read_header() -> "dict[str, Any]":
    """The first line, or what an earlier start of this program read of it."""
    told = os.environ.pop(TOLD, None)
    if told is not None:
        with os.fdopen(int(told)) as file:
            return dict(json.load(file))
    header = dict(json.loads(read_line()))
    environment = header.pop("environment", None)
    if environment:
        begin_again(header, environment)
    return header


def check_python() -> None:
    """Say so where this Python is too old, in the words of the protocol, and end."""
    if sys.version_info < OLDEST:
        have, need = (".".join(map(str, version[:2])) for version in (sys.version_info, OLDEST))
        message = f"Python {have} where the worker runs, {need} or newer is needed"
        fix = f"use an image, or an environment, with Python {need} or newer"
        frame = {"frame": "error", "kind": "refused", "message": message, "fix": fix}
        os.write(1, json.dumps(frame).encode() + b"\n")
        os._exit(64)


if __name__ == "__main__":
    check_python()
    header = read_header()
    if header.get("apart"):
        sys.path[:] = filter(None, sys.path)  # of a -c, the first is the working directory
    sys.path.insert(0, keep(read_exactly(header["archive_bytes"])))
    from pytest_llem.worker.__main__ import main

    main(header)
