"""The power trace: power, temperature and clocks of GPUs over time, from a process of its own.

The process that measures makes no call to NVML meanwhile: it says *on* before a window and *off*
after it, and asks for what was sampled when the window is over. Whatever goes wrong is a reason,
never an exception, and never a wait without end.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llem.meters.glance import Glance
from pytest_llem.meters.lines import Lines
from pytest_llem.meters.power_ticks import Tick

__all__ = ["Sample", "TickSeries", "Trace"]

_PROGRAM = (
    "import json, os, sys\n"
    "sys.path[:] = json.loads(sys.argv[1])\n"
    "from pytest_llem.meters.trace_process import main\n"
    "main(json.loads(sys.argv[2]))\n"
    "os._exit(0)\n"  # its threads may sit in a call of NVML
)
"""The package may live in an archive in memory: only ``sys.path`` knows where."""

_START_S = 20.0
_ANSWER_S = 10.0
_END_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a GPU told at one moment; None for what could not be read.

    Attributes:
        round: samples of one round belong together: they were made right after each other.
        gpu: which, by its place among the UUIDs that the trace was made with.
        at_s: when, by the monotonic clock.
        power_w: power now; where the GPU doesn't tell that, the same as ``usage_w``.
        usage_w: NVML's power usage, a mean over 1 s on most boards since Ampere.
        event_bits: why the clocks were not higher, by NVML's bits.
    """

    round: int
    gpu: int
    at_s: float
    power_w: float | None
    usage_w: float | None
    temperature_c: float | None
    sm_clock_mhz: int | None
    event_bits: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TickSeries:
    """When a GPU's power usage was renewed, and by what, in watts.

    Attributes:
        period_s: how often; None while that isn't known.
        reason: why some are missing; empty where none are.
    """

    period_s: float | None
    ticks: tuple[Tick, ...]
    reason: str = ""


class Trace:
    """A process that samples some GPUs between on and off.

    Attributes:
        reason: why it gives nothing, or no more; empty while it works.
        sources: for each GPU what its ``power_w`` is, ``instant`` or ``usage``; empty before the
            first :meth:`on`.
        reasons: for each GPU why something could not be read; filled by :meth:`samples`.
        cpu_s: CPU time that the process had used when it was last switched on or off.
    """

    def __init__(
        self, uuids: Sequence[str], hz: float | None = 10.0, *, ticks: bool = False
    ) -> None:
        """Start nothing yet.

        Args:
            uuids: of the GPUs.
            hz: samples a second; None for none.
            ticks: also watch for the moments at which the power usage is renewed.
        """
        self.reason = ""
        self.sources: tuple[str, ...] = ()
        self.reasons: tuple[str, ...] = ()
        self.cpu_s: float | None = None
        self._settings = {"uuids": list(uuids), "hz": hz, "ticks": ticks}
        self._glance = Glance()
        self._process: subprocess.Popen[bytes] | None = None
        self._greeted = False
        self._lines = Lines()

    @property
    def pid(self) -> int | None:
        """Process id; None where it isn't running."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process, and don't wait for it: importing takes it some time."""
        handle = self._glance.handle
        settings = json.dumps({**self._settings, "parent": os.getpid(), "glance": handle})
        # Isolated and without site: what may be imported is handed over.
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, json.dumps(sys.path), settings]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=() if handle is None else (handle,),
            )
        except (OSError, ValueError) as error:
            self._fail(f"the process of the power trace can't be started: {error}")

    def on(self) -> None:
        """Sample from now on. Waits until the process is there, for 20 s at most."""
        if not self._greeted and not self.reason:
            hello = self._receive(_START_S)
            self._greeted = True
            if hello is not None:
                self.sources = tuple(hello.get("sources", ()))
                self._refused(hello)
        self._switch("on")

    def off(self) -> None:
        """Sample no more; what was sampled is kept."""
        self._switch("off")

    @property
    def power_w(self) -> float | None:
        """Of all its GPUs at the latest sample; None while there is none. Asks nobody."""
        return self._glance.power_w

    def samples(self, from_s: float, to_s: float) -> tuple[Sample, ...]:
        """What was sampled between two times of the monotonic clock; nothing where it failed."""
        answer = self._ask({"do": "samples", "from": from_s, "to": to_s})
        self.reasons = tuple(answer.get("reasons", ()))
        return tuple(_sample(row) for row in answer.get("samples", ()))

    def ticks(self, from_s: float, to_s: float) -> tuple[TickSeries, ...]:
        """Renewals of each GPU's power usage between two times; empty where the trace failed."""
        answer = self._ask({"do": "ticks", "from": from_s, "to": to_s})
        return tuple(
            TickSeries(
                period_s=series["period_s"],
                reason=series["reason"],
                ticks=tuple(
                    Tick(lo_s=lo_s, hi_s=hi_s, value=value, seen=seen)
                    for lo_s, hi_s, value, seen in series["rows"]
                ),
            )
            for series in answer.get("ticks", ())
        )

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        self._glance.close()
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                # An engine may have closed what isn't its own.
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _switch(self, do: str) -> None:
        self.cpu_s = self._ask({"do": do}).get("cpu_s", self.cpu_s)

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """The answer to an order; empty where there is none, and then ``reason`` says why."""
        if self.reason or self._process is None or self._process.stdin is None:
            self.reason = self.reason or "the power trace isn't running"
            return {}
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
        except OSError:
            self._fail(self._ended())
            return {}
        answer = self._receive(_ANSWER_S)
        if answer is None or self._refused(answer):
            return {}
        return answer

    def _refused(self, answer: dict[str, Any]) -> bool:
        if "reason" in answer:
            self._fail(str(answer["reason"]))
        return "reason" in answer

    def _receive(self, limit_s: float) -> dict[str, Any] | None:
        """The next answer; None where none comes in time, and then ``reason`` says why."""
        try:
            line = self._line(limit_s)
            answer = None if line is None else json.loads(line)
            return answer if isinstance(answer, dict) else None
        except (OSError, ValueError) as error:
            self._fail(f"the power trace can't be heard: {error}")
            return None

    def _line(self, limit_s: float) -> bytes | None:
        """The next line; None where none comes in time, or none will come."""
        if self._process is None or self._process.stdout is None:
            return None
        try:
            return self._lines.next(self._process.stdout.fileno(), limit_s)
        except TimeoutError:
            self._fail(
                f"the power trace did not answer within {limit_s:g} s; NVML hangs, or the"
                " machine is very busy: see whether nvidia-smi answers"
            )
        except EOFError:
            self._fail(self._ended())
        return None

    def _ended(self) -> str:
        status = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(_END_S)
        return f"the process of the power trace ended (exit status {status}); see the worker's log"

    def _fail(self, reason: str) -> None:
        self.reason = reason
        if self._process is not None:
            self._process.kill()
        self.close()


def _sample(row: Sequence[Any]) -> Sample:
    number, gpu, at_s, power_w, usage_w, celsius, clock, bits = row
    return Sample(
        round=number,
        gpu=gpu,
        at_s=at_s,
        power_w=power_w,
        usage_w=usage_w,
        temperature_c=None if celsius is None else float(celsius),
        sm_clock_mhz=clock,
        event_bits=bits,
    )
