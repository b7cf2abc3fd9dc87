"""Lines that a child process writes, each waited for so long and no longer."""

from __future__ import annotations

import os
import select
import time

__all__ = ["Lines"]

_CHUNK_BYTES = 1 << 20


class Lines:
    """Takes lines from the read end of a pipe."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self._data = b""

    def next(self, pipe: int, limit_s: float) -> bytes:
        """The next line, without its end.

        Raises:
            TimeoutError: when none comes in time.
            EOFError: when none will come.
            OSError: when the pipe can't be read.
        """
        poll = select.poll()  # takes any number of open files, where select doesn't
        poll.register(pipe, select.POLLIN)
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._data:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            data = os.read(pipe, _CHUNK_BYTES)
            if not data:
                raise EOFError
            self._data += data
        line, _, self._data = self._data.partition(b"\n")
        return line
