"""A worker as a subprocess of this one, on this host."""

from __future__ import annotations

import collections
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_llem.errors import ForkRefused
from pytest_llem.extensions import Launch
from pytest_llem.runners.archive import bootstrap, build, for_launch, opening
from pytest_llem.runners.interpreters import environment
from pytest_llem.runners.templates import ForkedProcess, Templates

__all__ = ["LocalRunner", "LocalTransport", "start"]

_WATCH_S = 10.0
"""Twice what the watch process allows itself for ending everything."""

_QUIET = {
    # Nothing an engine measures here is anyone else's business.
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # A thread pool of the tokenizer's must not compete with the engine.
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
}


class LocalRunner:
    """Starts workers on this host."""

    name = "local"

    def __init__(self) -> None:
        """There is no template before the first worker is to be forked."""
        self._templates = Templates(_QUIET)

    def start(self, launch: Launch) -> LocalTransport:
        """Start a worker with the launch's interpreter, else this one."""
        return start(launch, python=launch.argument)

    def fork(self, launch: Launch) -> LocalTransport:
        """Start a worker from a process that has imported its engine, and run nothing.

        Raises:
            ForkRefused: when that can't be, with the reason.
            OSError: when the log can't be written.
        """
        if sys.platform != "linux":
            raise ForkRefused(f"workers are forked on Linux only, this is {sys.platform}")
        return LocalTransport(self._templates.fork(launch), launch.log, launch.argument)

    def close(self) -> None:
        """End the processes that workers were forked from."""
        self._templates.close()


def start(launch: Launch, command: Sequence[str] = (), python: str | None = None) -> LocalTransport:
    """Start a worker.

    Args:
        launch: what is to be started.
        command: put before the interpreter: ``nice -n 5``, for example.
        python: absolute path of an interpreter that needs nothing of ours; this one if not given.

    Raises:
        OSError: when the log can't be written or the process not be started.
    """
    launch.log.write_bytes(b"")
    # At its end, wherever that is: see log_to().
    with launch.log.open("ab") as stderr:
        process = subprocess.Popen(
            [*command, python or sys.executable, "-c", bootstrap()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**_QUIET, **(environment(python, os.environ) if python else os.environ)},
            start_new_session=True,
            bufsize=0,
        )
    transport = LocalTransport(process, launch.log, python)
    transport.send(opening(launch, for_launch(launch) if python else build(), apart=bool(python)))
    return transport


class LocalTransport:
    """Bytes to and from a subprocess that leads a process session of its own.

    Attributes:
        about: for the report: the interpreter, where it isn't the one that runs pytest.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes] | ForkedProcess,
        log: Path,
        python: str | None = None,
    ) -> None:
        """Take a process with pipes at its standard input and output."""
        self.about = {"python": python} if python else {}
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._log = log

    def send(self, data: bytes) -> None:
        """Write to the worker; when it is gone the end of its output will tell."""
        with contextlib.suppress(BrokenPipeError):
            view = memoryview(data)
            while view:
                view = view[self._stdin.write(view) :]

    def receive(self, timeout_s: float) -> bytes | None:
        """Next bytes of standard output, ``b""`` at its end, None when time is up."""
        # Takes any number of open files, where select doesn't.
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        ready = poll.poll(max(timeout_s, 0.0) * 1000)
        return os.read(self._stdout.fileno(), 1 << 16) if ready else None

    def wait(self, timeout_s: float) -> int | None:
        """Exit status, negative for a signal; None when it is still running after the time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(timeout_s)
            # The watch process reports its worker's signal as a shell would.
            return 128 - code if 128 < code <= 128 + signal.NSIG else code
        return None

    def stop(self, grace_s: float) -> None:
        """SIGTERM, the grace, SIGKILL; returns when the process is gone."""
        if self._process.poll() is None and grace_s > 0:
            self._process.terminate()
            self.wait(grace_s)
        # The end of its standard input makes the watch process end all it finds at once.
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        # It is given the time it allows itself: were it killed before, whatever left its process
        # group would be lost to everybody.
        if self.wait(_WATCH_S) is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._stdout.close()

    def unwell(self) -> str:
        """Why it doesn't do for another measurement; empty where it does."""
        return "" if self._process.poll() is None else "the worker ended after its measurement"

    def log_to(self, path: Path) -> None:
        """Go on with another log; the old one keeps what it has.

        The worker, and what it started, go on writing to the file that they have open: it gets the
        new name, and the old name a copy.

        Raises:
            OSError: when it can't be written.
        """
        if path == self._log:
            return
        copy = self._log.with_suffix(".copy")
        shutil.copyfile(self._log, copy)
        self._log.replace(path)
        copy.replace(self._log)
        # A word from between copying and now would be in neither: it stays in the new one.
        kept = path.read_bytes()[self._log.stat().st_size :]
        os.truncate(path, 0)
        if kept:
            with path.open("ab") as file:
                file.write(kept)
        self._log = path

    def log_size(self) -> int:
        """Bytes in the log so far."""
        return self._log.stat().st_size

    def log_tail(self, lines: int) -> str:
        """The last lines of the log, as text."""
        with self._log.open(errors="replace") as file:
            return "".join(collections.deque(file, maxlen=lines)).rstrip()
