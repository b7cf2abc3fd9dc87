"""Meters in a process of their own, for windows within which this process must go on.

A meter waits for ticks of a counter: that would keep an engine's event loop, and its interpreter,
from the requests. So the program of the role ``meter`` (:mod:`.beside`) runs a second time as a
child of this worker, and speaks over its pipes. All processes on a kernel share the clock.

A meter that models the CPU time of the engine's process stays in that process.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from pytest_llem.errors import LlemError
from pytest_llem.extensions import METERS, Meter, Target, find
from pytest_llem.meters.lines import Lines
from pytest_llem.records import Reading
from pytest_llem.wire import from_dict
from pytest_llem.worker.beside import serve_windows
from pytest_llem.worker.choose import own_meter
from pytest_llem.worker.frames import Frames

__all__ = ["MeterApart", "MeterProcess", "main"]

_PROGRAM = (
    "import json, sys\n"
    "sys.path[:] = json.loads(sys.argv[1])\n"
    "from pytest_llem.worker.meter_process import main\n"
    "main(int(sys.argv[2]))\n"
)
"""The package may live in an archive in memory: only ``sys.path`` knows where."""

_ANSWER_S = 60.0
"""A start of the interpreter, or a search for the period of a slow counter, on a busy host."""

_END_S = 5.0
_PARENT_EVERY_S = 0.5


def main(parent: int) -> NoReturn:
    """Be the process: answer until standard input ends, or the parent."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    frames = Frames()
    status = 0
    try:
        serve_windows(sys.stdin, frames.send)
    except Exception as error:  # a third party's meter: whatever it is, the parent must hear it
        status = 1
        with contextlib.suppress(OSError):
            frames.send("error", message=str(error) or type(error).__name__)
    sys.stderr.flush()
    os._exit(status)  # its meters' threads may sit in a call of a driver


def _end_with(parent: int) -> None:
    """An engine's own processes may hold a copy of our standard input: its end may never come."""
    while os.getppid() == parent:
        time.sleep(_PARENT_EVERY_S)
    os._exit(0)


class MeterProcess:
    """A process with meters.

    Attributes:
        reason: why it answers no more; empty while it does.
    """

    def __init__(self) -> None:
        """Start it, and don't wait for it.

        Raises:
            LlemError: when it can't be started.
        """
        self.reason = ""
        self._lines = Lines()
        # Isolated and without site: what may be imported is handed over.
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, json.dumps(sys.path)]
        try:
            self._process = subprocess.Popen(
                [*command, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        except (OSError, ValueError) as error:
            raise LlemError(f"the process of the meters can't be started: {error}") from error

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def meter(self, name: str, target: Target) -> Meter:
        """Make a meter there; here where it models what this process does.

        Raises:
            LlemError: when the process has failed, or there is no such meter.
        """
        if getattr(find(METERS, name), "estimates", False):
            return own_meter(name, target)
        return MeterApart(name, target, self)

    def ask(self, frame: str, **fields: Any) -> dict[str, Any]:
        """The answer to a frame; empty where there is none, and then ``reason`` says why."""
        if self.reason:
            return {}
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"frame": frame, **fields}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(self._line(_ANSWER_S))
        except (OSError, ValueError) as error:
            self._fail(str(error))
            return {}
        if answer.get("frame") == "error":
            self._fail(str(answer.get("message")))
            return {}
        return answer

    def close(self) -> None:
        """End it."""
        self.reason = self.reason or "it was closed"
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _line(self, limit_s: float) -> bytes:
        """The next line.

        Raises:
            OSError: when none comes in time, or none will come.
        """
        assert self._process.stdout is not None
        try:
            return self._lines.next(self._process.stdout.fileno(), limit_s)
        except TimeoutError as error:
            raise OSError(
                f"no answer within {limit_s:g} s; a driver hangs, or the machine is very busy:"
                " see python -m pytest_llem doctor"
            ) from error
        except EOFError as error:
            raise OSError("it ended; see the worker's log") from error

    def _fail(self, why: str) -> None:
        self.reason = f"the process of the meters failed: {why}"
        self._process.kill()


class MeterApart:
    """A meter in a process of its own.

    Attributes:
        about: what it found out of each domain, as of its latest window.
    """

    def __init__(self, name: str, target: Target, process: MeterProcess) -> None:
        """Ask what it reads of the target.

        Raises:
            LlemError: when the process can't say.
        """
        self.name = name
        self.about: Mapping[str, Mapping[str, Any]] = {}
        self._process = process
        ready = process.ask("meter_request", meter=name, device=target.device, count=target.count)
        if not ready:
            raise LlemError(f"meter {name}: {process.reason}")
        self.domains: Sequence[str] = tuple(ready["domains"])
        self.estimates: bool = ready["estimates"]
        self.reason: str = ready["reason"]

    def start(self, exact: bool = True) -> None:
        """Begin a window; returns when the meter has begun its own."""
        self._process.ask("window_start", meter=self.name, exact=exact)

    def stop(self, token: None, start_s: float, end_s: float) -> Sequence[Reading]:
        """End the window that lay between the two times of the monotonic clock."""
        del token
        return self._stop(start_s, end_s, within=False)[1]

    def stop_within(
        self, token: None, start_s: float, latest_s: float
    ) -> tuple[float, Sequence[Reading]]:
        """End a window out of a load that goes on; returns its end, where the meter tells it best.

        That is ``latest_s`` for a meter that has no such time.
        """
        del token
        return self._stop(start_s, latest_s, within=True)

    def _stop(
        self, start_s: float, end_s: float, *, within: bool
    ) -> tuple[float, Sequence[Reading]]:
        answer = self._process.ask(
            "window_stop", meter=self.name, start_s=start_s, end_s=end_s, within=within
        )
        if not answer:
            return end_s, tuple(self._unmeasured(domain) for domain in self.domains)
        self.about = answer["about"]
        return answer["end_s"], tuple(from_dict(Reading, row) for row in answer["readings"])

    def close(self) -> None:
        """The process closes its own."""

    def _unmeasured(self, domain: str) -> Reading:
        return Reading(
            domain=domain,
            meter=self.name,
            method="counter",
            quality="unmeasured",
            reason=self._process.reason,
        )
