"""What a study's ``max_failures`` and ``time_budget_s`` leave to be measured."""

from __future__ import annotations

import time

from pytest_llem.plugin.execute import Turn, keep, measure, outcome_of
from pytest_llem.plugin.run import Run
from pytest_llem.plugin.session import KEY
from pytest_llem.records import Failure
from pytest_llem.results.outcome import Outcome

__all__ = ["make", "note", "refusal"]


def refusal(run: Run, turn: Turn) -> str:
    """Why a measurement isn't to be made any more; empty where it is."""
    experiment = turn.planned.experiment
    gap_s = run.rests.expected_s(turn.file, experiment, turn.cycle, turn.arm, turn.study.gaps)
    stopping = run.stopping(turn.study)
    reason = stopping.refusal(experiment.backend, _name(turn), turn.cycle, gap_s)
    if reason:
        said = reason
        if reason.startswith("time_budget_s"):
            said = "time_budget_s: no time for all of it; --llem-resume goes on with the rest"
        run.config.stash[KEY].notice(f"{turn.file}: {said}")
    return reason


def make(run: Run, turn: Turn, *, may_fail: bool) -> Outcome:
    """Make a measurement, unless it isn't to be made any more.

    Args:
        run: of this process.
        turn: what to measure.
        may_fail: a failure is expected, and isn't counted.
    """
    if reason := refusal(run, turn):
        failure = Failure(kind="skipped", message=f"skipped, and strict: {reason}")
        refused = {"failure": failure} if run.strict else {"skipped": reason}
        outcome = outcome_of(turn, **refused)
        keep(run, turn, outcome)
        return outcome
    began_s = time.monotonic()
    outcome = measure(run, turn)
    waited_s = float((outcome.gap or {}).get("waited_s", 0.0))
    note(run, turn, outcome, time.monotonic() - began_s - waited_s, may_fail=may_fail)
    return outcome


def note(
    run: Run, turn: Turn, outcome: Outcome, took_s: float | None, *, may_fail: bool = False
) -> None:
    """Take note of what became of a measurement, for those that follow.

    Args:
        run: of this process.
        turn: that was measured.
        outcome: what became of it.
        took_s: without the rest before it; None where that says nothing of others.
        may_fail: a failure is expected, and isn't counted.
    """
    failed = outcome.failure is not None and not may_fail
    backend = turn.planned.experiment.backend
    run.stopping(turn.study).made(backend, _name(turn), turn.cycle, took_s, failed=failed)


def _name(turn: Turn) -> str:
    """Of an experiment; what it is compared with may take another time."""
    name = turn.planned.experiment.id
    return name if turn.arm is None else f"{name} ({turn.arm})"
