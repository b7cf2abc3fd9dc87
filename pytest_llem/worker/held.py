"""A loaded engine and its meters: loaded for one measurement, kept for others that share it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Backend, Engine, EngineFacts, Meter, Target
from pytest_llem.worker.choose import FindMeter, choose_meters, own_meter
from pytest_llem.worker.host_pids import HostPids
from pytest_llem.worker.phases import Phases

__all__ = ["Held"]

_APART = "pytest_llem.worker.meter_process"
"""Imported only where it is needed."""


class MeterHome(Protocol):
    """Where meters live that aren't to be in this process."""

    def meter(self, name: str, target: Target) -> Meter:
        """Make one."""

    def close(self) -> None:
        """Let all of them go."""


class Held:
    """What a worker holds between measurements.

    Attributes:
        backend: that has the engine.
        facts: what the loaded engine says of itself.
        meters: of the latest measurement.
        missing: why there is no energy, should no meter read the device.
        host_pids: asks the host for the pids of this worker's place; None where it can't be asked.
    """

    facts: EngineFacts

    def __init__(
        self,
        backend: Backend,
        finder: Callable[[FindMeter], FindMeter] = lambda own: own,
        host_pids: Callable[[], HostPids] | None = None,
    ) -> None:
        """Hold nothing yet.

        Args:
            backend: that will have the engine.
            finder: given what makes a meter where this worker runs, says what makes one.
            host_pids: asks the host for the pids of this worker's place.
        """
        self.backend = backend
        self.host_pids = host_pids
        self.meters: Sequence[Meter] = ()
        self.missing = ""
        self._finder = finder
        self._apart: MeterHome | None = None
        self._engine: Engine | None = None
        self._asked: object = None

    def ready(
        self, experiment: Experiment, phases: Phases, settle: Callable[[str], None]
    ) -> Engine:
        """The engine, loaded where it isn't yet, with the experiment's meters.

        Whoever calls it sees to it that the experiment shares everything that the engine was built
        from with those before.

        Args:
            experiment: what is going to be measured.
            phases: gets a window of loading, and the meters.
            settle: told the device that the engine computes on, before a meter is made.
        """
        if self._engine is None:
            with phases.phase("load"):
                self.backend.preload()
                self._engine = self.backend.load(experiment)
            self.facts = self._engine.facts()
        elif prepare := getattr(self._engine, "prepare", None):
            prepare(experiment)
        settle(self.facts.device)
        asked = (experiment.meters, experiment.devices, experiment.scenario == "offline")
        if asked != self._asked:
            self._close_meters()
            find_meter = self._finder(self._own(experiment))
            found = choose_meters(experiment, self.facts.device, find_meter)
            (self.meters, self.missing), self._asked = found, asked
        phases.meters = self.meters
        return self._engine

    @property
    def loaded(self) -> bool:
        """Whether there is an engine on the device now."""
        return self._engine is not None

    def about(self) -> dict[str, Any]:
        """What the meters found out of their counters, by meter."""
        return {
            meter.name: dict(found)
            for meter in self.meters
            if (found := getattr(meter, "about", {}))
        }

    def close(self, phases: Phases) -> None:
        """Unload the engine, and let go of its meters; nothing where there is none."""
        if self._engine is not None:
            phases.meters = self.meters
            engine, self._engine = self._engine, None
            with phases.phase("close"):
                engine.close()
        self._close_meters()

    def _own(self, experiment: Experiment) -> FindMeter:
        """What makes a meter of this worker: in a process of its own where a loop must go on."""
        if experiment.scenario == "offline":
            return own_meter
        self._apart = importlib.import_module(_APART).MeterProcess()
        return self._apart.meter

    def _close_meters(self) -> None:
        for meter in self.meters:
            meter.close()
        self.meters, self._asked = (), None
        if self._apart is not None:
            self._apart.close()
            self._apart = None
