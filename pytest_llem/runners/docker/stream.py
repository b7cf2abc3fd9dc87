"""The standard streams of a process in a container, over a connection to the daemon.

The daemon hands the connection of an attach or an exec over: what is written to it is the
process's standard input, what is read from it is its output, cut into blocks with a header of
eight bytes each (Docker's API, "Attach to a container": stream type, three zeros, length as four
bytes, the most significant first).
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["STDERR", "STDOUT", "Demultiplexer", "Stream"]

STDOUT, STDERR = 1, 2

_HEADER_BYTES = 8
_CHUNK_BYTES = 1 << 16
_STUCK_S = 30.0
"""So long a write may wait for the daemon to take a single byte."""

_UNANSWERED_MS = 60_000
_AGAIN = (BlockingIOError, TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Demultiplexer:
    """Cuts what the daemon sends into pieces of single streams."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self._header = bytearray()
        self._kind = 0
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Pieces of these bytes, each with its stream; a block may come in several."""
        view = memoryview(data)
        while view:
            if self._left:
                piece, view = view[: self._left], view[self._left :]
                self._left -= len(piece)
                yield self._kind, bytes(piece)
                continue
            missing = _HEADER_BYTES - len(self._header)
            self._header += view[:missing]
            view = view[missing:]
            if len(self._header) == _HEADER_BYTES:
                self._kind = self._header[0]
                self._left = int.from_bytes(self._header[4:], "big")
                self._header.clear()


class Stream:
    """A connection that the daemon handed over.

    One thread may write while another one reads; an SSL connection is used by one at a time.
    """

    def __init__(self, raw: Any) -> None:
        """Take what docker-py's ``attach_socket`` or ``exec_start(socket=True)`` returned."""
        # Whatever holds the connection must live as long as it: its end would close it.
        self._raw = raw
        self._socket = getattr(raw, "_sock", None) or raw
        self._lock = threading.Lock()
        self._demultiplexer = Demultiplexer()
        self._ended = False
        self._closed = False
        self._early = _read_ahead(raw)
        self._socket.setblocking(False)
        _fail_when_unanswered(self._socket)

    def send(self, data: bytes) -> bool:
        """Write everything; False when the other side is gone, or takes nothing for 30 s."""
        view = memoryview(data)
        deadline = time.monotonic() + _STUCK_S
        while view and not self._closed:
            try:
                with self._lock:
                    sent = self._socket.send(view)
            except _AGAIN:
                # Of a process that ended the daemon takes no more, without saying so to a writer.
                if not self._read_aside() or time.monotonic() > deadline:
                    return False
                self._ready(0.25, writing=True)
            except OSError:
                return False
            else:
                view = view[sent:]
                deadline = time.monotonic() + _STUCK_S
        return not view

    def receive(self, timeout_s: float) -> list[tuple[int, bytes]] | None:
        """What arrived, each piece with its stream; empty at the end, None when time is up."""
        deadline = time.monotonic() + timeout_s
        while not self._ended and not self._closed:
            data = self._take()
            if data:
                if pieces := list(self._demultiplexer.feed(data)):
                    return pieces
            elif data is not None:
                self._ended = True
            else:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._ready(min(left, 0.25))
        return []

    @property
    def ended(self) -> bool:
        """Whether everything was read that there ever will be."""
        return self._ended or self._closed

    def end_input(self) -> None:
        """Close the process's standard input; its output can still be read."""
        with contextlib.suppress(OSError), self._lock:
            if isinstance(self._socket, ssl.SSLSocket):
                with contextlib.suppress(OSError, ValueError):  # its answer may come later
                    self._socket.unwrap()
                # Its own method would forget how to decrypt what still comes.
                socket.socket.shutdown(self._socket, socket.SHUT_WR)
            else:
                self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the connection, once nobody writes or reads: its number may be another's next."""
        self._closed = True
        things: list[Any] = [self._raw, self._socket, getattr(self._raw, "_response", None)]
        with self._lock:
            for thing in things:
                with contextlib.suppress(Exception):  # closed before, in an order of its own
                    thing.close()

    def _take(self) -> bytes | None:
        """Whatever is there now; empty at the end, None when there is nothing yet."""
        with self._lock:
            if self._early:
                data, self._early = self._early, b""
                return data
            return self._read()

    def _read_aside(self) -> bool:
        """Keep for later what is there now; False at the end."""
        with self._lock:
            data = self._read()
            self._early += data or b""
        return data != b""

    def _read(self) -> bytes | None:
        """As :meth:`_take`, of the connection alone; only with the lock."""
        try:
            taken: bytes = self._socket.recv(_CHUNK_BYTES)
        except _AGAIN:
            return None
        except OSError:
            return b""
        return taken

    def _ready(self, timeout_s: float, *, writing: bool = False) -> None:
        """Wait until the connection can be used; what SSL holds back was taken before."""
        with contextlib.suppress(OSError, ValueError):  # closed by the other thread
            poll = select.poll()  # takes any number of open files, where select doesn't
            poll.register(self._socket, select.POLLIN | (select.POLLOUT if writing else 0))
            poll.poll(timeout_s * 1000)


def _read_ahead(raw: Any) -> bytes:
    """What came so close behind the daemon's answer that it was read with it."""
    try:
        buffered = raw._response.raw._fp.fp
        sock = raw._sock if hasattr(raw, "_sock") else raw
        sock.setblocking(False)
        # A look into the buffer reads from the connection only where the buffer is empty.
        waiting = len(buffered.peek())
        return bytes(buffered.read(waiting)) if waiting else b""
    except (AttributeError, OSError, ValueError):
        return b""


def _fail_when_unanswered(sock: Any) -> None:
    """Have the system end a connection that nobody answers; of no meaning to local ones."""
    with contextlib.suppress(OSError, AttributeError):
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)
