"""Stand-ins for what is outside of this package, by the protocols of extensions.py."""

from __future__ import annotations

import time
from collections.abc import Sequence

__all__ = ["ScriptedTransport"]


class ScriptedTransport:
    """A worker that says what it was told to say.

    After the last chunk it is silent, or at its end where an exit status is given.
    """

    def __init__(
        self, chunks: Sequence[bytes] = (), *, status: int | None = None, log: str = ""
    ) -> None:
        self.sent = b""
        self.stops: list[float] = []
        self.limits_s: list[float] = []
        self._chunks = list(chunks)
        self._status = status
        self._log = log

    def send(self, data: bytes) -> None:
        self.sent += data

    def receive(self, timeout_s: float) -> bytes | None:
        self.limits_s.append(timeout_s)
        if self._chunks:
            return self._chunks.pop(0)
        if self._status is not None:
            return b""
        time.sleep(timeout_s)
        return None

    def wait(self, timeout_s: float) -> int | None:
        assert timeout_s > 0
        return self._status

    def stop(self, grace_s: float) -> None:
        self.stops.append(grace_s)

    def log_size(self) -> int:
        return len(self._log)

    def log_tail(self, lines: int) -> str:
        return "\n".join(self._log.splitlines()[-lines:])
