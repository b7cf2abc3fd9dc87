"""Studies as pytest sees them: a file, its experiments, and for each its cycles and a gate.

Only public API: items are ``pytest.Function`` with a callable whose signature names the
fixtures; a study is a ``pytest.Module`` without a Python module, so that module-scoped fixtures
of the user find their node.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.errors import LlemError, RunnerError, StudyError
from pytest_llem.plugin.execute import LlemFailed, Turn, judge, measure, raise_failure
from pytest_llem.plugin.session import KEY, LlemSession, shown_path
from pytest_llem.records import RunnerSpec
from pytest_llem.reports.collected import GateResult
from pytest_llem.results.outcome import Outcome
from pytest_llem.study.load import Planned, Study, load
from pytest_llem.wire import to_dict

__all__ = ["ExperimentNode", "GateItem", "LlemItem", "MeasurementItem", "StudyFile"]


class StudyFile(pytest.Module):
    """A study file."""

    # Without it pytest would import the YAML file as a Python module.
    obj = None

    def collect(self) -> Iterator[pytest.Collector]:
        """One node for each experiment."""
        session = self.config.stash[KEY]
        try:
            study = load(self.path, shown_path(self.config, self.path))
            backends = {planned.experiment.backend for planned in study.experiments}
            runners = {name: session.runner(name, study.runners) for name in sorted(backends)}
        except (StudyError, RunnerError) as error:
            raise self.CollectError(str(error)) from error
        for planned in study.experiments:
            yield ExperimentNode.from_parent(
                self,
                name=planned.experiment.id,
                study=study,
                planned=planned,
                runner=runners[planned.experiment.backend],
            )


class ExperimentNode(pytest.Collector):
    """An experiment: its cycles, and a gate where there is something to judge."""

    def __init__(
        self, *, study: Study, planned: Planned, runner: RunnerSpec, **keywords: Any
    ) -> None:
        """Keep what the items need."""
        super().__init__(**keywords)
        self.study = study
        self.planned = planned
        self.runner = runner
        self.shown = shown_path(self.config, study.path)

    def collect(self) -> Iterator[pytest.Item]:
        """Items ``c1`` … ``cN`` and ``gate``."""
        for cycle in range(1, self.study.execution.cycles + 1):
            yield MeasurementItem.from_parent(self, name=f"c{cycle}", cycle=cycle)
        if self.planned.limits:
            yield GateItem.from_parent(self, name="gate")

    @property
    def llem(self) -> LlemSession:
        """The session's state."""
        return self.config.stash[KEY]

    @property
    def outcomes(self) -> dict[int, Outcome]:
        """What became of the cycles so far."""
        return self.llem.outcomes.get((self.study.path, self.name), {})

    def turn(self, cycle: int, node: str) -> Turn:
        """A cycle, about to be measured by the test of that id."""
        return Turn(
            study=self.study,
            planned=self.planned,
            runner=self.runner,
            cycle=cycle,
            file=self.shown,
            node=node,
        )


def _local(llem_journal: object, llem_models: object) -> None:
    """Names the fixtures of a measurement on this host."""


def _docker(llem_journal: object, llem_models: object, llem_docker: object) -> None:
    """Names the fixtures of a measurement in a container."""


def _gate(request: object, llem_journal: object) -> None:
    """Names the fixtures of a gate; should it measure by itself, it asks for the others."""


class LlemItem(pytest.Function):
    """What measurements and gates have in common.

    Attributes:
        results: plain data for the test's report: outcomes and the gate's verdicts.
    """

    results: dict[str, Any]

    def __init__(self, **keywords: Any) -> None:
        """Start without results."""
        super().__init__(**keywords)
        self.results = {}

    @property
    def experiment(self) -> ExperimentNode:
        """The experiment this item belongs to."""
        assert isinstance(self.parent, ExperimentNode)
        return self.parent

    @property
    def line(self) -> int:
        """The line of the study that this item is about."""
        return self.experiment.planned.line

    def reportinfo(self) -> tuple[Path, int, str]:
        """File, line (from 0) and title."""
        return self.path, self.line - 1, f"[llem] {self.experiment.name} {self.name}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        """Our failures are written for the study's reader; all others as pytest would."""
        if not isinstance(excinfo.value, LlemFailed):
            if isinstance(excinfo.value, LlemError):
                return f"{self.experiment.shown}:{self.line}: {excinfo.value}"
            return super().repr_failure(excinfo, *args)
        shown = excinfo.getrepr(style="value")
        if shown.reprcrash is not None:
            # Where summaries and editors point: the study, not this plugin.
            file, _, line = excinfo.value.where.rpartition(":")
            shown.reprcrash.path = file
            shown.reprcrash.lineno = int(line)
            shown.reprcrash.message = excinfo.value.headline
        return shown

    def measure(self, cycle: int) -> tuple[Turn, Outcome]:
        """Measure a cycle, and put what became of it on this test's report."""
        turn = self.experiment.turn(cycle, self.nodeid)
        outcome = measure(self.experiment.llem, turn)
        self.keep(outcome)
        self.ihook.pytest_llem_result(item=self, result=to_dict(outcome))
        if (error := self.experiment.llem.unwritable) is not None:
            # What was measured is in memory and goes into the report; more would be lost.
            self.session.shouldfail = f"llem: {error}"
            fix = "fix: free space there, or set llem_results_dir to another place"
            raise LlemFailed(turn.where, "results can't be kept", [str(error), fix])
        return turn, outcome

    def keep(self, outcome: Outcome) -> None:
        """Put an outcome on this test's report: plain data, scalars for junit, the log's end."""
        self.results.setdefault("outcomes", []).append(to_dict(outcome))
        if outcome.failure and outcome.failure.log_tail:
            self.add_report_section("call", "worker log", outcome.failure.log_tail)
        if outcome.measurement is None or isinstance(self, GateItem):
            return
        for name, figure in outcome.measurement.metrics.items():
            if figure.value is not None:
                # An estimate must not pass for a measurement where only its name is seen.
                key = "llem.estimated" if figure.quality == "estimated" else "llem"
                self.user_properties.append((f"{key}.{name}", figure.value))


class MeasurementItem(LlemItem):
    """One cycle of an experiment."""

    def __init__(self, *, cycle: int, parent: ExperimentNode, **keywords: Any) -> None:
        """Ask for the fixtures that the runner needs, and carry the marker."""
        callobj = _docker if parent.runner.mode == "docker" else _local
        super().__init__(parent=parent, callobj=callobj, **keywords)
        self.cycle = cycle
        experiment = parent.planned.experiment
        self.add_marker(
            pytest.mark.llem(
                backend=experiment.backend,
                runner=parent.runner.mode,
                cycle=cycle,
                gpus=0 if experiment.device == "cpu" else 1,
            )
        )
        self.extra_keyword_matches.update((experiment.backend, parent.runner.mode))

    def runtest(self) -> None:
        """Measure."""
        turn, outcome = self.measure(self.cycle)
        raise_failure(turn, outcome, strict=self.experiment.llem.strict)


class GateItem(LlemItem):
    """Judges an experiment by its cycles."""

    def __init__(self, *, parent: ExperimentNode, **keywords: Any) -> None:
        """Nothing but the journal is needed: most gates find their cycles measured."""
        super().__init__(parent=parent, callobj=_gate, **keywords)

    @property
    def line(self) -> int:
        """The line of the first limit."""
        return int(self.experiment.planned.limits[0].where.rpartition(":")[2])

    def runtest(self) -> None:
        """Judge; measure first when none of the cycles was selected."""
        node = self.experiment
        selected = [
            item.cycle
            for item in self.session.items
            if isinstance(item, MeasurementItem) and item.parent is node
        ]
        if not selected:
            selected = list(range(1, node.study.execution.cycles + 1))
            self._fixture("llem_models")
            if node.runner.mode == "docker":
                self._fixture("llem_docker")
            for cycle in selected:
                self.measure(cycle)
        verdicts = judge(node.llem, node.planned, selected, node.outcomes)
        result = GateResult(
            study=node.study.name,
            file=node.shown,
            node=self.nodeid,
            experiment=node.name,
            cycles=len(selected),
            verdicts=verdicts,
        )
        self.results["gate"] = to_dict(result)
        self._raise(result)

    def _fixture(self, name: str) -> None:
        request = self.funcargs["request"]
        assert isinstance(request, pytest.FixtureRequest)
        request.getfixturevalue(name)

    def _raise(self, result: GateResult) -> None:
        failed = [verdict for verdict in result.verdicts if verdict.outcome == "failed"]
        if failed:
            title = f"gate of {result.experiment} failed"
            first = failed[0].where
            lines = [v.text if v.where == first else f"{v.text}  [{v.where}]" for v in failed]
            raise LlemFailed(first, title, lines)
        if result.outcome == "skipped":
            pytest.skip("; ".join(verdict.text for verdict in result.verdicts))
