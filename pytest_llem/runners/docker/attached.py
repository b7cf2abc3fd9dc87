"""A worker at the other end of a stream: what containers of its own and execs have in common."""

from __future__ import annotations

import collections
import contextlib
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_llem.runners.docker.stream import STDOUT, Stream

__all__ = ["HEARTBEAT_S", "Attached", "as_signal", "patience_s"]

HEARTBEAT_S = 5.0
"""A worker behind a network is told so often that its starter is still there."""

_HEARTBEAT = b'{"frame": "heartbeat"}\n'
_CANCEL = b'{"frame": "cancel"}\n'
_WATCH_S = 10.0
"""Twice what the watch process allows itself for ending everything."""

_MISSING_BEATS = 6
_SILENT_BEATS = 12
"""After so long without a word over a network the daemon is asked whether the worker lives."""


def as_signal(code: int) -> int:
    """An exit status as the daemon has it, negative where a shell would call it a signal."""
    return 128 - code if 128 < code <= 128 + signal.NSIG else code


def patience_s(heartbeat_s: float | None) -> float | None:
    """How long those inside wait for a heartbeat; None where none are sent."""
    return None if heartbeat_s is None else heartbeat_s * _MISSING_BEATS


class Attached(ABC):
    """Bytes to and from a worker whose standard streams are one stream of the daemon's.

    What it writes to standard error goes to the log on this host, as it comes.

    Attributes:
        about: what the worker runs in, plain data for the report.
        secrets: what it is told with the request.
    """

    def __init__(
        self, stream: Stream, log: Path, about: Mapping[str, Any], heartbeat_s: float | None
    ) -> None:
        """Take a stream that nobody has read yet.

        Args:
            stream: of the worker.
            log: is made new.
            about: plain data for the report.
            heartbeat_s: seconds between the heartbeats that the worker expects where there is a
                network between; None where it expects none.

        Raises:
            OSError: when the log can't be written.
        """
        self.about = dict(about)
        self.secrets: Mapping[str, str] = {}
        self._stream = stream
        self._log = log
        self._log_file = log.open("wb", buffering=0)
        self._log_bytes = 0
        self._output: collections.deque[bytes] = collections.deque()
        self._status: int | None = None
        self._stopped = False
        self._heartbeat_s = heartbeat_s
        self._heard_s = time.monotonic()
        self._sending = threading.Lock()
        self._quiet = threading.Event()
        if heartbeat_s is not None:
            beating = threading.Thread(
                target=self._beat, args=[heartbeat_s], name="llem-heartbeat", daemon=True
            )
            beating.start()

    # --- of the protocol Transport ---------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Write to the worker; when it is gone the end of its output will tell."""
        with self._sending:
            self._stream.send(data)

    def receive(self, timeout_s: float) -> bytes | None:
        """Next bytes of standard output, ``b""`` at its end, None when time is up."""
        deadline = time.monotonic() + timeout_s
        while not self._output:
            if not self._pump(max(deadline - time.monotonic(), 0.0)):
                return b""
            if not self._output and time.monotonic() >= deadline:
                return None
        return self._output.popleft()

    def wait(self, timeout_s: float) -> int | None:
        """Exit status, negative for a signal; None when it is still running after the time."""
        deadline = time.monotonic() + timeout_s
        while self._status is None and (left := deadline - time.monotonic()) > 0:
            if not self._pump(left):
                self._status = self._ask_status(max(deadline - time.monotonic(), 0.0))
                break
        return self._status

    def stop(self, grace_s: float) -> None:
        """A frame that asks for the end, the grace, the end of its input, and then by force."""
        if self._stopped:
            return
        self._stopped = True
        try:
            if self._status is None and not self._stream.ended:
                if grace_s > 0:
                    self.send(_CANCEL)
                    self.wait(grace_s)
                # Makes the watch process end all it finds at once.
                self._stream.end_input()
            if self._status is None:
                self.wait(_WATCH_S)
        finally:
            self._quiet.set()
            self._end_surely()
            self._stream.close()
            self._log_file.close()

    def log_to(self, path: Path) -> None:
        """Go on with another log; the old one keeps what it has.

        Raises:
            OSError: when it can't be written.
        """
        if path != self._log:
            file, self._log_file = self._log_file, path.open("wb", buffering=0)
            self._log = path
            file.close()

    def log_size(self) -> int:
        """Bytes of standard error so far."""
        return self._log_bytes

    def log_tail(self, lines: int) -> str:
        """The last lines of the log, as text."""
        with self._log.open(errors="replace") as file:
            return "".join(collections.deque(file, maxlen=lines)).rstrip()

    # --- what differs ----------------------------------------------------------------------

    @abstractmethod
    def _ask_status(self, timeout_s: float) -> int | None:
        """Its stream ended: the exit status; None where nobody knows it after the time."""

    @abstractmethod
    def _end_surely(self) -> None:
        """Leave nothing of it behind, whatever it takes; called once, last."""

    @abstractmethod
    def _lives(self) -> bool:
        """Whether the daemon answers, and says that it is running."""

    # --- parts -----------------------------------------------------------------------------

    def _pump(self, timeout_s: float) -> bool:
        """Take what arrives in a time: standard output aside, the rest to the log.

        False at the end of it all.
        """
        pieces = self._stream.receive(timeout_s)
        if pieces is None:
            return not self._is_lost()
        self._heard_s = time.monotonic()
        for kind, piece in pieces:
            if kind == STDOUT:
                self._output.append(piece)
            else:
                self._log_bytes += len(piece)
                with contextlib.suppress(OSError, ValueError):  # full disk; closed by stop()
                    self._log_file.write(piece)
        return bool(pieces)

    def _is_lost(self) -> bool:
        """A network may swallow everything without ever saying so: then ask on another way."""
        if self._heartbeat_s is None:
            return False
        if time.monotonic() - self._heard_s < self._heartbeat_s * _SILENT_BEATS:
            return False
        if self._lives():
            self._heard_s = time.monotonic()
            return False
        self._stream.close()
        return True

    def _beat(self, every_s: float) -> None:
        while not self._quiet.wait(every_s) and not self._stream.ended:
            self.send(_HEARTBEAT)
