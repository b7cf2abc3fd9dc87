"""The role ``meter``: meters of this host, for the windows of an engine that runs elsewhere.

An engine in a container can't read some counters of its host. There the same program runs a second
time, on the host and without an engine, and is told of the windows:

    host to worker                             worker to host
    meter_request {meter, device, count}       meter_ready {domains, estimates, reason}
    window_start {meter, exact}                window_started
    window_stop {meter, start_s, end_s}        readings {readings, end_s, about}
    close

With ``within: true`` a window may end where the meter tells it best, about ``end_s``; otherwise it
ends there. Times are the engine's, of the monotonic clock. All processes on one kernel share that
clock. The hellos name the boot that workers live in, and the host joins them only where it is the
same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_llem.errors import LlemError
from pytest_llem.extensions import METERS, Meter, Target, find, names
from pytest_llem.wire import to_dict

__all__ = ["boot_id", "describe_meters", "serve_windows"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str | None:
    """What the kernel calls the time since it was started; None on other systems than Linux."""
    try:
        return _BOOT_ID.read_text().strip() or None
    except OSError:
        return None


def describe_meters() -> list[dict[str, Any]]:
    """Every meter there is: what it could read here, and what keeps it from that."""
    found = []
    for name in names(METERS):
        row: dict[str, Any] = {"name": name, "estimates": False, "domains": {}, "error": None}
        row |= {"problems": {}, "reason": ""}
        try:
            for device in ("cpu", "cuda"):
                meter: Meter = find(METERS, name)(Target(device=device, count=None))
                row["estimates"] = meter.estimates
                row["domains"][device] = list(meter.domains)
                row["problems"] |= getattr(meter, "problems", {})
                row["reason"] = str(getattr(meter, "reason", ""))
                meter.close()
        except Exception as error:  # a third party's code: whatever it is, doctor must say it
            row["error"] = str(error) or type(error).__name__
        found.append(row)
    return found


def serve_windows(lines: Iterable[str], send: Callable[..., None]) -> None:
    """Answer frames until one says ``close``, or there are no more.

    Args:
        lines: of standard input, a frame each.
        send: sends a frame: its kind, then its fields by name.

    Raises:
        LlemError: for a frame that can't be answered.
    """
    desk = _Desk()
    try:
        for line in lines:
            frame = json.loads(line)
            if frame["frame"] == "close":
                return
            kind, fields = desk.answer(frame)
            send(kind, **fields)
    finally:
        desk.close()


class _Desk:
    """The meters, and the windows that are open."""

    def __init__(self) -> None:
        self._meters: dict[str, Meter] = {}
        self._tokens: dict[str, Any] = {}

    def answer(self, frame: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        kind, name = frame["frame"], frame.get("meter")
        if kind == "meter_request" and isinstance(name, str):
            return "meter_ready", self._open(
                name, Target(device=frame["device"], count=frame["count"])
            )
        if kind == "window_start" and name in self._meters:
            self._tokens[name] = self._meters[name].start(exact=frame["exact"])
            return "window_started", {}
        if kind == "window_stop" and name in self._tokens:
            meter, token = self._meters[name], self._tokens.pop(name)
            start_s, end_s = frame["start_s"], frame["end_s"]
            # Not every meter wants an end of its own.
            stop_within = getattr(meter, "stop_within", None) if frame.get("within") else None
            if stop_within is None:
                found = meter.stop(token, start_s, end_s)
            else:
                end_s, found = stop_within(token, start_s, end_s)
            about = {key: dict(row) for key, row in getattr(meter, "about", {}).items()}
            return "readings", {
                "readings": [to_dict(reading) for reading in found],
                "end_s": end_s,
                "about": about,
            }
        raise LlemError(f"a meter can't answer {kind!r:.40} now")

    def _open(self, name: str, target: Target) -> dict[str, Any]:
        if name in self._meters:
            self._meters.pop(name).close()
            self._tokens.pop(name, None)
        meter: Meter = find(METERS, name)(target)
        self._meters[name] = meter
        return {
            "domains": list(meter.domains),
            "estimates": meter.estimates,
            "reason": meter.reason,
        }

    def close(self) -> None:
        self._tokens.clear()
        while self._meters:
            self._meters.popitem()[1].close()
