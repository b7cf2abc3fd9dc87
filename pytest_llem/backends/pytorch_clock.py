"""When a batch's steps ended: by this host's clock, or by the GPU's own events.

On a GPU a step's end is known to the host only after a synchronise, and one for each token would
hold the GPU up between steps. Events are stamped by the GPU as it passes them; they are read after
the batch and mapped onto the monotonic clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Clock", "CudaEvents", "EventClock", "Events", "HostClock", "Stamps", "clock_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamps:
    """Times of a batch, by the monotonic clock.

    Attributes:
        submitted_s: when it was handed to the device.
        token_s: the end of each step.
    """

    submitted_s: float
    token_s: tuple[float, ...]


class Clock(Protocol):
    """Times one batch after another."""

    def start(self) -> None:
        """A batch begins; nothing before it is left on the device."""

    def mark(self) -> None:
        """Here ends a step, as soon as the device gets to it."""

    def stop(self) -> Stamps:
        """Wait for the device; the times of the batch."""


class HostClock:
    """For a device that is done when its call returns, or that can be waited for at each step."""

    def __init__(
        self,
        wait: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``wait`` returns when the device is done."""
        self._wait = wait
        self._now = now
        self._times: list[float] = []

    def start(self) -> None:
        """Take the time."""
        self._wait()
        self._times = [self._now()]

    def mark(self) -> None:
        """Take the time."""
        self._wait()
        self._times.append(self._now())

    def stop(self) -> Stamps:
        """The times taken."""
        submitted_s, *token_s = self._times
        return Stamps(submitted_s=submitted_s, token_s=tuple(token_s))


class Events(Protocol):
    """Marks in a device's queue of work, stamped by the device as it passes them."""

    def record(self) -> Any:
        """A new mark at the end of the queue."""

    def synchronize(self) -> None:
        """Wait until the queue is empty."""

    def elapsed_s(self, first: Any, last: Any) -> float:
        """Seconds on the device's clock between two marks that it has passed."""


class EventClock:
    """Reads a device's events and says when they were by the monotonic clock."""

    def __init__(self, events: Events, now: Callable[[], float] = time.monotonic) -> None:
        """Take a source of events."""
        self._events = events
        self._now = now
        self._marks: list[Any] = []
        self._before_s = self._after_s = 0.0

    def start(self) -> None:
        """Record the origin, on an empty queue."""
        self._events.synchronize()
        self._before_s = self._now()
        self._marks = [self._events.record()]
        self._events.synchronize()
        self._after_s = self._now()

    def mark(self) -> None:
        """Record a mark; the host doesn't wait for it."""
        self._marks.append(self._events.record())

    def stop(self) -> Stamps:
        """Wait for the last mark, and map all of them.

        The host reads its clock late by the time a synchronise takes to return, at the origin and
        at the end alike, and later still where it is busy. Both readings say when the origin was
        at the latest; the earlier of them is nearer to the truth. It was not before it was
        recorded.
        """
        self._events.synchronize()
        end_s = self._now()
        first, *rest = self._marks
        passed_s = [self._events.elapsed_s(first, mark) for mark in rest]
        last_s = passed_s[-1] if passed_s else 0.0
        origin_s = max(self._before_s, min(self._after_s, end_s - last_s))
        return Stamps(submitted_s=origin_s, token_s=tuple(origin_s + s for s in passed_s))


class CudaEvents:
    """Events of CUDA, or of HIP by the same names, on the current stream."""

    def __init__(self, torch: Any) -> None:
        """Take the module."""
        self._cuda = torch.cuda

    def record(self) -> Any:
        """An event behind all that the stream was given."""
        event = self._cuda.Event(enable_timing=True)
        event.record()
        return event

    def synchronize(self) -> None:
        """Wait for the device."""
        self._cuda.synchronize()

    def elapsed_s(self, first: Any, last: Any) -> float:
        """Seconds between two events; CUDA resolves about half a microsecond."""
        return float(first.elapsed_time(last)) / 1e3


def clock_of(device: str, torch: Any) -> Clock:
    """The clock that fits a device."""
    if device == "cuda":
        return EventClock(CudaEvents(torch))
    return HostClock(torch.mps.synchronize) if device == "mps" else HostClock()
