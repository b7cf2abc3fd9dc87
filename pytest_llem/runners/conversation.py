"""Speaks the worker's protocol over any transport: handshake, request, phases, result."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from pytest_llem.errors import EngineMissing, WorkerError
from pytest_llem.extensions import Transport
from pytest_llem.records import PROTOCOL, Experiment, Measurement, from_dict, to_dict

__all__ = ["FrameReader", "converse"]

_HELLO_S = 60.0
_EXIT_S = 10.0
_GRACE_S = 30.0
_LOG_LINES = 40
_MAX_FRAME_BYTES = 64 * 1024 * 1024


class FrameReader:
    """Cuts a stream of bytes into frames: JSON objects with a ``frame`` field, one a line."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The frames that are complete with these bytes.

        Raises:
            ValueError: when a line isn't a frame, holds NaN or an infinity, or is too long.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_FRAME_BYTES:
            raise ValueError(f"a frame is longer than {_MAX_FRAME_BYTES} bytes")
        for line in lines:
            frame = json.loads(line, parse_constant=_refuse, parse_float=_finite)
            if not isinstance(frame, dict) or not isinstance(frame.get("frame"), str):
                raise ValueError(f"not a frame: {line[:80]!r}")
            yield frame


def _finite(text: str) -> float:
    number = float(text)
    return number if abs(number) < float("inf") else _refuse(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number that can be reported")


def converse(
    transport: Transport,
    experiment: Experiment,
    digest: str,
    cycle: int,
    on_phase: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Have a started worker make one measurement, and end it whatever happens.

    Args:
        transport: of a worker that nobody has spoken to yet.
        experiment: what to measure.
        digest: of the experiment.
        cycle: from 1.
        on_phase: told the name of each phase that begins.

    Raises:
        EngineMissing: when the worker has no engine for the backend.
        WorkerError: when it delivers no measurement, with cause, fix and the end of its log.
    """
    conversation = _Conversation(transport, experiment, on_phase)
    try:
        measurement = conversation.measurement(digest, cycle)
    except BaseException:
        transport.stop(0.0)
        raise
    transport.wait(_EXIT_S)
    transport.stop(0.0)
    return measurement


def signal_name(number: int) -> str:
    """``SIGSEGV`` for 11; real-time signals and what isn't one have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Conversation:
    """One request to one worker, with a deadline for each of its parts."""

    def __init__(
        self, transport: Transport, experiment: Experiment, on_phase: Callable[[str], None]
    ) -> None:
        self._transport = transport
        self._experiment = experiment
        self._on_phase = on_phase
        self._reader = FrameReader()
        self._frames: list[dict[str, Any]] = []
        self._phase = "start"
        self._requested = False
        self._limit_s = _HELLO_S
        self._deadline = time.monotonic() + _HELLO_S

    def measurement(self, digest: str, cycle: int) -> Measurement:
        """Handshake, request, and frames until the result."""
        self._check_hello(self._next())
        self._allow(self._experiment.load_timeout_s)
        request = {
            "frame": "request",
            "experiment": to_dict(self._experiment),
            "digest": digest,
            "cycle": cycle,
        }
        self._transport.send(json.dumps(request).encode() + b"\n")
        self._requested = True
        while True:
            frame = self._next()
            if frame["frame"] == "phase":
                self._enter(str(frame.get("phase")))
            elif frame["frame"] == "result":
                return self._result(frame.get("measurement"), digest, cycle)
            elif frame["frame"] == "error":
                self._raised(frame)
            elif frame["frame"] != "progress":
                self._fail("protocol", f"the worker sent an unknown frame {frame['frame']!r:.80}")

    def _allow(self, seconds: float) -> None:
        self._limit_s = seconds
        self._deadline = time.monotonic() + seconds

    def _enter(self, phase: str) -> None:
        if self._phase == "load":
            # One limit for all that follows, as the user wrote it.
            self._allow(self._experiment.timeout_s)
        self._phase = phase
        self._on_phase(phase)

    def _next(self) -> dict[str, Any]:
        """The next frame; the failure when there is none in time."""
        while not self._frames:
            if time.monotonic() > self._deadline:  # also for one who never stops talking
                self._late()
            data = self._transport.receive(self._deadline - time.monotonic())
            if data is None:
                self._late()
            if not data:
                self._ended()
            try:
                self._frames.extend(self._reader.feed(data))
            except (ValueError, RecursionError) as error:
                self._fail("protocol", f"the worker's output can't be understood: {error}")
        return self._frames.pop(0)

    def _check_hello(self, hello: dict[str, Any]) -> None:
        if hello["frame"] == "error":
            self._raised(hello)
        if hello["frame"] != "hello" or hello.get("protocol") != PROTOCOL:
            spoken = hello.get("protocol")
            self._fail("protocol", f"the worker speaks protocol {spoken}, this is {PROTOCOL}")
        versions = hello.get("versions") or {}
        if not isinstance(versions, dict):
            self._fail("protocol", f"the worker's hello names no versions: {versions!r:.80}")
        missing = [name for name, version in versions.items() if version is None]
        if missing:
            raise EngineMissing(
                f"backend {self._experiment.backend}: {' and '.join(missing)} not installed",
                kind="missing",
                fix=str(hello.get("install")),
            )

    def _result(self, data: Any, digest: str, cycle: int) -> Measurement:
        try:
            measurement = from_dict(Measurement, data)
        except (ValueError, TypeError, AttributeError) as error:
            self._fail("protocol", f"the worker's result can't be understood: {error}")
        asked = (self._experiment.id, digest, cycle)
        if (measurement.experiment, measurement.digest, measurement.cycle) != asked:
            self._fail("protocol", "the worker's result is of another experiment or cycle")
        return measurement

    # --- ways to fail ----------------------------------------------------------------------

    def _fail(self, kind: str, message: str, fix: str = "") -> NoReturn:
        self._transport.stop(_GRACE_S if kind == "timeout" else 0.0)
        tail = self._transport.log_tail(_LOG_LINES)
        raise WorkerError(message, kind=kind, fix=fix, log_tail=tail)

    def _raised(self, frame: dict[str, Any]) -> NoReturn:
        kind, message = str(frame.get("kind")), str(frame.get("message"))
        if kind == "refused":
            self._fail("refused", message)
        where = f"{self._experiment.backend} failed in {self._phase}"
        self._fail("raised", f"{where}: {kind}: {message}")

    def _late(self) -> NoReturn:
        fix = "see what keeps the interpreter from starting: the log, the disk, other processes"
        if self._requested:
            name = "load_timeout_s" if self._phase in {"start", "load"} else "timeout_s"
            fix = f"raise {name}, or make the experiment smaller"
        self._fail("timeout", f"no end of {self._phase} within {self._limit_s:g} s", fix)

    def _ended(self) -> NoReturn:
        status = self._transport.wait(_EXIT_S)
        how = "it closed its output and went on" if status is None else f"exit status {status}"
        if status is not None and status < 0:
            how = signal_name(-status)
        fix = ""
        if status == -signal.SIGKILL:
            how += ", which the system sends when memory runs out"
            fix = "lower batch_size, or use a machine with more memory"
        self._fail("crashed", f"the worker ended in {self._phase} without a result ({how})", fix)
