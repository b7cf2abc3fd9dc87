"""Meters of this host, for engines in containers: a worker of the role ``meter``, asked by frames.

The container's worker asks as if the meter were its own; see ``worker.host_meter``. What it is told
here of a window has figures only where its clock is this host's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llem.extensions import Launch, Transport
from pytest_llem.records import Reading
from pytest_llem.runners.frames import FrameReader
from pytest_llem.runners.joining import join
from pytest_llem.runners.local import start
from pytest_llem.wire import from_dict, to_dict

__all__ = ["QUESTIONS", "HostMeters"]

QUESTIONS = frozenset({"meter_request", "window_start", "window_stop"})
"""Frames of an engine's worker that are for a meter of the host."""

_ANSWER_S = 30.0
"""Finding a counter's tick takes a second or two, and starting an interpreter as long."""


class HostMeters:
    """Answers what workers in containers ask of this host's meters.

    The worker that reads them is started at the first question, and lives until :meth:`close`. One
    that fails isn't asked again: all that follows is unmeasured, with the reason.

    Attributes:
        names: of the meters that containers can't read themselves.
    """

    names = ("rapl",)

    def __init__(self, log: Path, starter: Callable[[Launch], Transport] = start) -> None:
        """Take the file for what the worker writes to standard error, and what starts it."""
        self._log = log
        self._starter = starter
        self._transport: Transport | None = None
        self._reader = FrameReader()
        self._frames: list[dict[str, Any]] = []
        self._boot_id: str | None = None
        self._broken = ""
        self._domains: dict[str, list[str]] = {}

    def answer(self, question: Mapping[str, Any], engine_boot_id: str | None) -> dict[str, Any]:
        """The frame that answers a worker's question.

        Args:
            question: a frame of one of ``QUESTIONS``.
            engine_boot_id: of that worker's hello.
        """
        kind, name = question["frame"], str(question.get("meter"))
        found = self._asked(question)
        if kind == "meter_request":
            domains = found.get("domains", [])
            if not isinstance(domains, list):
                found = self._lost(f"its domains can't be understood: {domains!r:.80}")
            self._domains[name] = list(map(str, found.get("domains", [])))
            empty = {"frame": "meter_ready", "domains": [], "estimates": False}
            return found or {**empty, "reason": self._broken}
        if kind == "window_start":
            return {"frame": "window_started"}
        readings = self._readings(name, found, engine_boot_id)
        return {"frame": "readings", "readings": [to_dict(reading) for reading in readings]}

    def close(self) -> None:
        """End the worker."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.stop(0.0)

    def _readings(
        self, name: str, found: Mapping[str, Any], engine_boot_id: str | None
    ) -> Sequence[Reading]:
        """Those of an answer; of none, or of one that makes no sense, the reason for that."""
        rows = found.get("readings")
        if found and isinstance(rows, list):
            try:
                readings = [from_dict(Reading, row) for row in rows]
            except ValueError as error:
                self._lost(f"its readings can't be understood: {error}")
            else:
                return join(readings, engine_boot_id, self._boot_id)
        elif found:
            self._lost(f"it answered {found['frame']!r:.40}, not readings")
        return self._unmeasured(name)

    def _unmeasured(self, name: str) -> list[Reading]:
        return [
            Reading(
                domain=domain,
                meter=name,
                method="counter",
                energy_j=None,
                quality="unmeasured",
                reason=self._broken,
            )
            for domain in self._domains.get(name, ())
        ]

    def _asked(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The worker's own answer; empty where it has none."""
        if self._broken:
            return {}
        try:
            if self._transport is None:
                self._transport = self._starter(Launch(backend="", log=self._log, role="meter"))
                self._boot_id = self._next().get("boot_id")
            self._transport.send(json.dumps(dict(question)).encode() + b"\n")
            found = self._next()
        except (OSError, ValueError, RecursionError) as error:
            return self._lost(str(error))
        if found["frame"] == "error":
            return self._lost(str(found.get("message")))
        return found

    def _lost(self, why: str) -> dict[str, Any]:
        self._broken = f"the worker that reads this host's counters failed: {why}"
        self.close()
        return {}

    def _next(self) -> dict[str, Any]:
        assert self._transport is not None
        deadline = time.monotonic() + _ANSWER_S
        while not self._frames:
            data = self._transport.receive(max(0.0, deadline - time.monotonic()))
            if not data:
                how = "it ended" if data is not None else f"no answer in {_ANSWER_S:g} s"
                raise OSError(f"{how}; its log: {self._log.name}")
            self._frames.extend(self._reader.feed(data))
        return self._frames.pop(0)
