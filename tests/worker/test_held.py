"""An engine that is kept for several measurements."""

from __future__ import annotations

from typing import Any

from pytest_llem.experiment import Experiment
from pytest_llem.extensions import EngineFacts
from pytest_llem.worker.held import Held
from pytest_llem.worker.phases import Phases
from tests.builders import experiment


class Engine:
    """One that notes what it is made ready for."""

    def __init__(self) -> None:
        self.prepared: list[int] = []

    def facts(self) -> EngineFacts:
        return EngineFacts(vocab_size=10, device="cpu")

    def prepare(self, experiment: Experiment) -> None:
        self.prepared.append(experiment.batch_size)

    def close(self) -> None: ...


class Backend:
    """Loads it."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.loaded = 0

    def preload(self) -> None: ...

    def load(self, experiment: Experiment) -> Engine:
        self.loaded += 1
        return self.engine


def test_a_kept_engine_is_made_ready_for_each_experiment_that_follows() -> None:
    backend: Any = Backend()
    held, phases = Held(backend), Phases(lambda *_, **__: None)
    for size in (1, 4, 2):
        held.ready(experiment(batch_size=size, meters=()), phases, lambda _: None)
    assert backend.loaded == 1
    assert backend.engine.prepared == [4, 2]
    assert [window.phase for window in phases.windows] == ["load"]
    held.close(phases)
