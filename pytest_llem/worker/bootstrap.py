"""The first program of a worker: ``python -c <this text>``, the package arriving over stdin.

Nothing of pytest-llem needs to be installed where it runs, and nothing is left on its disk: the
archive lives in anonymous memory where the system has that. Standard library only; Python 3.10+,
but older ones can read this text well enough to say that they are too old.

Standard input: one JSON line ``{"archive_bytes": n, ...}``, then the archive, then frames. An
argument is the number of seconds to wait for a next byte of it, where a network may lose them.
"""

import json
import os
import select
import sys
import tempfile

OLDEST = (3, 10)


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


def check_python() -> None:
    """Say so where this Python is too old, in the words of the protocol, and end."""
    if sys.version_info < OLDEST:
        have, need = (".".join(map(str, version[:2])) for version in (sys.version_info, OLDEST))
        message = f"Python {have} in the image, {need} or newer is needed"
        fix = f"use an image with Python {need} or newer"
        frame = {"frame": "error", "kind": "refused", "message": message, "fix": fix}
        os.write(1, json.dumps(frame).encode() + b"\n")
        os._exit(64)


if __name__ == "__main__":
    check_python()
    header = json.loads(read_line())
    sys.path.insert(0, keep(read_exactly(header["archive_bytes"])))
    from pytest_llem.worker.__main__ import main

    main(header)
