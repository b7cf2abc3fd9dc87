"""The pytest plugin: options and the hooks that decide whether there is anything to do.

Importing this module is all that a session without studies pays for; the rest is registered
when the first study is collected, or when a report brings a result from an xdist worker.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.plugin import hookspecs
from pytest_llem.plugin.naming import (
    SESSION_NAME,
    holds_study,
    is_study,
    left_out,
    named_paths,
    session_name,
)
from pytest_llem.plugin.options import add_options, add_short_option, longest_wait_s
from pytest_llem.plugin.wires import Wires

__all__: list[str] = []

_STUDIES = "pytest_llem.plugin.studies"
_REPORTING = "pytest_llem.plugin.reporting"
_PLAN = "pytest_llem.plugin.plan"
_SCHEMA = "pytest_llem.study.json_schema"
_DISTRIBUTION = "pytest_llem.plugin.distribution"
_HOSTS = "pytest_llem.plugin.hosts"
_RESUMING = "pytest_llem.plugin.resuming"
_MARKER = "llem(backend, runner, cycle, gpus): set on each measurement of a study by pytest-llem"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options ``--llem-*`` and the ini settings ``llem_*``."""
    add_options(parser)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(parser: pytest.Parser, args: Sequence[str]) -> Iterator[None]:
    """Add ``--skip-preflight`` when everybody else has added theirs."""
    yield
    add_short_option(parser, args)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Offer the hooks of ``hookspecs``."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marker; look at the paths named by the user."""
    config.addinivalue_line("markers", _MARKER)
    if config.getini("llem_collect") not in {"named", "always"}:
        raise pytest.UsageError("ini llem_collect: accepted are named and always")
    longest_wait_s(config)
    config.stash[SESSION_NAME] = session_name(config)
    gatekeeper = _Gatekeeper(config)
    config.pluginmanager.register(gatekeeper, "llem-gatekeeper")
    if any(config.getoption(name) for name in _CHECKED) or config.getoption("llem_save") == "":
        # Checked before anything is measured.
        gatekeeper.load(_REPORTING)
    if config.getoption("llem_resume") is not None:
        importlib.import_module(_RESUMING).choose(config)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Print the schema in place of a session; keep pytest-xdist from taking a plan apart."""
    if config.getoption("llem_schema"):
        sys.stdout.write(importlib.import_module(_SCHEMA).text() + "\n")
        return int(pytest.ExitCode.OK)
    if config.getoption("llem_plan"):
        for name, value in {"numprocesses": 0, "dist": "no", "distload": False, "tx": []}.items():
            if hasattr(config.option, name):
                setattr(config.option, name, value)
    return None


_CHECKED = (
    *("llem_json", "llem_html", "llem_markdown", "llem_save"),
    *("llem_compare", "llem_compare_fail", "llem_ab"),
)


class _Gatekeeper:
    """Notices studies and results; brings in the rest of the plugin for the first of either."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._named = named_paths(config)
        self._left_out: list[Path] = []
        self._gc_paused = False
        self._hosts: Any = None
        self._wires = Wires()
        self._wires.says = self._say
        self._order: dict[str, int] | None = None

    def _say(self, text: str) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and self._config.getoption("verbose") >= 0:
            reporter.ensure_newline()
            reporter.write_line(f"llem: {text}")

    def load(self, name: str) -> Any:
        """Import a part of the plugin and let it register itself, once."""
        module: Any = importlib.import_module(name)
        if not self._config.pluginmanager.is_registered(module):
            self._config.pluginmanager.register(module, name)
        module.register(self._config)
        return module

    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        """Collect a study that the user asked for; count the others."""
        verdict = is_study(self._config, file_path, self._named)
        if verdict == "left out":
            self._left_out.append(file_path)
        if verdict != "collect":
            return None
        if gc.isenabled():
            # A large study makes tens of thousands of items, all of them kept: looking through
            # them for garbage again and again is a sixth of the time that collecting takes.
            gc.disable()
            self._gc_paused = True
        collector: pytest.Collector = self.load(_STUDIES).StudyFile.from_parent(
            parent, path=file_path
        )
        return collector

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionstart(self) -> Generator[None, object, object]:
        """Under xdist other hosts are reached here; what is wrong with one is said in words."""
        if not self._config.pluginmanager.has_plugin("dsession"):
            return (yield)
        with importlib.import_module(_HOSTS).connecting():
            return (yield)

    @pytest.hookimpl(specname="pytest_collection", tryfirst=True)
    def pytest_collection_of_a_stand_in(self) -> bool | None:
        """Collect nothing in place of a worker whose host is gone."""
        return True if "llem_standin" in getattr(self._config, "workerinput", {}) else None

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Let garbage be collected again when the tests have been."""
        try:
            return (yield)
        finally:
            if self._gc_paused:
                gc.enable()
                self._gc_paused = False

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say how to run the studies that were left out."""
        # Files beside a named one are seen too, but nobody misses them.
        if not self._left_out or self._named:
            return []
        return [left_out(self._left_out, self._config.invocation_params.dir)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Show the plan in place of running anything, where it was asked for."""
        option = self._config.option
        failed = session.testsfailed and not option.continue_on_collection_errors
        if not option.llem_plan or option.collectonly or failed:
            return None
        importlib.import_module(_PLAN).show(session)
        return True

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """In a workflow of GitHub's a study that is refused is told of where failed tests are."""
        study = report.nodeid.endswith((".yaml", ".yml"))
        if report.failed and study and "GITHUB_ACTIONS" in os.environ:
            self.load(_REPORTING).refused(self._config, report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Under xdist the first result comes on a report: the controller collects nothing."""
        if hasattr(report, "llem"):
            self.load(_REPORTING).receive(self._config, report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell an xdist worker what the user named: its own arguments don't show that."""
        node.workerinput["llem_named"] = [str(path) for path in self._named]
        node.workerinput["llem_session"] = self._config.stash[SESSION_NAME]
        self._wires.connect(node)
        if self._hosts is None:
            self._hosts = importlib.import_module(_HOSTS).Hosts(self._config, self._wires, self)
            self._config.pluginmanager.register(self._hosts, "llem-hosts")
        self._hosts.equip(node, self._named)
        if self._config.getoption("llem_resume") is not None:
            node.workerinput["llem_resume"] = importlib.import_module(_RESUMING).told(self._config)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Note the order of the tests, which they don't finish in, once there is a study."""
        if self._order is None and holds_study(ids):
            self._order = {nodeid: index for index, nodeid in enumerate(ids)}
            self.load(_REPORTING).order(self._config, self._order)
            stopping = importlib.import_module(_DISTRIBUTION).Stopping
            self._config.pluginmanager.register(stopping(self._config, self._wires))

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_xdist_make_scheduler(self) -> Generator[None, Any, Any]:
        """Have one xdist worker run all of an experiment."""
        stock = yield
        choose = importlib.import_module(_DISTRIBUTION).choose
        self._hosts.scheduler = chosen = choose(self._config, stock, self._wires)
        return chosen
