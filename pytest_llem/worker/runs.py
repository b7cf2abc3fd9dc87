"""The runs of an experiment on a loaded engine: once, or again and again, prefill by itself too."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Completion, Engine, EngineFacts, Workload
from pytest_llem.records import Figure, Precision, Prefill, RequestTiming, Window
from pytest_llem.traffic import Traffic
from pytest_llem.worker import phase_energy, precision, workload
from pytest_llem.worker.energy import energy
from pytest_llem.worker.facts import OWN_DOMAIN, Facts
from pytest_llem.worker.quantity import Quantity
from pytest_llem.worker.repeats import Emit, Repeater, Run, Windows

__all__ = ["Bench", "Part", "Runs", "run"]


@dataclass(frozen=True, slots=True)
class Bench:
    """A loaded engine, and all that is needed to measure on it.

    Attributes:
        facts: what the engine says of itself.
        no_meter: why there is no energy, should no meter read the device.
        loaded_s: time of the windows' clock at which ``timeout_s`` began.
    """

    experiment: Experiment
    engine: Engine
    facts: EngineFacts
    no_meter: str
    windows: Windows
    emit: Emit
    loaded_s: float

    @property
    def latest_s(self) -> float:
        """Time by which repeats must be done: the rest is for closing, and for being wrong."""
        timeout_s = self.experiment.timeout_s
        return self.loaded_s + timeout_s - min(_MARGIN_S, _MARGIN * timeout_s)

    def energy(self, window: Window) -> Quantity:
        """Energy of the experiment's own devices over a window."""
        return energy(window.readings, OWN_DOMAIN[self.facts.device], self.no_meter)

    def repeater(self, draw: Callable[[Experiment, int, int], Workload]) -> Repeater:
        """Runs what is drawn for the experiment, again and again."""
        numbered = functools.partial(draw, self.experiment, self.facts.vocab_size)
        return Repeater(self.engine, self.windows, self.emit, numbered)


_OF_SCENARIOS = "pytest_llem.worker.scenario"
"""Imported only where requests come one by one: what an event loop needs takes its time."""

_MARGIN, _MARGIN_S = 0.1, 30.0
"""Part of ``timeout_s`` that repeats leave alone, and the most that this comes to."""

_PREFILL_SHARE = 0.2
"""Part of ``timeout_s`` that precision leaves to prefill."""


class Part(Protocol):
    """A measured window that is only a part of a run: :class:`~.steady.Steady`."""

    @property
    def counted(self) -> Sequence[RequestTiming]:
        """Requests that the latencies are of."""

    @property
    def ended(self) -> Sequence[RequestTiming]:
        """Requests that ended within the window."""

    @property
    def traffic(self) -> Traffic:
        """For the report."""

    def withhold(self, found: Mapping[str, Figure]) -> dict[str, Figure]:
        """The metrics, null where the window can't tell them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """What was run.

    Attributes:
        completions: of the measured window.
        first: of the workload's first run, whatever came after it.
        facts: counts of the measured window; peak memory of the first run.
        by_phase: figures of prefill and decode; empty where they weren't asked for.
        steady: the measured window, where that is only a part of the run.
    """

    completions: tuple[Completion, ...]
    first: tuple[Completion, ...]
    facts: Facts
    repeats: int = 1
    precision: Precision | None = None
    prefill: Prefill | None = None
    by_phase: dict[str, Figure] = field(default_factory=dict)
    steady: Part | None = None
    warnings: tuple[str, ...] = ()

    @property
    def timings(self) -> Sequence[RequestTiming]:
        """Of the requests that the latencies are of."""
        if self.steady is not None:
            return self.steady.counted
        return [completion.timing for completion in self.completions]

    @property
    def tokens(self) -> dict[str, int]:
        """Counts of the measured window."""
        facts = self.facts
        return {"requests": facts.requests, "input": facts.input, "output": facts.output}


def run(bench: Bench) -> Runs:
    """Run the workload as the experiment asks; its windows are added to the bench's."""
    if bench.experiment.scenario != "offline":
        made: Runs = importlib.import_module(_OF_SCENARIOS).run(bench)
        return made
    return _run_offline(bench)


def _run_offline(bench: Bench) -> Runs:
    asked = bench.experiment.precision
    repeater = bench.repeater(workload.measured)
    bench.engine.reset_peak_memory()
    first = repeater.run("measure" if asked is None else "pilot", 1)
    peak = bench.engine.peak_memory_bytes()
    measured, reached = (first, None) if asked is None else _reach(bench, repeater, first, asked)
    facts = Facts.of(measured.completions, peak, bench.facts.device, bench.no_meter)
    warnings = [] if reached is None else [precision.warning(reached, measured.repeats)]
    made = Runs(
        completions=measured.completions,
        first=first.completions,
        facts=facts,
        repeats=measured.repeats,
        precision=reached,
        warnings=tuple(text for text in warnings if text),
    )
    return _with_phases(bench, made, measured) if bench.experiment.phases else made


def _reach(bench: Bench, repeater: Repeater, pilot: Run, asked: float) -> tuple[Run, Precision]:
    """The window that is precise enough, or the most precise that time and memory allow."""
    experiment = bench.experiment
    latest_s = bench.latest_s
    if experiment.phases:
        latest_s -= min(_PREFILL_SHARE * experiment.timeout_s, phase_energy.PREFILL_MOST_S)
    most = workload.most_repeats(experiment)
    return precision.reach(
        repeater, pilot, lambda window: bench.energy(window).figure, asked, most, latest_s
    )


def _with_phases(bench: Bench, runs: Runs, measured: Run) -> Runs:
    """The same runs, and what prefill and decode took of their energy."""
    outcome = phase_energy.run_prefill(
        bench.repeater(workload.prefill),
        measured.window.duration_s,
        workload.most_repeats(bench.experiment),
        bench.latest_s - measured.edges_s,
    )
    found = phase_energy.phase_figures(measured.window, runs.facts, outcome, bench.energy)
    return dataclasses.replace(
        runs,
        prefill=outcome.record,
        by_phase=found,
        warnings=(*runs.warnings, *phase_energy.warnings(outcome, found)),
    )
