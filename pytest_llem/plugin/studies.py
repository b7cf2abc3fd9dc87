"""Brought in with the first study: session state, fixtures, order, and results on reports."""

from __future__ import annotations

import importlib
from collections.abc import Generator
from typing import Literal

import pytest

from pytest_llem.plugin import fixtures, scheduler
from pytest_llem.plugin.collect import LlemItem, MeasurementItem, StudyFile, running
from pytest_llem.plugin.session import KEY, LlemSession
from pytest_llem.plugin.wires import wire_of
from pytest_llem.reports import points

__all__ = ["StudyFile", "register"]

_INVENTORY = "pytest_llem.plugin.inventory"


def register(config: pytest.Config) -> None:
    """Begin the session's state, its fixtures and its order; once."""
    if KEY not in config.stash:
        config.stash[KEY] = LlemSession(config)
        config.pluginmanager.register(fixtures, "llem-fixtures")
        config.pluginmanager.register(scheduler, "llem-scheduler")


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """List what was left out of the user's settings and of the studies' grids."""
    session = config.stash[KEY]
    return [*session.choices.user.problems, *points.left_out(session.skipped_points)]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """In a worker of pytest-xdist: tell what the selected experiments need, and what is here."""
    if (wire := wire_of(session.config)) is not None:
        wire.tell("inventory", importlib.import_module(_INVENTORY).taken(session))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Literal[True] | None:
    """Don't begin with what xdist had given out before the last allowed failure."""
    wire = wire_of(item.config)
    return True if isinstance(item, LlemItem) and wire is not None and wire.stopped else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Settle where everything runs, before the first of it does."""
    option = session.config.option
    # Workers of pytest-xdist run what they collected, whatever else could not be.
    goes_on = option.continue_on_collection_errors or hasattr(session.config, "workerinput")
    if option.collectonly or (session.testsfailed and not goes_on):
        return
    running().begin(session)


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item) -> Literal[True] | None:
    """Keep pytest-timeout off what measures: a study has limits of its own, meant for engines.

    A marker is obeyed: whoever set it meant this very item. True stands for a timer that was set.
    """
    if isinstance(item, LlemItem) and item.get_closest_marker("timeout") is None:
        return True
    return None


@pytest.hookimpl(optionalhook=True)
def pytest_json_runtest_metadata(item: pytest.Item) -> dict[str, object] | None:
    """Give pytest-json-report the figures of a test; it carries them through xdist by itself."""
    return running().scalars(item) if isinstance(item, LlemItem) else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Unload an engine as soon as nothing that follows has use for it."""
    if isinstance(item, LlemItem):
        running().unload(item, nextitem)


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
            running().keep_setup(item, report, call.excinfo)
        if report.skipped and not hasattr(report, "wasxfail"):
            # A skip points at the study, not at this plugin.
            reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
            report.longrepr = (str(item.path), item.line, reason)
        results = {**item.results, **item.config.stash[KEY].news()}
        if results or report.failed:
            vars(report)["llem"] = results
            item.results = {}
    return report
