"""The scenarios ``poisson`` and ``concurrency``, measured: one run, and its steady window.

Imported only for these: an offline worker needs no event loop.
"""

from __future__ import annotations

from typing import TypeGuard

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Concurrency, Experiment
from pytest_llem.extensions import Engine, StreamingEngine
from pytest_llem.worker import steady, workload
from pytest_llem.worker.arrivals import arrivals
from pytest_llem.worker.bracket import MeterBracket
from pytest_llem.worker.drive import Driven, Driver
from pytest_llem.worker.facts import Facts
from pytest_llem.worker.repeats import progress
from pytest_llem.worker.runs import Bench, Runs

__all__ = ["run"]


def run(bench: Bench) -> Runs:
    """Run the workload once as its scenario says; ramp, measure and drain become windows.

    Raises:
        LlemError: when the engine can't take requests while it computes others.
        Exception: whatever the engine raises.
    """
    experiment, engine = bench.experiment, bench.engine
    scenario = experiment.scenario
    assert scenario != "offline"
    if not _streams(engine):
        raise LlemError(
            f"{experiment.backend}'s engine takes no requests while it computes others"
            f" (it has no answer()), so it can't do {type(scenario).__name__.lower()}"
        )
    engine.reset_peak_memory()
    driven = _drive(bench, engine)
    peak = engine.peak_memory_bytes()
    found = steady.look(driven, scenario)
    bench.windows.windows.extend(steady.windows(driven, found.window))
    timings = [completion.timing for completion in driven.completions]
    requests, tokens_in, tokens_out = steady.counts(timings, found.window)
    facts = Facts(
        requests=requests,
        input=tokens_in,
        output=tokens_out,
        peak_memory_bytes=peak,
        device=bench.facts.device,
        no_meter=bench.no_meter,
    )
    return Runs(
        completions=driven.completions,
        first=driven.completions,
        facts=facts,
        steady=found,
        warnings=found.warnings,
    )


def _streams(engine: Engine) -> TypeGuard[StreamingEngine]:
    return hasattr(engine, "answer") and hasattr(engine, "loop")


def _drive(bench: Bench, engine: StreamingEngine) -> Driven:
    """All requests, from the first to the last."""
    experiment: Experiment = bench.experiment
    requests = workload.measured(experiment, bench.facts.vocab_size)
    clock = bench.windows.clock
    report = progress(bench.emit, len(requests.prompts), clock)
    # One phase for the host, which watches for silence: where it is steady shows afterwards.
    bench.emit("phase", phase="measure")
    bracket = MeterBracket(bench.windows.meters, clock)
    try:
        driver = Driver(engine, requests, bracket, clock, report)
        scenario = experiment.scenario
        if isinstance(scenario, Concurrency):
            return driver.concurrency(scenario.concurrency)
        assert scenario != "offline"
        return driver.poisson(arrivals(scenario.poisson, len(requests.prompts), experiment.seed))
    finally:
        bracket.close()
