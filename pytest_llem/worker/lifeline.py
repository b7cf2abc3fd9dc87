"""The watch process: owns standard input, and ends every process of the worker with it.

The worker may sit in a C call that holds the interpreter for minutes; a thread of its own could
not react. So the first process watches, and the worker is its child. The watch

* passes standard input on to the worker, but for the frames that are its own business,
* ends everything when it closes (whoever started us is gone): exit status 75,
* does the same where heartbeats were promised and six of them are missing: a network that lost
  its other end says nothing,
* ends everything politely on SIGTERM or a frame ``cancel``, and whatever the worker left behind
  when it is done.

On Linux it adopts orphans, so that also a daemon or an engine's process in its own process
group is found; elsewhere the process group is all that is ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from pathlib import Path

__all__ = ["LOST", "descendants", "die_with_starter", "guard"]

LOST = 75
"""Exit status of a worker whose starter went away (EX_TEMPFAIL of sysexits.h)."""

_GRACE_S = 25.0
_MISSING_BEATS = 6
_SHORT_BYTES = 200
"""No frame of the watch's own is longer."""
_SURE = 3
"""So often nobody must be found before nobody is taken to be there."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def guard(heartbeat_s: float | None = None) -> None:
    """Split into watch and worker; returns only in the worker, with stdin passed through.

    Must run before any thread is started.

    Args:
        heartbeat_s: seconds between heartbeats; None where there are none.
    """
    watch_pid = os.getpid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != watch_pid:  # it died before the line above took effect
            os._exit(LOST)
        os.dup2(read_end, 0)
        os.close(read_end)
        os.close(write_end)
        return
    os.close(read_end)
    os._exit(_Watch(child, write_end, heartbeat_s).run())


def die_with_starter() -> None:
    """On Linux, have the system kill this process at once when whoever started it is gone."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def descendants(root: int) -> list[int]:
    """Pids of all living processes below ``root``; empty where there is no /proc.

    A look takes time, and processes end meanwhile: one may be missed whose parent ended and was
    collected between the two reads. Whoever needs to be sure looks twice.
    """
    parents: dict[int, int] = {}
    dead: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in brackets may hold anything, so count fields from its end.
            fields = entry.read_text(errors="replace").rpartition(")")[2].split()
            pid = int(entry.parent.name)
            parents[pid] = int(fields[1])
            if fields[0] in "ZX":
                # Kept in the tree: a child read before its parent died still names it.
                dead.add(pid)
    found: list[int] = []
    level = {root}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        found += level - dead
    return found


def _prctl(option: int, value: int) -> None:
    """Set an attribute of this process on Linux; elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _kind(line: bytes) -> str | None:
    """Kind of a short frame; None for all that is certainly for the worker."""
    if len(line) <= _SHORT_BYTES:
        with contextlib.suppress(ValueError):
            frame = json.loads(line)
            return str(frame.get("frame")) if isinstance(frame, dict) else None
    return None


class _Watch:
    """The loop of the watch process."""

    def __init__(self, worker: int, pipe: int, heartbeat_s: float | None) -> None:
        self._worker = worker
        self._pipe = pipe
        self._parent = os.getppid()
        self._terminated = False
        self._line = bytearray()
        self._waiting = bytearray()
        self._patience_s = heartbeat_s and heartbeat_s * _MISSING_BEATS
        self._heard_s = time.monotonic()
        # The worker must see the end of its output as its own: keep none of it open.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)

    def run(self) -> int:
        """Watch until the worker is done; returns the exit status for the watch itself."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        os.set_blocking(self._pipe, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_terminate)
        # A terminal's Ctrl-C is for pytest, which then tells us what to do.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            status = self._reap()
            if status is not None:
                self._kill_all()
                return status
            if self._terminated:
                return self._end_politely()
            # A worker that doesn't read just now must not keep us from watching.
            full = [self._pipe] if self._waiting else []
            ready, free, _ = select.select([0, wake_read], full, [], 0.25)
            if wake_read in ready:
                os.read(wake_read, 4096)
            if free:
                self._pass_on()
            if (0 in ready and not self._hear()) or not self._has_starter():
                self._kill_all()
                return LOST

    def _on_terminate(self, *_: object) -> None:
        self._terminated = True

    def _hear(self) -> bool:
        """Take what arrived; False when whoever started us is gone."""
        data = os.read(0, 1 << 16)
        self._heard_s = time.monotonic()
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._take(bytes(self._line) + line)
            self._line.clear()
        self._line += rest
        return bool(data)

    def _take(self, line: bytes) -> None:
        """Keep a frame for the worker, unless it is for us."""
        kind = _kind(line)
        if kind == "cancel":
            self._terminated = True
        elif kind != "heartbeat":
            self._waiting += line + b"\n"

    def _has_starter(self) -> bool:
        """Whether whoever started us is still there, as far as that can be told."""
        # A stray copy of the pipe's other end would hide that the starter is gone.
        if os.getppid() != self._parent:
            return False
        return not self._patience_s or time.monotonic() - self._heard_s < self._patience_s

    def _pass_on(self) -> None:
        """Pass on what the worker takes now."""
        try:
            del self._waiting[: os.write(self._pipe, self._waiting)]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._waiting.clear()  # the worker has ended; the loop will see that

    def _reap(self) -> int | None:
        """Collect ended children; the worker's exit status once it is among them."""
        status = None
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, raw = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == self._worker:
                    status = os.waitstatus_to_exitcode(raw)
        if status is not None and status < 0:
            return 128 - status  # as a shell reports a signal
        return status

    def _end_politely(self) -> int:
        deadline = time.monotonic() + _GRACE_S
        os.kill(self._worker, signal.SIGTERM)
        status = self._reap()
        while status is None and time.monotonic() < deadline and self._is_waited_for():
            status = self._reap()
        self._kill_all()
        return 128 + signal.SIGTERM if status is None else status

    def _is_waited_for(self) -> bool:
        """Look for a moment whether whoever started us still waits for a polite end."""
        ready, _, _ = select.select([0], [], [], 0.02)
        return not (ready and not self._hear()) and self._has_starter()

    def _kill_all(self) -> None:
        """SIGKILL all below us until none is left; new ones may be started meanwhile."""
        deadline = time.monotonic() + 5.0
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._worker, signal.SIGKILL)
        nobody = 0
        while nobody < _SURE and time.monotonic() < deadline:
            pids = descendants(os.getpid())
            nobody = 0 if pids else nobody + 1
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
            self._reap()
        if sys.platform != "linux":
            # No /proc and no orphans of ours: the group is the best there is.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.killpg(0, signal.SIGTERM)
