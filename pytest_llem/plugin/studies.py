"""Brought in with the first study: session state, fixtures, order, and results on reports."""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

import pytest

from pytest_llem.plugin import fixtures, places, reporting, scheduler
from pytest_llem.plugin.collect import LlemItem, MeasurementItem, StudyFile
from pytest_llem.plugin.execute import outcome_of
from pytest_llem.plugin.session import KEY, LlemSession
from pytest_llem.records import Failure
from pytest_llem.reports import terminal
from pytest_llem.wire import to_dict

__all__ = ["StudyFile", "register"]


def register(config: pytest.Config) -> None:
    """Begin the session's state, its fixtures and its order; once."""
    if KEY not in config.stash:
        config.stash[KEY] = LlemSession(config)
        config.pluginmanager.register(fixtures, "llem-fixtures")
        config.pluginmanager.register(scheduler, "llem-scheduler")


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """List what was left out of the user's settings and of the studies' grids."""
    session = config.stash[KEY]
    for problem in session.choices.user.problems:
        session.notice(problem)
    reporting.shown(config, session.choices.user.problems)
    return [*session.choices.user.problems, *terminal.left_out(session.skipped_points)]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Settle where everything runs, before the first of it does."""
    option = session.config.option
    if option.collectonly or (session.testsfailed and not option.continue_on_collection_errors):
        return
    llem = session.config.stash[KEY]
    places.settle(session)
    reporting.show(session.config, llem.notices)


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item) -> Literal[True] | None:
    """Keep pytest-timeout off what measures: a study has limits of its own, meant for engines.

    A marker is obeyed: whoever set it meant this very item. True stands for a timer that was set.
    """
    if isinstance(item, LlemItem) and item.get_closest_marker("timeout") is None:
        return True
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the results on the report: plain data, so that xdist can carry them."""
    report = yield
    if isinstance(item, LlemItem):
        if call.when == "setup":
            item.results = {}
            # Should this be another try, the last one's figures are none of its own.
            kept = [pair for pair in item.user_properties if not pair[0].startswith("llem.")]
            item.user_properties[:] = kept
        if call.when == "setup" and call.excinfo and isinstance(item, MeasurementItem):
            _keep_setup(item, report, call.excinfo)
        if report.skipped and not hasattr(report, "wasxfail"):
            # A skip points at the study, not at this plugin.
            reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
            report.longrepr = (str(item.path), item.line, reason)
        if results := {**item.results, **item.config.stash[KEY].news()}:
            vars(report)["llem"] = results
            item.results = {}
    return report


def _keep_setup(
    item: MeasurementItem,
    report: pytest.TestReport,
    excinfo: pytest.ExceptionInfo[BaseException],
) -> None:
    """A measurement that didn't get beyond setup has an outcome too; its gate asks for it."""
    turn = item.experiment.turn(item.cycle, item.nodeid)
    if report.skipped and item.experiment.llem.strict:
        failure = Failure(kind="skipped", message=f"skipped, and strict: {excinfo.value}")
        report.outcome = "failed"
        report.longrepr = f"{turn.where}: {failure.message}"
        outcome = outcome_of(turn, failure=failure)
    elif report.skipped:
        outcome = outcome_of(turn, skipped=str(excinfo.value), skip_wanted=True)
    else:
        message = excinfo.exconly(tryshort=True).removeprefix("Failed: ").splitlines()[0]
        failure = Failure(kind="setup", message=message)
        outcome = outcome_of(turn, failure=failure)
    item.experiment.llem.keep(item.experiment.study.path, outcome)
    item.results["outcomes"] = [to_dict(outcome)]
