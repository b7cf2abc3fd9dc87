"""Running a turn: measure, keep, then judge. The only place where all parts meet."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import time
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_llem.demands import Arm, RunnerSpec
from pytest_llem.errors import EngineMissing, ResultsError, WorkerError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import BACKENDS, Launch, names
from pytest_llem.plugin.comparing import references
from pytest_llem.plugin.live import watching
from pytest_llem.plugin.naming import item_name
from pytest_llem.plugin.once import once
from pytest_llem.plugin.run import Run
from pytest_llem.plugin.session import KEY
from pytest_llem.records import Failure, Measurement, Verdict
from pytest_llem.results import gates
from pytest_llem.results.carbon import with_carbon
from pytest_llem.results.masks import masked
from pytest_llem.results.neighbours import NOTICE
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.side_file import SideFile
from pytest_llem.runners.devices import Lease
from pytest_llem.runners.docker.settings import given, keeps_engine
from pytest_llem.runners.workers import Task
from pytest_llem.study.identity import engine_key
from pytest_llem.study.load import Planned, Study
from pytest_llem.wire import to_dict

__all__ = [
    "LlemFailed",
    "Selection",
    "Turn",
    "judge",
    "keep",
    "key_of",
    "measure",
    "outcome_of",
    "raise_failure",
]


_GRACE_S = 5.0
"""From one measurement of a process to its next one."""

_AGAIN_S = 0.2


class LlemFailed(pytest.fail.Exception):  # type: ignore[name-defined, misc]
    """A failure in the words of the study's reader.

    Attributes:
        where: ``file:line`` of the study.
        headline: for one-line summaries.
    """

    def __init__(self, where: str, title: str, lines: Sequence[str]) -> None:
        """Lay the failure out like an assertion: a place, then lines marked E."""
        marked = [f"E   {line}" for text in lines for line in text.splitlines()]
        super().__init__("\n".join([f"{where}: {title}", *marked]), pytrace=False)
        self.where = where
        self.headline = lines[0].splitlines()[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One cycle of an experiment, about to be measured.

    Attributes:
        file: of the study, as messages show it.
        node: pytest's id of the test that measures.
        arm: of an A/B comparison.
    """

    study: Study
    planned: Planned
    runner: RunnerSpec
    cycle: int
    file: str
    node: str
    arm: Arm | None = None

    @property
    def name(self) -> str:
        """``c1``, ``c1-base``."""
        return item_name(self.cycle, self.arm)

    @property
    def where(self) -> str:
        """``file:line`` of the experiment."""
        return f"{self.file}:{self.planned.line}"


def measure(run: Run, turn: Turn) -> Outcome:
    """Make one measurement and keep what became of it, before anybody judges it."""
    measurement = failure = skipped = raw = None
    rest = _Rest(run, turn)
    try:
        measurement, raw = _converse(run, turn, rest)
    except EngineMissing as error:
        if not turn.runner.chosen and not run.strict:
            skipped = f"{error.message}; install it with: {error.fix}"
        else:
            failure = _failure(error)
    except WorkerError as error:
        failure = _failure(error)
    except OSError as error:
        failure = Failure(kind="start", message=f"the worker could not be started: {error}")
    except pytest.fail.Exception as error:
        # Raised into the wait for the worker: by pytest-timeout, where a marker asks for it.
        fix = "raise the limit that it names, or make the experiment smaller"
        failure = Failure(kind="timeout", message=str(error), fix=fix)
    outcome = dataclasses.replace(
        outcome_of(turn, measurement=measurement, failure=failure, skipped=skipped),
        raw=raw,
        gap=rest.gap,
        place={**run.workers.place, **run.host},
    )
    keep(run, turn, outcome)
    return outcome


def keep(run: Run, turn: Turn, outcome: Outcome) -> None:
    """Remember an outcome, and put it into the journal."""
    run.keep(turn.study.path, outcome)
    try:
        run.journal.append(outcome)
    except ResultsError as error:
        run.unwritable = error


class _Rest:
    """The gap before a measurement, once its devices are leased.

    Attributes:
        gap: what came of it; None where none was due.
    """

    def __init__(self, run: Run, turn: Turn) -> None:
        self._run = run
        self._turn = turn
        self.gap: Mapping[str, Any] | None = None

    def __call__(self, lease: Lease) -> None:
        """Wait; a measurement that is tried a second time has waited already."""
        turn, experiment = self._turn, self._turn.planned.experiment
        gaps = turn.study.gaps
        waited = self._run.rests.wait(turn.file, experiment, turn.cycle, turn.arm, gaps, lease.gpus)
        self.gap = waited or self.gap


def _converse(run: Run, turn: Turn, rest: _Rest) -> tuple[Measurement, str | None]:
    """The measurement, and the name of the file with its raw series."""
    experiment, journal = turn.planned.experiment, run.journal
    if experiment.backend not in names(BACKENDS):
        raise EngineMissing(
            f"backend {experiment.backend}: no installed package brings it",
            kind="missing",
            fix=f"a version of pytest-llem that has {experiment.backend}, or a package that"
            f" registers it in the entry-point group {BACKENDS}",
        )
    with (
        SideFile(journal.raw_path(turn.file, experiment.id, turn.name)) as side_file,
        watching(run.config, experiment, turn.name, side_file) as watcher,
    ):
        measurement = run.workers.measure(_task(run, turn, rest), watcher)
        name = watcher.keep()
        run.unwritable = run.unwritable or watcher.lost
    if any(figure.quality == "shared" for figure in measurement.metrics.values()):
        run.config.stash[KEY].notice(NOTICE)
    return with_carbon(measurement, run.carbon), f"raw/{name}" if name else None


def _task(run: Run, turn: Turn, rest: _Rest) -> Task:
    """What is to be done where, in the words of the runners."""
    experiment, runner = turn.planned.experiment, turn.runner
    settings = given(*run.config.stash[KEY].choices.containers(turn.study))
    kept = experiment.worker == "reuse" or (runner.mode == "docker" and keeps_engine(settings))
    return Task(
        experiment=experiment,
        digest=turn.planned.digest,
        cycle=turn.cycle,
        mode=runner.mode,
        key=_key(experiment, runner, settings),
        launch=Launch(
            backend=experiment.backend,
            log=run.journal.log_path(turn.file, experiment.id, turn.name),
            argument=runner.argument,
            environment=experiment.env,
            image=runner.image,
            settings=settings,
            once=functools.partial(once, run.config),
        ),
        # Two engines don't share a device: base and head can't both be kept.
        keep=kept and turn.arm is None,
        rest=rest,
    )


def key_of(config: pytest.Config, study: Study, planned: Planned, runner: RunnerSpec) -> Hashable:
    """What measurements share that may have one engine, if they keep it."""
    settings = given(*config.stash[KEY].choices.containers(study))
    return _key(planned.experiment, runner, settings)


def _key(experiment: Experiment, runner: RunnerSpec, settings: Mapping[str, Any]) -> Hashable:
    return (
        engine_key(experiment, runner),
        experiment.worker,
        # A container of other settings, or of another image, is another place.
        *((runner.image, json.dumps(settings, sort_keys=True)) if runner.mode == "docker" else ()),
    )


def _failure(error: WorkerError) -> Failure:
    return Failure(kind=error.kind, message=error.message, fix=error.fix, log_tail=error.log_tail)


def outcome_of(
    turn: Turn,
    *,
    measurement: Measurement | None = None,
    failure: Failure | None = None,
    skipped: str | None = None,
    skip_wanted: bool = False,
) -> Outcome:
    """What became of a turn, dated now."""
    return Outcome(
        study=turn.study.name,
        file=turn.file,
        node=turn.node,
        experiment=turn.planned.experiment.id,
        digest=turn.planned.digest,
        config=masked(to_dict(turn.planned.experiment)),
        cycle=turn.cycle,
        runner=turn.runner,
        finished=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        measurement=measurement,
        failure=failure,
        skipped=skipped,
        skip_wanted=skip_wanted,
        arm=turn.arm,
    )


def raise_failure(turn: Turn, outcome: Outcome, *, strict: bool) -> None:
    """Fail or skip the running test as its outcome says.

    Raises:
        LlemFailed: for a failure, and in strict mode for a flawed measurement.
        pytest.skip.Exception: for a skipped one.
    """
    of_base = " of the base" if turn.arm == "base" else ""
    title = f"{outcome.experiment} cycle {outcome.cycle}{of_base} failed"
    title += f" ({turn.runner.value} runner)"
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    if failure := outcome.failure:
        fix = [f"fix: {failure.fix}"] if failure.fix else []
        raise LlemFailed(turn.where, title, [failure.message, *fix])
    if strict and outcome.measurement and outcome.measurement.integrity:
        problems = [f"integrity: {problem}" for problem in outcome.measurement.integrity]
        raise LlemFailed(turn.where, title, problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a gate judges.

    Attributes:
        file: of the study, as messages show it.
        cycles: the selected ones of each arm.
    """

    study: Study
    planned: Planned
    file: str
    cycles: Mapping[Arm | None, Sequence[int]]


def judge(run: Run, selection: Selection) -> tuple[Verdict, ...]:
    """The verdicts of a gate over the selected cycles of an experiment."""
    study, planned = selection.study, selection.planned
    head: Arm | None = None if None in selection.cycles else "head"
    if not selection.cycles.get(head):
        reason = "no cycle of the head was selected; run the experiment:"
        reason += f" pytest {selection.file}::{planned.experiment.id}"
        return (
            gates.without_cycles("failed" if run.strict else "skipped", reason, planned.limits),
        )
    found = {arm: _outcomes(run, selection, arm) for arm in selection.cycles}
    missing = [
        item_name(cycle, arm)
        for arm, cycles in selection.cycles.items()
        for cycle in cycles
        if cycle not in found[arm]
    ]
    if missing:
        # Judging the rest would pass for a verdict on all of them.
        reason = f"{', '.join(missing)} not in this process nor (yet) in the session's journals; "
        if run.config.getoption("llem_dist") == "off":
            reason += "without --llem-dist=off one xdist worker gets the whole experiment"
        else:
            reason += f"run the experiment again: pytest {selection.file}::{planned.experiment.id}"
        return (gates.without_cycles("failed", reason, planned.limits),)
    judged = {
        arm: [found[arm][cycle] for cycle in cycles] for arm, cycles in selection.cycles.items()
    }
    known = references(run.config)
    return gates.judge(
        planned.limits,
        judged[head],
        () if known is None else known.of(study.name, planned.experiment.id),
        base=None if head is None else judged.get("base", []),
        allow_estimated=run.allow_estimated,
        strict=run.strict,
    )


def _outcomes(run: Run, selection: Selection, arm: Arm | None) -> Mapping[int, Outcome]:
    """An arm's cycles, of this process or of the session's others."""
    study, planned = selection.study, selection.planned
    outcomes = run.outcomes.get((study.path, planned.experiment.id, arm), {})
    if outcomes.keys() >= set(selection.cycles[arm]):
        return outcomes
    missing = set(selection.cycles[arm]) - outcomes.keys()
    return {**_elsewhere(run, selection, arm, missing), **outcomes}


def _elsewhere(
    run: Run, selection: Selection, arm: Arm | None, missing: Collection[int]
) -> Mapping[int, Outcome]:
    """Cycles that other processes of the session measured.

    Left to xdist's own scheduler, a gate may come before them: it waits for them as long as others
    measure, or wait for their turn.
    """
    planned = selection.planned
    until_s = time.monotonic() + (_GRACE_S if run.is_left_to_xdist else 0.0)
    while True:
        found = run.elsewhere(selection.file, planned.experiment.id, planned.digest, arm)
        if found.keys() >= set(missing) or time.monotonic() >= until_s:
            return found
        # They may wait for the very device that an engine of ours is kept on.
        run.keep_engine_for(None)
        if run.workers.devices.are_wanted():
            until_s = time.monotonic() + _GRACE_S
        time.sleep(_AGAIN_S)
