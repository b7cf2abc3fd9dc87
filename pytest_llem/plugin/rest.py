"""Gaps between measurements, with a countdown on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_llem.demands import Arm
from pytest_llem.experiment import Experiment
from pytest_llem.plugin.live import LiveLine
from pytest_llem.plugin.naming import item_name
from pytest_llem.runners import thermal
from pytest_llem.study.keys import Gaps

__all__ = ["Rests", "place_of"]


class Rests:
    """Waits before a measurement as its study says; never before the first."""

    def __init__(self, config: pytest.Config) -> None:
        """Begin with no measurement made."""
        self._config = config
        self._previous: thermal.Place | None = None
        self._thermometers: dict[str, thermal.Thermometer | None] = {}
        self._idle_c: dict[str, float | None] = {}
        self._longest_s = 0.0

    def expected_s(
        self, study: str, experiment: Experiment, cycle: int, arm: Arm | None, gaps: Gaps
    ) -> float:
        """How long the rest before a measurement is going to be: a thermal one as those so far."""
        place = place_of(study, experiment.id, cycle, arm)
        due_s = thermal.gap_s(self._previous, place, gaps.between_experiments, gaps.between_cycles)
        return due_s if gaps.mode == "fixed" else min(due_s, self._longest_s)

    def wait(
        self, study: str, experiment: Experiment, cycle: int, arm: Arm | None, gaps: Gaps
    ) -> Mapping[str, Any] | None:
        """Wait, and tell as plain data what came of it; None where no gap was due."""
        place = place_of(study, experiment.id, cycle, arm)
        longest_s = thermal.gap_s(
            self._previous, place, gaps.between_experiments, gaps.between_cycles
        )
        self._previous = place
        thermometer = idle_c = None
        if gaps.mode == "thermal":
            # Also before the first measurement: that is when a device is as cool as it gets.
            thermometer = self._thermometer(experiment.device)
            idle_c = self._idle_c.setdefault(
                experiment.device, thermometer.celsius() if thermometer else None
            )
        if longest_s <= 0:
            return None
        name = f"{experiment.id} {item_name(cycle, arm)}"
        line = LiveLine(self._config)

        def tell(left_s: float, now_c: float | None) -> None:
            line.show(f"{name}  {_text(left_s, now_c, idle_c)}")

        try:
            if gaps.mode == "fixed":
                thermal.pause(longest_s, tell)
                return {"mode": "fixed", "waited_s": longest_s}
            cooling = thermal.cool(thermometer, idle_c, longest_s, tell)
        finally:
            line.clear()
        self._longest_s = max(self._longest_s, cooling.waited_s)
        return {
            "mode": "thermal",
            "waited_s": cooling.waited_s,
            "idle_c": cooling.idle_c,
            "before_c": cooling.before_c,
            "after_c": cooling.after_c,
            "reached": cooling.reached,
            "reason": cooling.reason or None,
        }

    def _thermometer(self, device: str) -> thermal.Thermometer | None:
        """Of the device that an experiment asks for, looked for once."""
        if device not in self._thermometers:
            found = None if device in {"cpu", "mps"} else thermal.gpu_thermometer(None)
            if found is None and device in {"auto", "cpu"}:
                found = thermal.cpu_thermometer()
            self._thermometers[device] = found
        return self._thermometers[device]


def place_of(study: str, experiment: str, cycle: int, arm: Arm | None) -> thermal.Place:
    """A measurement as gaps see it: base and head are as different as two experiments."""
    return study, f"{experiment} (base)" if arm == "base" else experiment, cycle


def _text(left_s: float, now_c: float | None, idle_c: float | None) -> str:
    text = f"gap  {left_s:.0f} s left"
    if now_c is not None and idle_c is not None:
        text += f" at most, {now_c:.0f} °C, idle {idle_c:.0f} °C"
    return text
