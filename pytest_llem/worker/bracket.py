"""Meters around a window while an event loop goes on: a thread waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pytest_llem.extensions import Meter
from pytest_llem.records import Reading
from pytest_llem.worker.repeats import Clock

__all__ = ["MeterBracket"]


class MeterBracket:
    """Starts and stops meters as :class:`.phases.Phases` does, without blocking the loop.

    A meter that waits for the ticks of a counter here would compete with the engine for this
    process's interpreter. Such a one is to be in a process of its own (``meter_process``), so that
    the thread only waits for an answer.
    """

    def __init__(self, meters: Sequence[Meter], clock: Clock) -> None:
        """Take the meters, and the clock that windows are timed by."""
        self._meters = meters
        self._clock = clock
        self._tokens: list[tuple[Meter, Any]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="llem-meters")

    async def start(self) -> float:
        """Start them; returns when the window began."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._start)

    async def stop(self, start_s: float, end_s: float) -> Sequence[Reading]:
        """Stop them; the window lay between the two times."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._stop, start_s, end_s)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False)

    def _start(self) -> float:
        self._tokens = [(meter, meter.start(exact=True)) for meter in self._meters]
        return self._clock()

    def _stop(self, start_s: float, end_s: float) -> Sequence[Reading]:
        tokens, self._tokens = self._tokens, []
        found: list[Reading] = []
        for meter, token in reversed(tokens):
            found.extend(meter.stop(token, start_s, end_s))
        return found
