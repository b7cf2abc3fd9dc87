"""The first program of a worker: ``python -c <this text>``, the package arriving over stdin.

Nothing of pytest-llem needs to be installed where it runs, and nothing is left on its disk: the
archive lives in anonymous memory where the system has that. Python 3.10+, standard library only.

Standard input: one JSON line ``{"archive_bytes": n, ...}``, then the archive, then frames.
"""

import json
import os
import sys
import tempfile


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


if __name__ == "__main__":
    header = json.loads(read_line())
    sys.path.insert(0, keep(read_exactly(header["archive_bytes"])))
    from pytest_llem.worker.__main__ import main

    main(header)
