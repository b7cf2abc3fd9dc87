"""The phases of a measurement: each a window with its readings."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from pytest_llem.extensions import Meter
from pytest_llem.records import Reading, Window
from pytest_llem.worker.repeats import Clock, Emit

__all__ = ["EXACT", "Phases"]

EXACT = frozenset({"idle", "pilot", "measure", "prefill"})
"""Phases that metrics are made of, and those that say how long such a one must be."""


class Phases:
    """Times the phases of a measurement and reads the meters around each.

    Attributes:
        clock: what they are timed by; as ``time.monotonic()``, by which meters read.
    """

    def __init__(self, emit: Emit, clock: Clock = time.monotonic) -> None:
        """Start with no meters: what can be read is known only when the device is."""
        self.clock = clock
        self.windows: list[Window] = []
        self.meters: Sequence[Meter] = ()
        self._emit = emit

    @contextlib.contextmanager
    def phase(self, name: str, exact: bool | None = None) -> Iterator[None]:
        """A window around the body; it is recorded also when the body raises."""
        self._emit("phase", phase=name)
        exact = name in EXACT if exact is None else exact
        tokens = [(meter, meter.start(exact=exact)) for meter in self.meters]
        start_s = self.clock()
        try:
            yield
        finally:
            end_s = self.clock()
            readings: list[Reading] = []
            for meter, token in reversed(tokens):
                readings.extend(meter.stop(token, start_s, end_s))
            window = Window(
                phase=name,
                start_s=start_s,
                duration_s=end_s - start_s,
                readings=tuple(readings),
            )
            self.windows.append(window)

    def last(self, name: str) -> Window:
        """The latest window of a phase that took place."""
        return next(window for window in reversed(self.windows) if window.phase == name)
