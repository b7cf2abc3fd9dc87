"""Studies as pytest sees them: a file, its experiments, and for each its cycles and a gate.

Only public API: items are ``pytest.Function`` with a callable whose signature names the
fixtures; a study is a ``pytest.Module`` without a Python module, so that module-scoped fixtures
of the user find their node.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.errors import LlemError, RunnerError, StudyError
from pytest_llem.plugin.execute import LlemFailed, Turn, judge, measure, raise_failure
from pytest_llem.plugin.marks import Mark, Marks, measurement_mark
from pytest_llem.plugin.naming import shown_path
from pytest_llem.plugin.session import KEY, LlemSession
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

    def __init__(self, **keywords: Any) -> None:
        """Begin with nothing known of fixtures."""
        super().__init__(**keywords)
        self.fixture_info: dict[Callable[..., None], Any] = {}

    def collect(self) -> Iterator[pytest.Collector]:
        """One node for each experiment."""
        shown = shown_path(self.config, self.path)
        try:
            study, runners, marks = self._read(shown)
        except (StudyError, RunnerError) as error:
            raise self.CollectError(str(error)) from error
        for planned, runner in zip(study.experiments, runners, strict=True):
            name = planned.experiment.id
            node: ExperimentNode = ExperimentNode.from_parent(
                self, name=name, study=study, planned=planned, runner=runner, shown=shown
            )
            for mark in marks.get(name, ()):
                node.add_marker(mark)
            yield node

    def _read(self, shown: str) -> tuple[Study, list[RunnerSpec], dict[str, list[Mark]]]:
        """The study, the runner of each experiment, and the marks of those that have any."""
        session = self.config.stash[KEY]
        study = load(self.path, shown, session.choices.surroundings)
        if study.skipped and session.strict:
            raise StudyError(sorted({line for point in study.skipped for line in point.reasons}))
        session.studies[shown] = study
        made = Marks()
        found: dict[tuple[str, str | None], RunnerSpec] = {}
        runners, marks = [], {}
        for planned in study.experiments:
            experiment = planned.experiment
            key = (experiment.backend, experiment.image)
            if key not in found:
                found[key] = session.choices.runner(study, experiment)
            runners.append(found[key])
            if experiment.marks or experiment.skip or experiment.xfail:
                marks[experiment.id] = made.of(planned)
        return study, runners, marks


class ExperimentNode(pytest.Collector):
    """An experiment: its cycles, and a gate where there is something to judge.

    Attributes:
        runner: where it runs; may be moved to containers once the selection is known.
        shown: the study's path as messages name it.
        selected: cycles that are measured by themselves in this session, once that is known.
        unmet: what it requires and this host lacks.
        refused: why it can't be isolated from the study's other backends.
    """

    def __init__(
        self, *, study: Study, planned: Planned, runner: RunnerSpec, shown: str, **keywords: Any
    ) -> None:
        """Keep what the items need."""
        super().__init__(**keywords)
        self.study = study
        self.planned = planned
        self.runner = runner
        self.shown = shown
        self.selected: list[int] = []
        self.unmet = ""
        self.refused = ""

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


# The signatures name the fixtures of the items. No docstrings: ``--collect-only -v`` would print
# them below each item.
def _local(request: object, llem_journal: object, llem_models: object) -> None: ...


def _docker(
    request: object, llem_journal: object, llem_models: object, llem_docker: object
) -> None: ...


# Should it measure by itself, it asks for the others.
def _gate(request: object, llem_journal: object) -> None: ...


# Pytest asks each item for its callable's signature, and inspect is slow to work one out.
for _names in (_local, _docker, _gate):
    vars(_names)["__signature__"] = inspect.signature(_names)


class LlemItem(pytest.Function):
    """What measurements and gates have in common.

    Attributes:
        results: plain data for the test's report: outcomes and the gate's verdicts.
    """

    results: dict[str, Any]

    def __init__(
        self, *, parent: ExperimentNode, callobj: Callable[..., None], **keywords: Any
    ) -> None:
        """Start without results.

        What fixtures a callable needs takes pytest more than half of an item's cost to work out,
        and is the same for all items of a study: it is handed on from the first, as pytest does
        among parametrised tests. Marks may bring fixtures of their own, so not where there are
        any. There is no public name to read it by; where there is none at all, pytest works it
        out again.
        """
        study = parent.parent
        shares = isinstance(study, StudyFile) and not parent.own_markers
        known = study.fixture_info if isinstance(study, StudyFile) and shares else {}
        super().__init__(parent=parent, callobj=callobj, fixtureinfo=known.get(callobj), **keywords)
        known.setdefault(callobj, getattr(self, "_fixtureinfo", None))
        self.results = {}

    def setup(self) -> None:
        """Skip or refuse what can't be made here, before anything is set up for it."""
        if self.experiment.unmet:
            pytest.skip(self.experiment.unmet)
        measures = isinstance(self, MeasurementItem) or not self.experiment.selected
        if self.experiment.refused and measures:
            pytest.fail(self.experiment.refused, pytrace=False)
        super().setup()

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

    def isolate(self) -> None:
        """What a container needs to be ready; only known to be one since the selection is."""
        if self.experiment.runner.mode == "docker":
            self.fixture("llem_docker")

    def fixture(self, name: str) -> None:
        """Set up a fixture that the signature doesn't name."""
        request = self.funcargs["request"]
        assert isinstance(request, pytest.FixtureRequest)
        request.getfixturevalue(name)

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
        gpus = 0 if experiment.device == "cpu" else experiment.devices
        mode = parent.runner.mode
        self.add_marker(measurement_mark(experiment.backend, mode, cycle, gpus))
        self.extra_keyword_matches.update(
            (experiment.backend, mode, *parent.planned.variants.values())
        )

    def setup(self) -> None:
        """Set up the fixtures, those too that the signature could not name yet."""
        super().setup()
        self.isolate()

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
        selected = node.selected
        if not selected:
            selected = list(range(1, node.study.execution.cycles + 1))
            for cycle in selected:
                self.measure(cycle)
        verdicts = judge(node.llem, node.planned, node.shown, selected, node.outcomes)
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

    def setup(self) -> None:
        """A gate that is going to measure by itself needs what measurements need."""
        super().setup()
        if not self.experiment.selected:
            self.fixture("llem_models")
            self.isolate()

    def _raise(self, result: GateResult) -> None:
        failed = [verdict for verdict in result.verdicts if verdict.outcome == "failed"]
        if failed:
            title = f"gate of {result.experiment} failed"
            first = failed[0].where
            lines = [v.text if v.where == first else f"{v.text}  [{v.where}]" for v in failed]
            raise LlemFailed(first, title, lines)
        if result.outcome == "skipped":
            pytest.skip("; ".join(verdict.text for verdict in result.verdicts))
