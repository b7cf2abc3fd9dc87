"""Meters around a window while an event loop goes on: a thread waits for them."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pytest_llem.extensions import Meter
from pytest_llem.meters.within import VARIES
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

    async def stop(self, start_s: float, latest_s: float) -> tuple[float, Sequence[Reading]]:
        """Stop them; returns when the window ended, ``latest_s`` or about then, and readings."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._stop, start_s, latest_s)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False)

    def _start(self) -> float:
        self._tokens = [(meter, meter.start(exact=True)) for meter in self._meters]
        return self._clock()

    def _stop(self, start_s: float, latest_s: float) -> tuple[float, Sequence[Reading]]:
        tokens, self._tokens = self._tokens, []
        end_s = latest_s
        found: list[tuple[float, Reading]] = []
        for meter, token in reversed(tokens):
            stop_within = getattr(meter, "stop_within", None)
            if stop_within is None:
                told_s, readings = latest_s, meter.stop(token, start_s, latest_s)
            else:
                told_s, readings = stop_within(token, start_s, latest_s)
            # One window for all: of two that want an end of their own, the first one's.
            end_s = told_s if end_s == latest_s else end_s
            found.extend((told_s, reading) for reading in readings)
        return end_s, [_moved(reading, start_s, told_s, end_s) for told_s, reading in found]


def _moved(reading: Reading, start_s: float, told_s: float, end_s: float) -> Reading:
    """A reading of a window that ends at ``told_s``, as of one that ends at ``end_s``.

    The load is steady, so it is the mean power times the difference, which isn't long.
    """
    if reading.energy_j is None or told_s in {end_s, start_s}:
        return reading
    power_w = reading.energy_j / (told_s - start_s)
    by_s = end_s - told_s
    spread_j = reading.uncertainty_j
    if spread_j is not None:
        spread_j = math.hypot(spread_j, VARIES * power_w * by_s)
    return dataclasses.replace(
        reading, energy_j=reading.energy_j + power_w * by_s, uncertainty_j=spread_j
    )
