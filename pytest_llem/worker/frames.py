"""What a worker says: JSON objects, one a line, on what was its standard output."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from pytest_llem.errors import LlemError

__all__ = ["Frames"]


class Frames:
    """Writes frames to what was standard output, and keeps everybody else away from it."""

    def __init__(self) -> None:
        """Take standard output over; from now on prints go to standard error."""
        self._fd = os.dup(1)
        os.dup2(2, 1)
        # A thread may ask for meters while requests go on.
        self._lock = threading.Lock()

    def send(self, frame: str, **fields: Any) -> None:
        """Write one frame.

        Raises:
            LlemError: when a field isn't plain JSON data, or holds NaN or an infinity.
        """
        try:
            line = json.dumps({"frame": frame, **fields}, allow_nan=False).encode() + b"\n"
        except (ValueError, TypeError) as error:
            raise LlemError(f"the engine's figures can't be reported ({frame}): {error}") from error
        with self._lock:
            while line:
                line = line[os.write(self._fd, line) :]
