"""Gaps between measurements on a device, with a countdown on a terminal."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pytest_llem.demands import Arm
from pytest_llem.experiment import Experiment
from pytest_llem.gpus import Gpu
from pytest_llem.plugin.live import LiveLine
from pytest_llem.plugin.naming import item_name
from pytest_llem.plugin.session import results_folder
from pytest_llem.runners import thermal
from pytest_llem.runners.lock_folder import host_name
from pytest_llem.study.keys import Gaps

__all__ = ["Rests", "place_of"]

_HOST = "host"


@dataclass(slots=True)
class _Device:
    """What the session knows of a device.

    Attributes:
        previous: the latest measurement there.
        idle_c: its temperature before the first one.
    """

    previous: thermal.Place | None = None
    idle_c: float | None = None
    looked: bool = False


class Rests:
    """Waits before a measurement as its study says; never before the first on a device.

    Under pytest-xdist what is known of a device goes from process to process, as the device does:
    whoever has the lease reads and writes its file in the session's directory.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Begin with no measurement made."""
        self._config = config
        self._devices: dict[str, _Device] = {}
        self._thermometers: dict[tuple[str, ...], thermal.Thermometer | None] = {}
        self._latest: thermal.Place | None = None
        self._longest_s = 0.0

    def expected_s(
        self, study: str, experiment: Experiment, cycle: int, arm: Arm | None, gaps: Gaps
    ) -> float:
        """How long the rest before a measurement is going to be: a thermal one as those so far."""
        place = place_of(study, experiment.id, cycle, arm)
        due_s = thermal.gap_s(self._latest, place, gaps.between_experiments, gaps.between_cycles)
        return due_s if gaps.mode == "fixed" else min(due_s, self._longest_s)

    def wait(
        self,
        study: str,
        experiment: Experiment,
        cycle: int,
        arm: Arm | None,
        gaps: Gaps,
        gpus: Sequence[Gpu] = (),
    ) -> Mapping[str, Any] | None:
        """Wait, and tell as plain data what came of it; None where no gap was due.

        Args:
            study: file of the study.
            experiment: that is about to be measured.
            cycle: of it.
            arm: base or head, where two are compared.
            gaps: how long to wait.
            gpus: leased for it; none where it is on another device.
        """
        place = place_of(study, experiment.id, cycle, arm)
        names = tuple(dict.fromkeys(gpu.board for gpu in gpus)) or (_HOST,)
        devices = [self._device(name) for name in names]
        longest_s = max(
            thermal.gap_s(each.previous, place, gaps.between_experiments, gaps.between_cycles)
            for each in devices
        )
        thermometer = idle_c = None
        if gaps.mode == "thermal":
            # Also before the first measurement: that is when a device is as cool as it gets.
            thermometer = self._thermometer(names, experiment.device)
            for name, device in zip(names, devices, strict=True):
                self._look(name, device, experiment.device)
            known = [each.idle_c for each in devices]
            idle_c = None if None in known else max(filter(None, known), default=None)
        self._latest = place
        for name, device in zip(names, devices, strict=True):
            device.previous = place
            self._keep(name, device)
        if longest_s <= 0:
            return None
        return self._waited(
            f"{experiment.id} {item_name(cycle, arm)}", gaps, thermometer, idle_c, longest_s
        )

    def _waited(
        self,
        name: str,
        gaps: Gaps,
        thermometer: thermal.Thermometer | None,
        idle_c: float | None,
        longest_s: float,
    ) -> Mapping[str, Any]:
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

    def _look(self, name: str, device: _Device, asked: str) -> None:
        """Its temperature before it was used."""
        if not device.looked:
            thermometer = self._thermometer((name,), asked)
            device.idle_c = thermometer.celsius() if thermometer else None
            device.looked = True

    def _thermometer(self, names: tuple[str, ...], asked: str) -> thermal.Thermometer | None:
        """Of leased GPUs, or of the processors where there are none; looked for once."""
        if names not in self._thermometers:
            if names == (_HOST,):
                found = thermal.cpu_thermometer() if asked in {"auto", "cpu"} else None
            else:
                found = thermal.gpu_thermometer(names)
            self._thermometers[names] = found
        return self._thermometers[names]

    # --- from process to process -------------------------------------------------------------

    def _device(self, name: str) -> _Device:
        if name not in self._devices or self._is_shared:
            self._devices[name] = self._read(name)
        return self._devices[name]

    @property
    def _is_shared(self) -> bool:
        return hasattr(self._config, "workerinput")

    def _path(self, name: str) -> Path:
        # The directory may be shared by hosts, whose processors are not.
        device = f"{name}-{host_name()}" if name == _HOST else name
        return results_folder(self._config) / "devices" / f"{quote(device, safe='')}.json"

    def _read(self, name: str) -> _Device:
        if self._is_shared:
            with contextlib.suppress(OSError, ValueError, TypeError):
                study, experiment, cycle, idle_c = json.loads(self._path(name).read_text())
                previous = (str(study), str(experiment), int(cycle))
                return _Device(previous, idle_c, looked=idle_c is not None)
        return _Device()

    def _keep(self, name: str, device: _Device) -> None:
        if not self._is_shared or device.previous is None:
            return
        path = self._path(name)
        # Should the disk be full, a gap is all that is lost; the journal says what is wrong.
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            unfinished = path.with_suffix(".new")
            unfinished.write_text(json.dumps([*device.previous, device.idle_c]))
            unfinished.replace(path)


def place_of(study: str, experiment: str, cycle: int, arm: Arm | None) -> thermal.Place:
    """A measurement as gaps see it: base and head are as different as two experiments."""
    return study, f"{experiment} (base)" if arm == "base" else experiment, cycle


def _text(left_s: float, now_c: float | None, idle_c: float | None) -> str:
    text = f"gap  {left_s:.0f} s left"
    if now_c is not None and idle_c is not None:
        text += f" at most, {now_c:.0f} °C, idle {idle_c:.0f} °C"
    return text
