"""Forked workers: from a process for each engine that has imported it and run nothing.

Templates are kept as long as the session, a few of them: one for each backend, interpreter and
environment, as variables may count at import.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from pytest_llem.errors import ForkRefused
from pytest_llem.extensions import Launch
from pytest_llem.runners import interpreters
from pytest_llem.runners.archive import bootstrap, build, for_launch, header, opening

__all__ = ["ForkedProcess", "Templates"]

_KEPT = 3
"""Each holds an imported engine: some 300 MB."""

_ANSWER_S = 60.0
_LOOK_AGAIN_S = 0.005
_LOST = 75
"""Exit status of a worker whose starter is gone, which the template would have told."""

_VOLATILE = frozenset({"PYTEST_CURRENT_TEST"})
"""Pytest sets it anew for each test."""


class Templates:
    """The templates of a session."""

    def __init__(self, defaults: Mapping[str, str]) -> None:
        """Start none yet; ``defaults`` are variables for those who don't set them."""
        self._defaults = defaults
        self._known: dict[object, _Template] = {}

    def fork(self, launch: Launch) -> ForkedProcess:
        """Fork a worker whose standard error is the launch's log.

        Raises:
            ForkRefused: when none can be forked from a process that imported the engine.
            OSError: when the log can't be written, or the template not be started.
        """
        environment = {k: v for k, v in os.environ.items() if k not in _VOLATILE}
        if launch.argument:
            environment = interpreters.environment(launch.argument, environment)
        key = (
            launch.backend,
            launch.argument,
            *map(frozenset, (environment.items(), launch.environment.items())),
        )
        template = self._known.pop(key, None)
        if template is not None and not template.lives():
            template.close()
            template = None
        if template is None:
            template = _Template(launch, {**self._defaults, **environment})
        # The latest stands last.
        self._known[key] = template
        while len(self._known) > _KEPT:
            self._known.pop(next(iter(self._known))).close()
        return template.fork(launch)

    def close(self) -> None:
        """End all templates."""
        while self._known:
            self._known.popitem()[1].close()


class _Template:
    """A process that has imported an engine."""

    def __init__(self, launch: Launch, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        self._control = ours
        self._received = b""
        self._ended = False
        python = launch.argument
        log = launch.log.with_name(f"template.{launch.backend}.{os.getpid()}.log")
        with theirs, log.open("ab") as output:
            self._process = subprocess.Popen(
                [python or sys.executable, "-c", bootstrap()],
                stdin=theirs.fileno(),
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        with contextlib.suppress(OSError):  # it will not get ready
            archive = for_launch(launch) if python else build()
            wanted = dataclasses.replace(launch, role="template")
            ours.sendall(opening(wanted, archive, apart=bool(python)))
        patience_s = launch.experiment.load_timeout_s if launch.experiment else _ANSWER_S
        ready = self.heard(patience_s)
        self.refused = "it did not get ready" if ready is None else str(ready["refused"])

    def lives(self) -> bool:
        """Whether it is there to be asked."""
        return not self._ended and self._process.poll() is None

    def fork(self, launch: Launch) -> ForkedProcess:
        """Fork a worker."""
        if self.refused:
            raise ForkRefused(self.refused)
        inputs, outputs = os.pipe(), os.pipe()
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            theirs.callback(os.close, inputs[0])
            theirs.callback(os.close, outputs[1])
            stdin = ours.enter_context(os.fdopen(inputs[1], "wb", buffering=0))
            stdout = ours.enter_context(os.fdopen(outputs[0], "rb", buffering=0))
            log = theirs.enter_context(launch.log.open("wb"))
            message = json.dumps({"frame": "fork", "header": header(launch)}).encode() + b"\n"
            with contextlib.suppress(OSError):  # its answer will be missing
                socket.send_fds(self._control, [message], [inputs[0], outputs[1], log.fileno()])
            answer = self.heard(_ANSWER_S)
            if answer is None:
                raise ForkRefused("it gave no answer")
            if answer["frame"] == "refused":
                self.refused = str(answer["reason"])
                raise ForkRefused(self.refused)
            ours.pop_all()
            return ForkedProcess(int(answer["pid"]), stdin, stdout, self)

    def heard(self, timeout_s: float | None) -> dict[str, Any] | None:
        """Its next message; None where it is gone, or after the time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while b"\n" not in self._received:
            left_s = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            poll = select.poll()
            poll.register(self._control, select.POLLIN)
            if not poll.poll(None if left_s is None else left_s * 1000):
                return None
            part = b""
            with contextlib.suppress(OSError):
                part = self._control.recv(1 << 16)
            self._received += part
            if not part:
                self._ended = True
                return None
        line, _, self._received = self._received.partition(b"\n")
        return dict(json.loads(line))

    def close(self) -> None:
        """End it; it has no worker any more."""
        self._ended = True
        self._control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._process.kill()
        self._process.wait()


class ForkedProcess:
    """A forked worker, as ``subprocess`` would have it; its template tells how it ended."""

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes], template: _Template) -> None:
        """Take a worker that was forked from a template just now."""
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self._template = template
        self._status: int | None = None

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it is running."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Exit status once it has ended.

        Raises:
            subprocess.TimeoutExpired: when it is running after the time.
        """
        if self._status is None:
            deadline = None if timeout is None else time.monotonic() + timeout
            told = self._template.heard(timeout)
            if told is None and not self._template.lives():
                # Nobody can tell how it ended; its watch process ends it, and then itself.
                while _runs(self.pid) and (deadline is None or time.monotonic() < deadline):
                    time.sleep(_LOOK_AGAIN_S)
                told = None if _runs(self.pid) else {"status": _LOST}
            if told is None:
                raise subprocess.TimeoutExpired("forked worker", timeout or 0.0)
            self._status = int(told["status"])
        return self._status

    def terminate(self) -> None:
        """Have it end politely."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)


def _runs(pid: int) -> bool:
    """Whether a process is there that isn't a child of ours, and hasn't ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
