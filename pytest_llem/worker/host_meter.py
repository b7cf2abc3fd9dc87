"""A meter of the host, for an engine in a container: asked over the worker's own frames.

The answers come from a worker of the role ``meter`` (:mod:`.beside`), which the host starts and
passes the frames on to. A window begins only when the host's meter has begun its own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from pytest_llem.errors import LlemError
from pytest_llem.extensions import Meter, Target
from pytest_llem.records import Reading
from pytest_llem.wire import from_dict
from pytest_llem.worker.choose import FindMeter, own_meter
from pytest_llem.worker.repeats import Emit

__all__ = ["Host", "HostMeter", "host_meters"]


class Host:
    """Whoever started this worker, to be asked a question."""

    def __init__(self, emit: Emit, lines: Iterable[str]) -> None:
        """Take what sends a frame, and the lines of standard input."""
        self._emit = emit
        self._lines = iter(lines)

    def ask(self, frame: str, answer: str, **fields: Any) -> dict[str, Any]:
        """Send a frame, and wait for the one that answers it.

        Raises:
            LlemError: when another one comes, or none.
        """
        self._emit(frame, **fields)
        found: dict[str, Any] = json.loads(next(self._lines, "{}"))
        if found.get("frame") != answer:
            raise LlemError(f"the host answered {frame} with {found.get('frame')!r:.40}")
        return found


class HostMeter:
    """A meter that reads counters of the host."""

    def __init__(self, name: str, target: Target, host: Host) -> None:
        """Ask what it reads of the target."""
        self.name = name
        self._host = host
        ready = host.ask(
            "meter_request", "meter_ready", meter=name, device=target.device, count=target.count
        )
        self.domains: Sequence[str] = tuple(ready["domains"])
        self.estimates: bool = ready["estimates"]
        self.reason: str = ready["reason"]

    def start(self, exact: bool = True) -> None:
        """Begin a window; returns when the host's meter has begun its own."""
        self._host.ask("window_start", "window_started", meter=self.name, exact=exact)

    def stop(self, token: None, start_s: float, end_s: float) -> Sequence[Reading]:
        """End the window that lay between the two times of the monotonic clock."""
        del token
        answer = self._host.ask(
            "window_stop", "readings", meter=self.name, start_s=start_s, end_s=end_s
        )
        return tuple(from_dict(Reading, row) for row in answer["readings"])

    def close(self) -> None:
        """The host closes its own."""


def host_meters(beside: Collection[str], host: Host, own: FindMeter = own_meter) -> FindMeter:
    """What makes a meter by its name: those that the host has beside the worker, and our own."""

    def make(name: str, target: Target) -> Meter:
        return HostMeter(name, target, host) if name in beside else own(name, target)

    return make
