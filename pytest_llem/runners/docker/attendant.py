"""The host's side of what attends a container that is kept: questions and answers."""

from __future__ import annotations

import collections
import inspect
import json
import threading
import time
from typing import Any

from pytest_llem.runners.docker import inside
from pytest_llem.runners.docker.stream import STDOUT, Stream

__all__ = ["Attendant", "AttendantError", "attend_command", "hold_command"]

_LOG_PIECES = 20


class AttendantError(Exception):
    """It doesn't answer: its container ended, or the way to it broke."""


def attend_command(patience_s: float | None) -> list[str]:
    """Command of the attendant.

    Args:
        patience_s: it ends when it hears nothing for so long; None where only the end of its
            standard input counts.
    """
    return [*_program(), "attend", *([] if patience_s is None else [str(patience_s)])]


def hold_command(idle_s: float) -> list[str]:
    """Command of the first process of a container that outlives its session."""
    return [*_program(), "hold", str(idle_s)]


def _program() -> list[str]:
    return ["python3", "-u", "-c", inspect.getsource(inside)]


class Attendant:
    """Asks, and keeps the container alive by being there."""

    def __init__(self, stream: Stream, heartbeat_s: float | None = None) -> None:
        """Take the stream of one that was started just now.

        Args:
            stream: that nobody has read yet.
            heartbeat_s: how often it is told that we are there; None for never.
        """
        self._stream = stream
        self._lines: collections.deque[dict[str, Any]] = collections.deque()
        self._rest = b""
        self._log: collections.deque[bytes] = collections.deque(maxlen=_LOG_PIECES)
        self._sending = threading.Lock()
        self._closed = threading.Event()
        if heartbeat_s is not None:
            threading.Thread(
                target=self._beat, args=[heartbeat_s], name="llem-attend", daemon=True
            ).start()

    def is_ours(self, limit_s: float) -> bool:
        """Its first word: False where another session has the container.

        Raises:
            AttendantError: when it says nothing.
        """
        return "ready" in self._next(limit_s)

    def ask(self, question: str, limit_s: float = 10.0) -> dict[str, Any]:
        """Its answer.

        Raises:
            AttendantError: when there is none in time.
        """
        with self._sending:
            self._stream.send(question.encode() + b"\n")
        return self._next(limit_s)

    def close(self) -> None:
        """It ends, and where it is the first process, its container does."""
        self._closed.set()
        self._stream.end_input()
        self._stream.close()

    def _next(self, limit_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + limit_s
        while not self._lines:
            pieces = self._stream.receive(max(deadline - time.monotonic(), 0.0))
            if not pieces:
                how = f"no answer in {limit_s:g} s" if pieces is None else "it ended"
                said = b"".join(self._log).decode(errors="replace").strip()
                raise AttendantError(": ".join(filter(None, (how, said[-300:]))))
            for kind, piece in pieces:
                self._take(kind, piece)
        return self._lines.popleft()

    def _take(self, kind: int, piece: bytes) -> None:
        if kind != STDOUT:
            self._log.append(piece)
            return
        *whole, self._rest = (self._rest + piece).split(b"\n")
        self._lines.extend(json.loads(line) for line in whole)

    def _beat(self, every_s: float) -> None:
        while not self._closed.wait(every_s) and not self._stream.ended:
            with self._sending:
                self._stream.send(b"\n")
