"""Idle power that was measured in this session, for later measurements of the same loaded state.

Waiting half a minute before each measurement would often take longer than the measurement. With
the same engine loaded on the same devices an idle device draws the same, for a while.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from pytest_llem.experiment import Experiment
from pytest_llem.records import IDLE_LASTS_S, Idle, Measurement

__all__ = ["IdleStore"]

_CLEAN = frozenset({"ok", "estimated"})
"""Qualities worth handing on; an estimate stays one, and counts only beside estimates."""


@dataclass(frozen=True, slots=True)
class _Known:
    idle: Idle
    ended_s: float


class IdleStore:
    """The latest idle power of each loaded state.

    Whether it does for a measurement is the worker's to decide, who knows what is read there.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none; ``clock`` tells the time in seconds."""
        self._clock = clock
        self._known: dict[Hashable, _Known] = {}

    def get(self, key: Hashable, experiment: Experiment) -> Idle | None:
        """Idle power of a loaded state with its age; None where it is to be measured.

        Args:
            key: what makes the loaded state.
            experiment: that wants it, as long as its ``idle`` says.
        """
        known = self._known.get(key)
        if known is None or experiment.idle == "none" or known.idle.duration_s < experiment.idle:
            return None
        age_s = max(0.0, self._clock() - known.ended_s)
        return dataclasses.replace(known.idle, age_s=age_s) if age_s <= IDLE_LASTS_S else None

    def keep(self, key: Hashable, measurement: Measurement) -> None:
        """Keep what a measurement that has just ended measured.

        One that took its idle power from here and found that it doesn't hold any more has the next
        one measure it again.
        """
        idle = measurement.idle
        if idle is None:
            return
        if idle.origin is not None:
            if idle.drifted:
                self._known.pop(key, None)
            return
        starts = [window.start_s for window in measurement.windows if window.phase == "measure"]
        clean = all(power.quality in _CLEAN for power in idle.powers)
        if not (starts and idle.powers and clean):
            return
        last_s = max(window.start_s + window.duration_s for window in measurement.windows)
        since_s = idle.age_s + last_s - starts[-1]
        origin = f"{measurement.experiment} c{measurement.cycle}"
        handed_on = dataclasses.replace(idle, origin=origin, age_s=0.0, drifted=False)
        self._known[key] = _Known(handed_on, self._clock() - since_s)
