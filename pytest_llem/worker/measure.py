"""A measurement: load, idle, warm up, measure, close; each phase a window with its readings."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import (
    METERS,
    Backend,
    Completion,
    Engine,
    EngineFacts,
    Meter,
    Target,
    find,
    names,
)
from pytest_llem.records import Idle, Measurement, Reading, RequestTiming, WarmUp, Window
from pytest_llem.wire import to_dict
from pytest_llem.worker import idle, workload
from pytest_llem.worker.environment import testbed
from pytest_llem.worker.figures import figures
from pytest_llem.worker.integrity import check
from pytest_llem.worker.repeats import Clock, Emit, per_run
from pytest_llem.worker.runs import Bench, run
from pytest_llem.worker.surroundings import Surroundings, send_trace, watched
from pytest_llem.worker.warmup import warm_up

__all__ = ["Emit", "Phases", "choose_meters", "measure", "send_series"]

EXACT = frozenset({"idle", "pilot", "measure", "prefill"})
"""Phases that metrics are made of, and those that say how long such a one must be."""

_SERIES_TIMES = 20_000


class Phases:
    """Times the phases of a measurement and reads the meters around each.

    Attributes:
        clock: what they are timed by; as ``time.monotonic()``, by which meters read.
    """

    def __init__(self, emit: Emit, clock: Clock = time.monotonic) -> None:
        """Start with no meters: what can be read is known only when the device is."""
        self.clock = clock
        self.windows: list[Window] = []
        self.meters: Sequence[Meter] = ()
        self._emit = emit

    @contextlib.contextmanager
    def phase(self, name: str, exact: bool | None = None) -> Iterator[None]:
        """A window around the body; it is recorded also when the body raises."""
        self._emit("phase", phase=name)
        exact = name in EXACT if exact is None else exact
        tokens = [(meter, meter.start(exact=exact)) for meter in self.meters]
        start_s = self.clock()
        try:
            yield
        finally:
            end_s = self.clock()
            readings: list[Reading] = []
            for meter, token in reversed(tokens):
                readings.extend(meter.stop(token, start_s, end_s))
            window = Window(
                phase=name,
                start_s=start_s,
                duration_s=end_s - start_s,
                readings=tuple(readings),
            )
            self.windows.append(window)

    def last(self, name: str) -> Window:
        """The latest window of a phase that took place."""
        return next(window for window in reversed(self.windows) if window.phase == name)


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
    backend: Backend,
    emit: Emit,
    known: Idle | None = None,
) -> Measurement:
    """Measure one experiment once.

    Args:
        experiment: what to measure.
        digest: of the experiment.
        cycle: from 1.
        backend: that has the engine.
        emit: sends frames.
        known: idle power of the same loaded state, measured lately; measured anew where it
            doesn't do here.

    Raises:
        LlemError: for what the experiment asks and this host can't do.
        Exception: whatever the engine raises.
    """
    begun_s = time.monotonic()
    with watched(experiment, emit) as surroundings:
        rest = _Rest(experiment, known, begun_s)
        return _measured(experiment, digest, cycle, backend, emit, surroundings, rest)


def _measured(
    experiment: Experiment,
    digest: str,
    cycle: int,
    backend: Backend,
    emit: Emit,
    surroundings: Surroundings,
    rest: _Rest,
) -> Measurement:
    phases = Phases(emit)
    with phases.phase("load"):
        backend.preload()
        engine = backend.load(experiment)
    loaded_s = phases.clock()
    facts = engine.facts()
    surroundings.settle(facts.device)
    phases.meters, missing = choose_meters(experiment, facts.device)
    rest.settle(phases)
    warmed, warnings = _warm_up(experiment, engine, facts.vocab_size, phases)
    bench = Bench(experiment, engine, facts, missing, phases, emit, loaded_s)
    with surroundings.around():
        runs = run(bench)
    known = {meter.name: dict(about) for meter in phases.meters if (about := _about(meter))}
    _close(engine, phases)
    observed = surroundings.observed(phases.last("measure"))
    timings = [completion.timing for completion in runs.completions]
    send_series(timings, emit)
    send_trace(observed.rows, emit)
    resting, drifts = rest.checked(phases.last("measure"), runs.facts.own_domain)
    metrics = figures(
        phases.windows, timings, runs.facts, experiment.slo, idle=resting, trace=observed.trace
    )
    return Measurement(
        experiment=experiment.id,
        digest=digest,
        cycle=cycle,
        windows=tuple(phases.windows),
        metrics=per_run(metrics, runs.repeats) | runs.by_phase,
        tokens=runs.tokens,
        tokens_sha256=tokens_sha256(runs.first),
        repeats=runs.repeats,
        precision=runs.precision,
        prefill=runs.prefill,
        warmup=warmed,
        integrity=check(experiment, runs.completions, runs.repeats),
        warnings=(*warnings, *runs.warnings, *drifts, *observed.warnings),
        idle=resting,
        testbed=testbed(facts.device, phases.meters) | surroundings.testbed(),
        subject=_subject(backend, digest, facts),
        conditions=observed.conditions,
        trace=observed.trace,
        meters=known,
    )


def _about(meter: Meter) -> Mapping[str, Any]:
    """What a meter found out of its counters; nothing of one that doesn't say."""
    found: Mapping[str, Any] = getattr(meter, "about", {})
    return found


def _close(engine: Engine, phases: Phases) -> None:
    with phases.phase("close"):
        engine.close()
    for meter in phases.meters:
        meter.close()


def _subject(backend: Backend, digest: str, facts: EngineFacts) -> dict[str, Any]:
    """What is being measured."""
    return {
        "backend": backend.name,
        "versions": dict(backend.versions()),
        "digest": digest,
        "engine": dict(facts.details),
    }


def _warm_up(
    experiment: Experiment, engine: Engine, vocab_size: int, phases: Phases
) -> tuple[WarmUp | None, tuple[str, ...]]:
    """Warm-up of a loaded engine; returns what came of it, and warnings."""
    requests = workload.warmup(experiment, vocab_size)
    if requests is None:
        return None, ()
    with phases.phase("warmup"):
        return warm_up(experiment, requests, engine, vocab_size, phases.clock)


def choose_meters(experiment: Experiment, device: str) -> tuple[list[Meter], str]:
    """The meters to read for an experiment, and why a device may be left without.

    ``auto`` takes every meter that has something to read here, and estimates only where nothing
    measures. No domain is read twice: its energy would be counted twice.

    Raises:
        LlemError: when a meter named by the experiment doesn't exist, has nothing to read, or
            reads what another one reads.
    """
    wanted = names(METERS) if experiment.meters == "auto" else list(experiment.meters)
    target = Target(device=device, count=experiment.devices)
    meters: list[Meter] = [find(METERS, name)(target) for name in wanted]
    usable = [meter for meter in meters if meter.domains]
    if experiment.meters == "auto":
        measuring = [meter for meter in usable if not meter.estimates]
        usable = [meter for meter, other in _claims(measuring or usable) if other is None]
    else:
        _check_named(meters)
    tried = [f"{meter.name}: {meter.reason}" for meter in meters if meter.reason]
    return usable, "; ".join([f"no meter here reads a {device} device", *tried])


def _claims(meters: Sequence[Meter]) -> list[tuple[Meter, Meter | None]]:
    """Each meter with the earlier one that reads one of its domains too, if any."""
    owners: dict[str, Meter] = {}
    claims: list[tuple[Meter, Meter | None]] = []
    for meter in meters:
        domains = meter.domains
        other = next((owners[domain] for domain in domains if domain in owners), None)
        if other is None:
            owners |= dict.fromkeys(domains, meter)
        claims.append((meter, other))
    return claims


def _check_named(meters: Sequence[Meter]) -> None:
    """Refuse a choice of meters that can't be read as it stands."""
    for meter, other in _claims(meters):
        if not meter.domains:
            raise LlemError(f"meter {meter.name} can't be used here: {meter.reason}")
        if other is not None:
            raise LlemError(f"meters {other.name} and {meter.name} read the same; name one of them")


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
