"""What studies do once tests run: items measure and judge, and put the results on reports.

Kept apart from collecting, which needs none of it: imported by the first test of a study that runs.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import pytest

from pytest_llem.demands import Arm
from pytest_llem.errors import LlemError, ResultsError
from pytest_llem.extensions import BACKENDS, names
from pytest_llem.plugin import reporting, resuming, run, stopping
from pytest_llem.plugin.arrivals import away, parcel
from pytest_llem.plugin.collect import GateItem, LlemItem, MeasurementItem
from pytest_llem.plugin.execute import (
    LlemFailed,
    Selection,
    Turn,
    judge,
    key_of,
    outcome_of,
    raise_failure,
)
from pytest_llem.plugin.once import once
from pytest_llem.plugin.places import settle
from pytest_llem.plugin.session import KEY
from pytest_llem.plugin.wires import wire_of
from pytest_llem.records import Failure
from pytest_llem.reports.collected import GateResult
from pytest_llem.reports.scalars import of_figures, of_verdicts
from pytest_llem.results.journal import Journal
from pytest_llem.results.outcome import Outcome
from pytest_llem.runners import models
from pytest_llem.wire import to_dict

_POSITIONS = pytest.StashKey[dict[pytest.Item, int]]()

__all__ = [
    "begin",
    "check_models",
    "close",
    "containers",
    "hold",
    "journal",
    "keep_setup",
    "represented",
    "run_gate",
    "run_measurement",
    "scalars",
    "unload",
]


def begin(session: pytest.Session) -> None:
    """Settle where everything runs, and say what a user should know before the first test."""
    config = session.config
    llem = config.stash[KEY]
    reporting.register(config)
    # Printed when collection finished.
    reporting.shown(config, llem.choices.user.problems)
    for problem in llem.choices.user.problems:
        llem.notice(problem)
    settle(session)
    resuming.take_over(session)
    reporting.show(config, llem.notices)


def run_measurement(item: MeasurementItem) -> None:
    """Measure, and fail or skip as it went."""
    turn, outcome = _measure(item, item.cycle, item.arm)
    raise_failure(turn, outcome, strict=item.experiment.llem.strict)


def run_gate(item: GateItem) -> None:
    """Judge; measure first when none of the cycles was selected."""
    node = item.experiment
    selected = node.selected
    if not selected:
        selected = {arm: [cycle for cycle, of in node.turns() if of == arm] for arm in node.arms}
        for cycle, arm in node.turns():
            _measure(item, cycle, arm)
    this = run.of(item.config)
    for (cycle, arm), found in node.taken.items():
        # Known before another process has taken it over.
        this.known(node.study.path, node.name, arm).setdefault(cycle, found.outcome)
    chosen = Selection(study=node.study, planned=node.planned, file=node.shown, cycles=selected)
    result = GateResult(
        study=node.study.name,
        file=node.shown,
        node=item.nodeid,
        experiment=node.name,
        cycles=len({cycle for cycles in selected.values() for cycle in cycles}),
        verdicts=judge(this, chosen),
        limits=node.planned.limits,
    )
    item.results["gate"] = to_dict(result)
    item.user_properties.extend(of_verdicts(result.verdicts).items())
    _raise(result)


def _measure(item: LlemItem, cycle: int, arm: Arm | None) -> tuple[Turn, Outcome]:
    """Measure a cycle, and put what became of it on the test's report."""
    turn = _turn(item, cycle, arm)
    this = run.of(item.config)
    this.workers.devices.assigned = _assigned(item)
    earlier = item.experiment.taken.get((cycle, arm))
    outcome = resuming.take(this, turn, earlier) if earlier else _make(item, turn)
    _keep(item, _sent(item, turn, outcome))
    item.ihook.pytest_llem_result(item=item, result=to_dict(outcome))
    if this.unwritable is not None:
        # What was measured is in memory and goes into the report; more would be lost.
        item.session.shouldfail = f"llem: {this.unwritable}"
        fix = "fix: free space there, or set llem_results_dir to another place"
        raise LlemFailed(turn.where, "results can't be kept", [str(this.unwritable), fix])
    return turn, outcome


def _sent(item: LlemItem, turn: Turn, outcome: Outcome) -> Outcome:
    """What goes to the controller; from another host with its files."""
    host, this = away(item.config), run.of(item.config)
    if host is None:
        return outcome
    log = this.journal.log_path(turn.file, outcome.experiment, turn.name)
    sent, files = parcel(outcome, this.journal.folder, log, host)
    item.results.setdefault("files", {}).update(files)
    return sent


def _assigned(item: LlemItem) -> tuple[str, ...]:
    """The GPUs that the scheduler of pytest-xdist means for a test."""
    wire = wire_of(item.config)
    return () if wire is None else wire.units(_index(item))


def _index(item: pytest.Item) -> int:
    """Number of a test among the session's, as xdist has it."""
    config = item.config
    if _POSITIONS not in config.stash:
        config.stash[_POSITIONS] = {each: n for n, each in enumerate(item.session.items)}
    return config.stash[_POSITIONS].get(item, -1)


def _is_in_lane(item: LlemItem, following: LlemItem) -> bool:
    """Whether what follows is to be measured on the same GPUs; without xdist it always is."""
    wire = wire_of(item.config)
    return wire is None or wire.lane(_index(item)) == wire.lane(_index(following))


def _make(item: LlemItem, turn: Turn) -> Outcome:
    may_fail = item.get_closest_marker("xfail") is not None
    return stopping.make(run.of(item.config), turn, may_fail=may_fail)


def hold(item: MeasurementItem) -> None:
    """Skip what isn't to be measured any more, before anything is set up for it.

    Raises:
        pytest.skip.Exception: with the reason.
    """
    if reason := stopping.refusal(run.of(item.config), _turn(item, item.cycle, item.arm)):
        pytest.skip(reason)


def _turn(item: LlemItem, cycle: int, arm: Arm | None) -> Turn:
    node = item.experiment
    return Turn(
        study=node.study,
        planned=node.planned,
        runner=node.runner_of(arm),
        cycle=cycle,
        file=node.shown,
        node=item.nodeid,
        arm=arm,
    )


def _keep(item: LlemItem, outcome: Outcome) -> None:
    """Put an outcome on a test's report: plain data, scalars for junit, the log's end."""
    item.results.setdefault("outcomes", []).append(to_dict(outcome))
    if outcome.failure and outcome.failure.log_tail:
        item.add_report_section("call", "worker log", outcome.failure.log_tail)
    if outcome.measurement is None or isinstance(item, GateItem):
        return
    if outcome.resumed:
        item.user_properties.append(("llem.resumed", outcome.resumed))
    item.user_properties.extend(of_figures(outcome.measurement.metrics).items())


def scalars(item: LlemItem) -> dict[str, object]:
    """What a test is about, and what it has found so far: a line each for other reports."""
    node = item.experiment
    found: dict[str, object] = {
        "llem.study": node.study.name,
        "llem.experiment": node.name,
        "llem.backend": node.planned.experiment.backend,
        "llem.runner": node.runner.value,
    }
    if isinstance(item, MeasurementItem):
        found |= {"llem.cycle": item.cycle, "llem.runner": node.runner_of(item.arm).value}
        found |= {"llem.arm": item.arm} if item.arm else {}
    return found | {k: v for k, v in item.user_properties if k.startswith("llem.")}


def _raise(result: GateResult) -> None:
    failed = [verdict for verdict in result.verdicts if verdict.outcome == "failed"]
    if failed:
        title = f"gate of {result.experiment} failed"
        first = failed[0].where
        lines = [v.text if v.where == first else f"{v.text}  [{v.where}]" for v in failed]
        raise LlemFailed(first, title, lines)
    if result.outcome == "skipped":
        pytest.skip("; ".join(verdict.text for verdict in result.verdicts))


def represented(item: LlemItem, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
    """Our failures as the study's reader should see them; None for all others."""
    if not isinstance(excinfo.value, LlemFailed):
        if isinstance(excinfo.value, LlemError):
            return f"{item.experiment.shown}:{item.line}: {excinfo.value}"
        return None
    shown = excinfo.getrepr(style="value")
    if shown.reprcrash is not None:
        # Where summaries and editors point: the study, not this plugin.
        file, _, line = excinfo.value.where.rpartition(":")
        shown.reprcrash.path = file
        shown.reprcrash.lineno = int(line)
        shown.reprcrash.message = excinfo.value.headline
    return shown


def keep_setup(
    item: MeasurementItem,
    report: pytest.TestReport,
    excinfo: pytest.ExceptionInfo[BaseException],
) -> None:
    """A measurement that didn't get beyond setup has an outcome too; its gate asks for it."""
    turn, this = _turn(item, item.cycle, item.arm), run.of(item.config)
    if report.skipped and item.experiment.llem.strict:
        failure = Failure(kind="skipped", message=f"skipped, and strict: {excinfo.value}")
        report.outcome = "failed"
        report.longrepr = f"{turn.where}: {failure.message}"
        outcome = outcome_of(turn, failure=failure)
    elif report.skipped:
        # What a study allows is no wish for this very measurement.
        wanted = not stopping.refusal(this, turn)
        outcome = outcome_of(turn, skipped=str(excinfo.value), skip_wanted=wanted)
    else:
        message = excinfo.exconly(tryshort=True).removeprefix("Failed: ").splitlines()[0]
        outcome = outcome_of(turn, failure=Failure(kind="setup", message=message))
        may_fail = item.get_closest_marker("xfail") is not None
        stopping.note(this, turn, outcome, None, may_fail=may_fail)
    outcome = dataclasses.replace(outcome, place=this.host)
    this.keep(item.experiment.study.path, outcome)
    this.note(outcome)
    item.results["outcomes"] = [to_dict(outcome)]


def journal(config: pytest.Config) -> Journal:
    """The session's journal; an unwritable place is found before anything is measured."""
    if refusal := config.stash[KEY].refusal:
        pytest.fail(refusal, pytrace=False)
    try:
        return run.of(config).journal
    except ResultsError as error:
        pytest.fail(str(error), pytrace=False)


def close(config: pytest.Config) -> None:
    """Close the journal."""
    run.of(config).close()


def unload(item: LlemItem, following: pytest.Item | None) -> None:
    """Unload an engine that is kept, unless the next item has use for it.

    What a gate between two measurements leaves, the one behind it may use; the same holds for what
    is taken over from an earlier session.
    """
    if isinstance(following, LlemItem) and not following.runners:
        return
    key = None
    if isinstance(following, LlemItem) and _is_in_lane(item, following):
        node = following.experiment
        key = key_of(item.config, node.study, node.planned, following.runners[0])
    run.of(item.config).keep_engine_for(key)


def containers(session: pytest.Session) -> Any:
    """What lets items into containers; nothing is looked at yet, nor imported without need."""
    return importlib.import_module("pytest_llem.plugin.containers").Preflight(session)


def check_models(session: pytest.Session) -> None:
    """Look at the models of all selected experiments, and name every problem at once."""
    nodes = dict.fromkeys(
        item.experiment
        for item in session.items
        if isinstance(item, LlemItem) and item.get_closest_marker("skip") is None
    )
    known = names(BACKENDS)
    uses = [
        models.Use(experiment=node.planned.experiment, where=f"{node.shown}:{node.planned.line}")
        for node in nodes
        # What isn't going to be measured needs no model.
        if node.to_make
        and not node.unmet
        and not node.refused
        and node.planned.experiment.backend in known
    ]

    def problems() -> str:
        found = models.check(uses)
        return models.listed(found) if found else ""

    if text := once(session.config, "models", problems):
        pytest.fail(text, pytrace=False)
