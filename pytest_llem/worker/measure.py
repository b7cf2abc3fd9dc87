"""A measurement: load, idle, warm up, measure, close; each phase a window with its readings."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Abilities, Completion, Engine
from pytest_llem.records import Figure, Idle, Measurement, RequestTiming, WarmUp, Window
from pytest_llem.wire import to_dict
from pytest_llem.worker import idle, model_facts, prompts, workload
from pytest_llem.worker.environment import testbed
from pytest_llem.worker.figures import figures
from pytest_llem.worker.held import Held
from pytest_llem.worker.integrity import check
from pytest_llem.worker.latency import stages
from pytest_llem.worker.model_facts import Served
from pytest_llem.worker.phases import Phases
from pytest_llem.worker.repeats import Emit, per_run
from pytest_llem.worker.runs import Bench, run
from pytest_llem.worker.steal import Steal
from pytest_llem.worker.surroundings import Surroundings, send_trace, watched
from pytest_llem.worker.warmup import warm_up

__all__ = ["measure", "send_series"]

_SERIES_TIMES = 20_000


class _Rest:
    """Idle power of one measurement: the known one where it does, else measured."""

    def __init__(self, experiment: Experiment, known: Idle | None, begun_s: float) -> None:
        """``begun_s`` is when the known one was as old as it says."""
        self._wanted = experiment.idle
        self._known = known
        self._right_s = begun_s
        self._idle: Idle | None = None

    def settle(self, phases: Phases) -> None:
        """Take or measure it, with the engine loaded and no request made."""
        if self._wanted == "none":
            return
        now_s = phases.clock()
        passed_s = now_s - self._right_s
        self._right_s = now_s
        self._idle = idle.shared(self._known, self._wanted, phases.meters, passed_s)
        if self._idle is None:
            with phases.phase("idle"):
                time.sleep(self._wanted)
            window = phases.last("idle")
            self._idle = idle.measured(window)
            self._right_s = window.start_s + window.duration_s

    def checked(self, window: Window, prefix: str) -> tuple[Idle | None, tuple[str, ...]]:
        """It with its age at the measured window, and warnings where it doesn't hold there."""
        return idle.checked(self._idle, window, prefix, self._right_s)


def measure(
    experiment: Experiment,
    digest: str,
    cycle: int,
    held: Held,
    emit: Emit,
    known: Idle | None = None,
    *,
    keep: bool = False,
    mode: str = "fresh",
) -> Measurement:
    """Measure one experiment once.

    Args:
        experiment: what to measure.
        digest: of the experiment.
        cycle: from 1.
        held: the engine, loaded already or not.
        emit: sends frames.
        known: idle power of the same loaded state, measured lately; measured anew where it
            doesn't do here.
        keep: leave the engine loaded, for the next measurement.
        mode: how its worker came to be, ``fresh forked reuse``; part of the testbed.

    Raises:
        LlemError: for what the experiment asks and this host can't do.
        Exception: whatever the engine raises.
    """
    begun_s = time.monotonic()
    with watched(experiment, emit, loaded=held.loaded, host_pids=held.host_pids) as surroundings:
        taken = _Taken(experiment, held, emit, surroundings, _Rest(experiment, known, begun_s))
        taken.run(mode, keep=keep)
        return taken.measurement(digest, cycle)


class _Taken:
    """One measurement while it is made: its phases, then its figures."""

    def __init__(
        self,
        experiment: Experiment,
        held: Held,
        emit: Emit,
        surroundings: Surroundings,
        rest: _Rest,
    ) -> None:
        self._experiment = experiment
        self._held = held
        self._emit = emit
        self._surroundings = surroundings
        self._rest = rest
        self._phases = Phases(emit)
        self._steal = Steal()

    def run(self, mode: str, *, keep: bool) -> None:
        """All phases; the engine is closed at their end, unless it is kept."""
        held, phases, experiment = self._held, self._phases, self._experiment
        engine = held.ready(experiment, phases, self._surroundings.settle)
        loaded_s = phases.clock()
        self._facts = held.facts
        self._rest.settle(phases)
        self._warmed, self._warnings = _warm_up(experiment, engine, held.facts.vocab_size, phases)
        bench = Bench(experiment, engine, held.facts, held.missing, phases, self._tell, loaded_s)
        with self._surroundings.around(), self._steal:
            self._runs = run(bench)
        self._testbed = testbed(held.facts.device, held.meters)
        self._testbed["worker"] = mode
        self._about = held.about()
        if not keep:
            held.close(phases)

    def _tell(self, frame: str, **fields: Any) -> None:
        """Send a frame; progress with the power of this moment."""
        power_w = self._surroundings.power_w() if frame == "progress" else None
        self._emit(frame, **fields, **({} if power_w is None else {"power_w": power_w}))

    def measurement(self, digest: str, cycle: int) -> Measurement:
        """What came of it; the raw series are sent ahead."""
        experiment, runs, phases = self._experiment, self._runs, self._phases
        observed = self._surroundings.observed(phases.last("measure"))
        send_series([completion.timing for completion in runs.completions], self._emit)
        send_trace(observed.rows, self._emit)
        resting, drifts = self._rest.checked(phases.last("measure"), runs.facts.own_domain)
        part = runs.steady
        metrics = figures(
            phases.windows,
            runs.timings,
            runs.facts,
            experiment.slo,
            idle=resting,
            trace=observed.trace,
            ended=None if part is None else part.ended,
            steal=self._steal.share,
        )
        if part is not None:
            metrics = part.withhold(metrics)
        metrics = per_run(metrics, runs.repeats) | runs.by_phase
        testbed = self._testbed | self._surroundings.testbed()
        model, derived = self._model(testbed, metrics)
        return Measurement(
            experiment=experiment.id,
            digest=digest,
            cycle=cycle,
            windows=tuple(phases.windows),
            metrics=metrics,
            tokens=runs.tokens,
            tokens_sha256=tokens_sha256(runs.first),
            repeats=runs.repeats,
            precision=runs.precision,
            prefill=runs.prefill,
            warmup=self._warmed,
            traffic=None if part is None else part.traffic,
            stages=stages(runs.timings),
            integrity=check(experiment, runs.completions, runs.repeats, self._facts.reuses),
            warnings=(
                *prompts.warnings(experiment),
                *self._warnings,
                *runs.warnings,
                *drifts,
                *observed.warnings,
            ),
            idle=resting,
            testbed=testbed,
            subject=self._subject(digest),
            conditions=observed.conditions,
            trace=observed.trace,
            meters=self._about,
            workload=prompts.about(experiment, workload.asked_lengths(experiment)),
            model=model,
            derived=derived,
        )

    def _model(
        self, testbed: Mapping[str, Any], metrics: Mapping[str, Figure]
    ) -> tuple[dict[str, Any], dict[str, Figure]]:
        """Facts of the model, and figures made of them."""
        known = model_facts.known(self._experiment, self._facts)
        served = Served.of(
            self._experiment,
            self._runs.completions,
            self._runs.repeats,
            testbed,
            batches=getattr(self._held.backend, "abilities", Abilities()).batches,
        )
        return known.plain(served.requests), model_facts.derived(known, served, metrics)

    def _subject(self, digest: str) -> dict[str, Any]:
        """What is being measured."""
        backend = self._held.backend
        return {
            "backend": backend.name,
            "versions": dict(backend.versions()),
            "digest": digest,
            "engine": dict(self._facts.details),
        }


def _warm_up(
    experiment: Experiment, engine: Engine, vocab_size: int, phases: Phases
) -> tuple[WarmUp | None, tuple[str, ...]]:
    """Warm-up of a loaded engine; returns what came of it, and warnings."""
    requests = workload.warmup(experiment, vocab_size)
    if requests is None:
        return None, ()
    # Where requests go on around the measured window, that can't show what kind of counter it is.
    exact = None if experiment.scenario == "offline" else True
    with phases.phase("warmup", exact):
        return warm_up(experiment, requests, engine, vocab_size, phases.clock)


def send_series(timings: Sequence[RequestTiming], emit: Emit) -> None:
    """Send every request's times ahead of the result, in frames of a bearable size."""
    rows: list[dict[str, Any]] = []
    count = 0
    for timing in timings:
        rows.append(to_dict(timing))
        count += len(timing.token_s)
        if count >= _SERIES_TIMES:
            emit("series", requests=rows)
            rows, count = [], 0
    if rows:
        emit("series", requests=rows)


def tokens_sha256(completions: Sequence[Completion]) -> str:
    """Digest of all generated token ids, in the order of the requests."""
    digest = hashlib.sha256()
    for completion in completions:
        digest.update((",".join(map(str, completion.token_ids)) + "\n").encode())
    return digest.hexdigest()
