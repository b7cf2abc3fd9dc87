"""Speaks the worker's protocol over any transport: handshake, request, phases, result."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from pytest_llem import __version__
from pytest_llem.errors import EngineMissing, WorkerError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Transport
from pytest_llem.metrics import METRICS
from pytest_llem.records import Idle, Measurement
from pytest_llem.runners.beside import QUESTIONS, HostMeters
from pytest_llem.runners.frames import FrameReader
from pytest_llem.wire import OLDEST_PROTOCOL, PROTOCOL, checksum, from_dict, to_dict

__all__ = ["Listener", "Mode", "Patience", "Progress", "Worker", "converse", "signal_name"]

Mode = Literal["fresh", "forked", "reuse"]
"""How a worker came to be."""

_EXIT_S = 10.0
_GRACE_S = 30.0
_LOG_LINES = 40
_TICK_S = 0.5
_WAIT_S = 120.0
"""The worker itself waits no longer than a minute for others to leave a GPU."""
_LOADING = {"start", "wait", "load"}
_WATCHED = {"warmup", "pilot", "measure", "prefill"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a worker is.

    Attributes:
        phase: ``start wait load idle warmup pilot measure prefill close``.
        elapsed_s: since the phase began.
        done: requests finished, of ``total``; both 0 where nothing is counted.
        power_w: of the experiment's GPUs a moment ago; None where it isn't known.
    """

    phase: str
    elapsed_s: float
    done: int = 0
    total: int = 0
    power_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for a worker where the experiment doesn't say.

    Attributes:
        hello_s: from its start to its first word.
        silence_s: without a frame or a byte of its log, while requests are made.
    """

    hello_s: float = 60.0
    silence_s: float = 300.0


class Listener:
    """Hears what goes on; does nothing. Override what matters."""

    def progress(self, progress: Progress) -> None:
        """Called at each change, and twice a second."""

    def waits(self, what: str, waited_s: float) -> None:
        """Called now and then while others have the devices: what is waited for, and who has it."""

    def series(self, requests: Sequence[Any]) -> None:
        """Times of some requests, as plain JSON data; may be called several times."""

    def trace(self, samples: Sequence[Any]) -> None:
        """Samples of the power trace, as plain JSON data; may be called several times."""


def converse(
    transport: Transport,
    experiment: Experiment,
    digest: str,
    cycle: int,
    listener: Listener | None = None,
    patience: Patience = Patience(),
    idle: Idle | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Measurement:
    """Have a started worker make one measurement, and end it whatever happens.

    As :meth:`Worker.measure` for a worker that nobody has spoken to yet. ``clock`` tells seconds;
    by it the transport waits.
    """
    worker = Worker(transport, patience, clock=clock)
    measurement = worker.measure(experiment, digest, cycle, listener, idle=idle)
    worker.close()
    return measurement


def signal_name(number: int) -> str:
    """``SIGSEGV`` for 11; real-time signals and what isn't one have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Worker:
    """A started worker that nobody has spoken to yet: asked for one measurement after another."""

    def __init__(
        self,
        transport: Transport,
        patience: Patience = Patience(),
        beside: HostMeters | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over a worker.

        Args:
            transport: to it.
            patience: how long to wait for it.
            beside: meters of this host, for a worker that can't read them itself.
            clock: in seconds; by it the transport waits.
        """
        self._transport = transport
        self._clock = clock
        self._silence_s = patience.silence_s
        self._beside = beside
        self._boot_id: str | None = None
        self._reader = FrameReader()
        self._frames: list[dict[str, Any]] = []
        self._phase = "start"
        self._begun = self._clock()
        self._counts = (0, 0)
        self._power_w: float | None = None
        self._requested = self._kept = False
        self._limit_s = patience.hello_s
        self._deadline = self._begun + patience.hello_s
        self._heard = self._begun
        self._log_size = 0
        self._experiment: Experiment
        self._listener = Listener()
        self._mode: Mode = "fresh"

    def measure(
        self,
        experiment: Experiment,
        digest: str,
        cycle: int,
        listener: Listener | None = None,
        *,
        idle: Idle | None = None,
        keep: bool = False,
        mode: Mode | None = None,
    ) -> Measurement:
        """Have one measurement made; a worker that delivers none is ended.

        Args:
            experiment: what to measure.
            digest: of the experiment.
            cycle: from 1.
            listener: hears of progress and raw series.
            idle: power of the same loaded state, measured lately; it need not be measured then.
            keep: the engine stays loaded for the next measurement, which must share everything
                that it was built from.
            mode: how this worker came to be, for the testbed; told by ``keep`` where not given.

        Raises:
            EngineMissing: when the worker has no engine for the backend.
            WorkerError: when it delivers no measurement, with cause, fix and the end of its log.
        """
        self._experiment = experiment
        self._listener = listener or Listener()
        self._mode = mode or ("reuse" if keep else "fresh")
        try:
            return self._measurement(digest, cycle, idle, keep=keep)
        except BaseException:
            self._transport.stop(0.0)
            raise

    def close(self) -> None:
        """Have it close its engine, if it kept one, and end."""
        if self._kept:
            self._send({"frame": "close"})
        self._transport.wait(_GRACE_S if self._kept else _EXIT_S)
        self._transport.stop(0.0)

    def _measurement(
        self, digest: str, cycle: int, idle: Idle | None, *, keep: bool
    ) -> Measurement:
        """Handshake, request, and frames until the result."""
        if not self._requested:
            self._check_hello(self._next())
        self._phase = "start"
        self._begun = self._clock()
        self._allow(self._experiment.load_timeout_s)
        request = {
            "frame": "request",
            "experiment": to_dict(self._experiment),
            "digest": digest,
            "cycle": cycle,
            "idle": idle and to_dict(idle),
            "beside": [] if self._beside is None else list(self._beside.names),
            "pids": hasattr(self._transport, "pids"),
            "keep": keep,
            "worker": self._mode,
            "secrets": dict(getattr(self._transport, "secrets", {})),
        }
        self._send(request)
        self._requested, self._kept = True, keep
        while (frame := self._next())["frame"] != "result":
            self._take(frame)
        return self._result(frame, digest, cycle)

    def _send(self, frame: Mapping[str, Any]) -> None:
        self._transport.send(json.dumps(frame).encode() + b"\n")

    def _take(self, frame: dict[str, Any]) -> None:
        """Deal with a frame that isn't the result."""
        kind = frame["frame"]
        if kind == "phase":
            self._enter(str(frame.get("phase")))
        elif kind == "progress":
            done, total = frame.get("done"), frame.get("total")
            self._counts = (done, total) if type(done) is type(total) is int else (0, 0)
            power_w = frame.get("power_w")
            self._power_w = power_w if type(power_w) is float else None
        elif kind == "series" and isinstance(frame.get("requests"), list):
            self._listener.series(frame["requests"])
        elif kind == "series" and isinstance(frame.get("trace"), list):
            self._listener.trace(frame["trace"])
        elif kind in QUESTIONS and self._beside is not None:
            self._send(self._beside.answer(frame, self._boot_id))
        elif kind == "pids_request" and hasattr(self._transport, "pids"):
            pids, reason = self._transport.pids()
            self._send({"frame": "pids", "pids": pids, "reason": reason})
        elif kind == "error":
            self._raised(frame)
        else:
            self._fail("protocol", f"the worker sent an unknown frame {kind!r:.80}")
        self._tell()

    def _tell(self) -> None:
        done, total = self._counts
        elapsed_s = self._clock() - self._begun
        self._listener.progress(
            Progress(
                phase=self._phase,
                elapsed_s=elapsed_s,
                done=done,
                total=total,
                power_w=self._power_w,
            )
        )

    def _allow(self, seconds: float) -> None:
        self._limit_s = seconds
        self._deadline = self._clock() + seconds

    def _enter(self, phase: str) -> None:
        if phase == "wait":
            self._allow(max(_WAIT_S, self._experiment.load_timeout_s))
        elif phase == "load":
            # Others may have kept it from loading so far.
            self._allow(self._experiment.load_timeout_s)
        elif self._phase in _LOADING:
            # One limit for all that follows, as the user wrote it.
            self._allow(self._experiment.timeout_s)
        self._phase = phase
        self._begun = self._clock()
        self._counts, self._power_w = (0, 0), None

    def _next(self) -> dict[str, Any]:
        """The next frame; the failure when there is none in time."""
        while not self._frames:
            now = self._clock()
            if now > self._deadline:  # also for one who never stops talking
                self._late()
            data = self._transport.receive(min(self._deadline - now, _TICK_S))
            if data is None:
                self._check_silence()
                self._tell()
                continue
            if not data:
                self._ended()
            self._heard = self._clock()
            try:
                self._frames.extend(self._reader.feed(data))
            except (ValueError, RecursionError) as error:
                self._fail("protocol", f"the worker's output can't be understood: {error}")
        return self._frames.pop(0)

    def _check_silence(self) -> None:
        """End a worker that shows no sign of life in a phase that should be full of them."""
        now = self._clock()
        if (size := self._transport.log_size()) != self._log_size:
            self._log_size, self._heard = size, now
        if self._phase in _WATCHED and now - self._heard > self._silence_s:
            self._fail(
                "timeout",
                f"nothing was heard from {self._phase} for {self._silence_s:g} s",
                fix="see the log; a batch may take too long: lower batch_size or output_tokens",
            )

    def _check_hello(self, hello: dict[str, Any]) -> None:
        if hello["frame"] == "error":
            self._raised(hello)
        spoken = hello.get("protocol")
        known = type(spoken) is int and OLDEST_PROTOCOL <= spoken <= PROTOCOL
        if hello["frame"] != "hello" or not known:
            self._fail(
                "protocol",
                f"the worker (pytest-llem {hello.get('llem')}) speaks protocol {spoken},"
                f" this is pytest-llem {__version__} with {OLDEST_PROTOCOL} to {PROTOCOL}",
            )
        self._boot_id = hello.get("boot_id")
        versions = hello.get("versions") or {}
        if not isinstance(versions, dict):
            self._fail("protocol", f"the worker's hello names no versions: {versions!r:.80}")
        missing = [name for name, version in versions.items() if version is None]
        if missing:
            self._lack(missing, str(hello.get("install")))

    def _lack(self, missing: Sequence[str], install: str) -> NoReturn:
        """The engine isn't there; into an image nobody installs it now."""
        backend, what = self._experiment.backend, " and ".join(missing)
        message = f"backend {backend}: {what} not installed"
        place = getattr(self._transport, "about", {})
        if image := place.get("image"):
            message += f" in image {image}"
            install = f"name an image that has it: --llem-runner-{backend}=docker:IMAGE"
        elif python := place.get("python"):
            message += f" in the environment of {python}"
            install = install.replace("pip install", f"{python} -m pip install", 1)
        raise EngineMissing(message, kind="missing", fix=install)

    def _result(self, frame: dict[str, Any], digest: str, cycle: int) -> Measurement:
        data = frame.get("measurement")
        if frame.get("sha256") != checksum(data):
            self._fail("protocol", "the worker's result was damaged on its way")
        try:
            measurement = from_dict(Measurement, data or {})
        except (ValueError, TypeError, AttributeError) as error:
            self._fail("protocol", f"the worker's result can't be understood: {error}")
        if missing := [name for name in METRICS if name not in measurement.metrics]:
            self._fail("protocol", f"the worker's result has no {', '.join(missing[:3])}")
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
            self._fail("refused", message, str(frame.get("fix") or ""))
        where = f"{self._experiment.backend} failed in {self._phase}"
        self._fail("raised", f"{where}: {kind}: {message}")

    def _late(self) -> NoReturn:
        fix = "see what keeps the interpreter from starting: the log, the disk, other processes"
        if self._requested:
            name = "load_timeout_s" if self._phase in _LOADING else "timeout_s"
            fix = f"raise {name}, or make the experiment smaller"
        self._fail("timeout", f"no end of {self._phase} within {self._limit_s:g} s", fix)

    def _ended(self) -> NoReturn:
        status = self._transport.wait(_EXIT_S)
        # A place may know more of it than the status says.
        if known := getattr(self._transport, "why_ended", lambda: None)():
            what, fix = known
            self._fail(
                "crashed", f"the worker ended in {self._phase} without a result: {what}", fix
            )
        how = "it closed its output and went on" if status is None else f"exit status {status}"
        if status is not None and status < 0:
            how = signal_name(-status)
        fix = ""
        if status == -signal.SIGKILL:
            how += ", which the system sends when memory runs out"
            fix = "lower batch_size, or use a machine with more memory"
        self._fail("crashed", f"the worker ended in {self._phase} without a result ({how})", fix)
