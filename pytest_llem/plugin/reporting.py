"""Collects the results that come on reports, and writes them: in the controller under xdist."""

from __future__ import annotations

import functools
import json
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pytest

from pytest_llem.plugin import arms, comparing
from pytest_llem.plugin.annotating import Annotations
from pytest_llem.plugin.arrivals import Arrivals
from pytest_llem.plugin.choices import Choices
from pytest_llem.plugin.naming import SESSION_NAME, shown_path
from pytest_llem.plugin.outputs import Outputs
from pytest_llem.plugin.session import results_folder
from pytest_llem.reports import details, json_report, points, scalars, terminal
from pytest_llem.reports.collected import Collected, GateResult
from pytest_llem.reports.table import Line
from pytest_llem.results.journal import entries
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.provenance import environment
from pytest_llem.results.stopping import failed_too_often
from pytest_llem.wire import from_dict, to_dict

__all__ = [
    "Reporting",
    "order",
    "receive",
    "refused",
    "register",
    "say",
    "show",
    "shown",
    "unjudged",
]

_KEY = pytest.StashKey["Reporting"]()


def register(config: pytest.Config) -> None:
    """Begin collecting; once, and not in xdist's workers, whose reports the controller gets."""
    if _KEY not in config.stash and not hasattr(config, "workerinput"):
        config.stash[_KEY] = Reporting(config)
        config.pluginmanager.register(config.stash[_KEY], "llem-reporting")


def receive(config: pytest.Config, report: pytest.TestReport) -> None:
    """Take the results from a report."""
    if _KEY in config.stash:
        # It may hold files, which nobody else needs to keep until the session's end.
        results = vars(report)["llem"]
        files = results.pop("files", {})
        config.stash[_KEY].receive(results, files, getattr(report, "node", None))
        config.stash[_KEY].annotations.failed(report)


def order(config: pytest.Config, positions: Mapping[str, int]) -> None:
    """Have results in the order in which tests were collected: without xdist they ran in it."""
    if _KEY in config.stash:
        config.stash[_KEY].order = positions


def refused(config: pytest.Config, report: pytest.CollectReport) -> None:
    """Take what is wrong with a study."""
    if _KEY in config.stash:
        config.stash[_KEY].annotations.refused(report)


def show(config: pytest.Config, notices: Sequence[str]) -> None:
    """Print what was noticed before the first test; not in an xdist worker."""
    if _KEY in config.stash:
        config.stash[_KEY].show(notices)


def say(config: pytest.Config, line: str) -> None:
    """Note something for the report, and print it at once."""
    if _KEY in config.stash:
        config.stash[_KEY].say(line)


def unjudged(config: pytest.Config, worker: str) -> str | None:
    """What a worker measured for gates that are still to come, as text; None for nothing."""
    return config.stash[_KEY].unjudged(worker) if _KEY in config.stash else None


def shown(config: pytest.Config, notices: Sequence[str]) -> None:
    """Don't repeat what was printed already."""
    if _KEY in config.stash:
        config.stash[_KEY].shown(notices)


class Reporting:
    """The results of a session, and what is written of them.

    Attributes:
        annotations: what failed, for GitHub.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Look at where reports go, and at the references, before anything is measured.

        Raises:
            pytest.UsageError: when one can't be written, or read.
        """
        self._config = config
        self.annotations = Annotations(config)
        self._outcomes: list[Outcome] = []
        self._gates: dict[str, GateResult] = {}
        self._notices: dict[str, None] = {}
        self._shown: set[str] = set()
        self._skipped_points: list[dict[str, Any]] = []
        self._said: list[str] = []
        self._by: dict[str, list[Outcome]] = {}
        self._arrivals = Arrivals(results_folder(config))
        self.order: Mapping[str, int] = {}
        arms.bases(config)
        self._references = comparing.references(config)
        comparing.budgets(config)
        self._outputs = Outputs(config)

    def receive(
        self, results: dict[str, Any], files: Mapping[str, str] | None = None, node: Any = None
    ) -> None:
        """Take outcomes and verdicts of one test, and what its process noticed.

        Args:
            results: plain data.
            files: that came with them, from another host.
            node: xdist's, of the worker that ran the test.
        """
        self._notices |= dict.fromkeys(results.get("notices", ()))
        for point in results.get("skipped_points", ()):
            # Under xdist every worker has collected the same.
            if point not in self._skipped_points:
                self._skipped_points.append(point)
        outcomes = [from_dict(Outcome, data) for data in results.get("outcomes", [])]
        if outcomes and node is not None and "llem_host" in node.workerinput:
            outcomes, problems = self._arrivals.keep(node.gateway.id, outcomes, files or {})
            self._notices |= dict.fromkeys(problems)
        self._outcomes += outcomes
        if node is not None:
            self._by.setdefault(node.gateway.id, []).extend(outcomes)
        if "gate" in results:
            gate = from_dict(GateResult, results["gate"])
            # Should this be another try, it stands for all before.
            self._gates[gate.node] = gate

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> tuple[str, str, str] | None:
        """A test that took over what an earlier session measured passes as ``RESUMED``."""
        results = vars(report).get("llem", {})
        outcomes = results.get("outcomes")
        if not outcomes or "gate" in results or report.when != "call" or not report.passed:
            return None
        return ("passed", "r", "RESUMED") if all(o["resumed"] for o in outcomes) else None

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the figures from a report that all have seen: the terminal keeps it to the end."""
        if outcomes := vars(report).get("llem", {}).get("outcomes"):
            # Whether it was resumed, the terminal may ask again.
            outcomes[:] = [{"resumed": outcome["resumed"]} for outcome in outcomes]

    def show(self, notices: Sequence[str]) -> None:
        """Print what was noticed before the first test; the summary doesn't repeat it."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        for line in notices:
            if reporter is not None and line not in self._shown:
                reporter.write_line(line)
        self.shown(notices)

    def unjudged(self, worker: str) -> str | None:
        """What a worker measured for gates that are still to come, as text; None for nothing."""
        judged = {(gate.file, gate.experiment) for gate in self._gates.values()}
        made = [one for one in self._by.get(worker, ()) if (one.file, one.experiment) not in judged]
        return json.dumps([to_dict(outcome) for outcome in made]) if made else None

    def say(self, line: str) -> None:
        """Note something for the report, and print it at once."""
        self._notices[line] = None
        self.show([line])

    def shown(self, notices: Sequence[str]) -> None:
        """Note what was printed."""
        self._shown.update(notices)

    @property
    def _distributed(self) -> bool:
        """Whether xdist's workers collect and run, and this process hears of it only."""
        return self._config.pluginmanager.has_plugin("dsession")

    @functools.cached_property
    def _collected(self) -> Collected:
        """All there is, asked for when the session ends: nothing comes after that."""
        last = len(self.order)
        outcomes = sorted(self._outcomes, key=lambda each: self.order.get(each.node, last))
        gates = sorted(self._gates.values(), key=lambda each: self.order.get(each.node, last))
        return Collected(outcomes, gates, self._references)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Fail a session that was to measure and didn't; write the report.

        Before anybody else's: pytest-json-report's report has the exit status too.
        """
        self._finish(session)
        return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_json_modifyreport(self, json_report: dict[str, Any]) -> None:
        """Give pytest-json-report the medians of the experiments."""
        name = self._config.stash[SESSION_NAME]
        json_report["llem"] = {"session": name, **scalars.of_session(self._collected)}

    def _finish(self, session: pytest.Session) -> None:
        self._arrivals.close()
        if self._distributed:
            self._take_lost()
        results = self._collected.experiments.values()
        wanted = [o for result in results for o in result.outcomes if not o.skip_wanted]
        if wanted and not any(outcome.measurement for outcome in self._outcomes):
            self._said.append(f"none of the {len(wanted)} measurements was made")
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if session.exitstatus == pytest.ExitCode.INTERRUPTED and self._outcomes:
            self._said.append("cut short: --llem-resume goes on with what wasn't measured")
        if failed_too_often(o.skipped for o in self._outcomes) and not session.exitstatus:
            # Not even where each of the failures was made light of.
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self._outputs.wanted:
            for line, well in self._outputs.write(self._document(session)):
                self._said.append(line)
                if not well:
                    session.exitstatus = session.exitstatus or pytest.ExitCode.INTERNAL_ERROR

    def _take_lost(self) -> None:
        """Take from the journals what xdist workers measured and didn't live to report."""

        def key(outcome: Outcome) -> tuple[object, ...]:
            return outcome.node, outcome.digest, outcome.cycle, outcome.finished

        known = set(map(key, self._outcomes))
        folder = results_folder(self._config)
        shown = shown_path(self._config, folder)
        for entry in entries(folder):
            if isinstance(entry, str):
                self._said.append(entry.replace(str(folder), shown))
            elif key(entry) not in known:
                self._outcomes.append(entry)
                name = f"{entry.experiment} cycle {entry.cycle}"
                self._said.append(f"{name}: from the journal, its xdist worker was lost")

    def _document(self, session: pytest.Session) -> dict[str, Any]:
        """All that reports are made of, as the user's hooks leave it."""
        data = json_report.document(
            self._collected,
            session=self._config.stash[SESSION_NAME],
            environment={
                **environment(self._config.rootpath),
                "carbon": to_dict(Choices(self._config).user.settings.carbon),
            },
            exit_status=int(session.exitstatus),
            notices=list(self._notices),
            skipped_points=self._skipped_points,
        )
        self._config.hook.pytest_llem_modify_report(config=self._config, report=data)
        return data

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table, and where everything is; as wide as a terminal is, and whole in a file."""
        verbose = self._config.getoption("verbose")
        width = self._config.get_terminal_writer().fullwidth if terminalreporter.isatty else None
        found: list[Line] = []
        if self._outcomes or self._gates:
            found += terminal.lines(self._collected, width, brief=verbose < 0)
        if verbose > 0:
            found += map(Line, details.lines(self._collected))
        if (folder := results_folder(self._config)).exists():
            self._said.append(f"results: {shown_path(self._config, folder)}")
        late = [line for line in self._notices if line not in self._shown]
        if self._distributed:
            late += list(points.left_out(self._skipped_points))
        found += map(Line, (*late, *self._said))
        if found:
            terminalreporter.section("llem")
        for line in found:
            for part in terminal.wrapped(line, width):
                terminalreporter.line(part.text, **({part.style: True} if part.style else {}))
        for text in self.annotations.lines():
            # A command is a whole line, however long.
            terminalreporter.line(text)
