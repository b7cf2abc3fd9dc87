"""Studies as pytest sees them: a file, its experiments, and for each its cycles and a gate.

Only public API: items are ``pytest.Function`` with a callable whose signature names the
fixtures; a study is a ``pytest.Module`` without a Python module, so that module-scoped fixtures
of the user find their node.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llem.demands import Arm, RunnerSpec
from pytest_llem.errors import RunnerError, StudyError
from pytest_llem.experiment import Experiment
from pytest_llem.plugin.arms import base_of
from pytest_llem.plugin.comparing import budgeted, budgets
from pytest_llem.plugin.marks import Mark, Marks, measurement_mark
from pytest_llem.plugin.naming import item_name, shown_path
from pytest_llem.plugin.session import KEY, LlemSession
from pytest_llem.study.load import Planned, Study, load
from pytest_llem.study.schedule import turn_of

if TYPE_CHECKING:
    from pytest_llem.results.resume import Found

__all__ = ["ExperimentNode", "GateItem", "LlemItem", "MeasurementItem", "StudyFile", "running"]


def running() -> Any:
    """The module with what items do when they run: nothing that collecting should pay for."""
    return importlib.import_module("pytest_llem.plugin.running")


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
        given = budgets(self.config)
        for plain, runner in zip(study.experiments, runners, strict=True):
            planned = budgeted(plain, shown, given)
            name = planned.experiment.id
            node: ExperimentNode = ExperimentNode.from_parent(
                self,
                name=name,
                study=study,
                planned=planned,
                runner=runner,
                shown=shown,
                base=self._base(study, planned.experiment),
            )
            for mark in marks.get(name, ()):
                node.add_marker(mark)
            yield node

    def _base(self, study: Study, experiment: Experiment) -> RunnerSpec | None:
        """What an experiment is compared with, should there be anything."""
        try:
            return base_of(self.config.stash[KEY].choices, study, experiment)
        except RunnerError as error:
            raise self.CollectError(f"--llem-ab: {error}") from error

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
        base: where what it is compared with runs; None where it isn't.
        selected: for each arm the cycles that are measured by themselves in this session, once
            that is known; empty where a gate measures them.
        unmet: what it requires and this host lacks.
        refused: why it can't be isolated from the study's other backends.
        taken: cycle and arm to what an earlier session measured, and this one takes over.
    """

    def __init__(
        self,
        *,
        study: Study,
        planned: Planned,
        runner: RunnerSpec,
        shown: str,
        base: RunnerSpec | None = None,
        **keywords: Any,
    ) -> None:
        """Keep what the items need."""
        super().__init__(**keywords)
        self.study = study
        self.planned = planned
        self.runner = runner
        self.shown = shown
        self.base = base
        self.selected: dict[Arm | None, list[int]] = {}
        self.unmet = ""
        self.refused = ""
        self.taken: dict[tuple[int, Arm | None], Found] = {}

    def collect(self) -> Iterator[pytest.Item]:
        """Items ``c1`` … ``cN`` and ``gate``."""
        for cycle, arm in self.turns():
            yield MeasurementItem.from_parent(
                self, name=item_name(cycle, arm), cycle=cycle, arm=arm
            )
        if self.planned.limits:
            yield GateItem.from_parent(self, name="gate")

    @property
    def llem(self) -> LlemSession:
        """The session's state."""
        return self.config.stash[KEY]

    @property
    def arms(self) -> tuple[Arm | None, ...]:
        """What is measured of it."""
        return (None,) if self.base is None else ("head", "base")

    def runner_of(self, arm: Arm | None) -> RunnerSpec:
        """Where an arm runs."""
        return self.base if arm == "base" and self.base is not None else self.runner

    def turns(self) -> Iterator[tuple[int, Arm | None]]:
        """All its measurements, in order."""
        for cycle in range(1, self.study.execution.cycles + 1):
            yield from ((cycle, arm) for arm in sorted(self.arms, key=partial(turn_of, cycle)))

    @property
    def wanted(self) -> list[tuple[int, Arm | None]]:
        """What this session is about; all of it where the gate was selected alone."""
        chosen = [(cycle, arm) for arm, cycles in self.selected.items() for cycle in cycles]
        return chosen or list(self.turns())

    @property
    def to_make(self) -> list[tuple[int, Arm | None]]:
        """What is measured in this session, and not taken over."""
        return [turn for turn in self.wanted if turn not in self.taken]


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
        if self.experiment.refused and self.runners:
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

    @property
    def runners(self) -> Sequence[RunnerSpec]:
        """Where it measures; nowhere if it doesn't."""
        return ()

    def reportinfo(self) -> tuple[Path, int, str]:
        """File, line (from 0) and title."""
        return self.path, self.line - 1, f"[llem] {self.experiment.name} {self.name}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        """Our failures are written for the study's reader; all others as pytest would."""
        return running().represented(self, excinfo) or super().repr_failure(excinfo, *args)

    def isolate(self) -> None:
        """What a container needs to be ready; only known to be one since the selection is.

        Raises:
            pytest.fail.Exception: when containers don't work here.
        """
        if any(runner.mode == "docker" for runner in self.runners):
            self.fixture("llem_docker").admit(self)

    def fixture(self, name: str) -> Any:
        """Set up a fixture that the signature doesn't name; its value."""
        request = self.funcargs["request"]
        assert isinstance(request, pytest.FixtureRequest)
        return request.getfixturevalue(name)


class MeasurementItem(LlemItem):
    """One cycle of an experiment, or of what it is compared with."""

    def __init__(
        self, *, cycle: int, parent: ExperimentNode, arm: Arm | None = None, **keywords: Any
    ) -> None:
        """Ask for the fixtures that the runner needs, and carry the marker."""
        mode = parent.runner_of(arm).mode
        callobj = _docker if mode == "docker" else _local
        super().__init__(parent=parent, callobj=callobj, **keywords)
        self.cycle = cycle
        self.arm = arm
        experiment = parent.planned.experiment
        gpus = 0 if experiment.device == "cpu" else experiment.devices
        self.add_marker(measurement_mark(experiment.backend, mode, cycle, gpus))
        self.extra_keyword_matches.update(
            (experiment.backend, mode, *parent.planned.variants.values())
        )

    def setup(self) -> None:
        """Set up the fixtures, those too that the signature could not name yet."""
        if self.runners and not self.experiment.unmet:
            running().hold(self)
        super().setup()
        self.isolate()

    @property
    def runners(self) -> Sequence[RunnerSpec]:
        """Where it measures, unless an earlier session did."""
        node = self.experiment
        return () if (self.cycle, self.arm) in node.taken else (node.runner_of(self.arm),)

    def runtest(self) -> None:
        """Measure."""
        running().run_measurement(self)


class GateItem(LlemItem):
    """Judges an experiment by its cycles."""

    def __init__(self, *, parent: ExperimentNode, **keywords: Any) -> None:
        """Nothing but the journal is needed: most gates find their cycles measured."""
        super().__init__(parent=parent, callobj=_gate, **keywords)

    @property
    def line(self) -> int:
        """The line of the first limit."""
        return int(self.experiment.planned.limits[0].where.rpartition(":")[2])

    @property
    def runners(self) -> Sequence[RunnerSpec]:
        """Where it measures, when none of the cycles was selected, nor all of them taken over."""
        node = self.experiment
        arms = {} if node.selected else dict.fromkeys(arm for _, arm in node.to_make)
        return [node.runner_of(arm) for arm in arms]

    def runtest(self) -> None:
        """Judge; measure first when none of the cycles was selected."""
        running().run_gate(self)

    def setup(self) -> None:
        """A gate that is going to measure by itself needs what measurements need."""
        super().setup()
        if self.runners:
            self.fixture("llem_models")
            self.isolate()
