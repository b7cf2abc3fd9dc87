"""Collects the results that come on reports, and writes them: in the controller under xdist."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.errors import ResultsError
from pytest_llem.plugin.naming import SESSION_NAME
from pytest_llem.plugin.session import results_folder, shown_path
from pytest_llem.reports import files, json_report, terminal
from pytest_llem.reports.collected import Collected, GateResult
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.provenance import environment
from pytest_llem.wire import from_dict

__all__ = ["Reporting", "receive", "register"]

_KEY = pytest.StashKey["Reporting"]()


def register(config: pytest.Config) -> None:
    """Begin collecting; once, and not in xdist's workers, whose reports the controller gets."""
    if _KEY not in config.stash and not hasattr(config, "workerinput"):
        config.stash[_KEY] = Reporting(config)
        config.pluginmanager.register(config.stash[_KEY], "llem-reporting")


def receive(config: pytest.Config, report: pytest.TestReport) -> None:
    """Take the results from a report."""
    if _KEY in config.stash:
        config.stash[_KEY].receive(vars(report)["llem"])


class Reporting:
    """The results of a session, and what is written of them."""

    def __init__(self, config: pytest.Config) -> None:
        """Look at the report's path before anything is measured.

        Raises:
            pytest.UsageError: when it can't be written.
        """
        self._config = config
        self._outcomes: list[Outcome] = []
        self._gates: list[GateResult] = []
        self._said: list[str] = []
        self._json: Path | None = None
        if path := config.getoption("llem_json"):
            self._json = config.invocation_params.dir / path
            try:
                files.check_writable(self._json)
            except ResultsError as error:
                raise pytest.UsageError(f"--llem-json: {error}") from error

    def receive(self, results: dict[str, Any]) -> None:
        """Take outcomes and verdicts of one test."""
        self._outcomes += [from_dict(Outcome, data) for data in results.get("outcomes", [])]
        if "gate" in results:
            self._gates.append(from_dict(GateResult, results["gate"]))

    @property
    def _collected(self) -> Collected:
        return Collected(self._outcomes, self._gates)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a session that was to measure and didn't; write the report."""
        wanted = [outcome for outcome in self._outcomes if not outcome.skip_wanted]
        if wanted and not any(outcome.measurement for outcome in wanted):
            self._said.append(f"none of the {len(wanted)} measurements was made")
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self._json is not None:
            self._write(session, self._json)

    def _write(self, session: pytest.Session, path: Path) -> None:
        data = json_report.document(
            self._collected,
            session=self._config.stash[SESSION_NAME],
            environment=environment(self._config.rootpath),
            exit_status=int(session.exitstatus),
        )
        self._config.hook.pytest_llem_modify_report(config=self._config, report=data)
        try:
            files.write(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
        except (ResultsError, ValueError, TypeError) as error:
            self._said.append(f"the report was not written: {error}; see the journal")
            session.exitstatus = session.exitstatus or pytest.ExitCode.INTERNAL_ERROR
        else:
            self._said.append(f"report: {path}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table, and where everything is."""
        table = list(terminal.lines(self._collected)) if self._outcomes or self._gates else []
        if (folder := results_folder(self._config)).exists():
            self._said.append(f"results: {shown_path(self._config, folder)}")
        if not table and not self._said:
            return
        terminalreporter.section("llem")
        for line in (*table, *self._said):
            terminalreporter.line(line)
