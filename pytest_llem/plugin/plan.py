"""``--llem-plan``: what would be measured, in place of measuring it."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from pytest_llem.demands import Arm
from pytest_llem.experiment import Experiment
from pytest_llem.plugin.collect import ExperimentNode, GateItem, LlemItem, MeasurementItem
from pytest_llem.plugin.naming import shown_path
from pytest_llem.plugin.rest import place_of
from pytest_llem.plugin.session import KEY, results_folder
from pytest_llem.records import IDLE_LASTS_S
from pytest_llem.reports.plan import StudyPlan, Turn, lines
from pytest_llem.results import journal
from pytest_llem.runners.docker.outlook import Outlook
from pytest_llem.runners.fetch import Copy, ImageSupply, Stock, Supply
from pytest_llem.runners.thermal import Place, gap_s
from pytest_llem.study.identity import engine_key

__all__ = ["show"]

_SESSIONS = 20
_OUTCOMES = 2000
"""Older sessions aren't read once the newer ones have told so much: a plan should come at once."""

_NO_STUDY = "llem: no study among the collected tests; name one: pytest --llem-plan benchmarks"
_NOT_SELECTED = "llem: nothing to plan, as nothing of the collected studies is selected"

_Named = TypeVar("_Named", Supply, Copy)

_Cycle = tuple[ExperimentNode, int, Arm | None]
_Identity = tuple[str, str]
"""Digest of an experiment, and where it ran."""


def show(session: pytest.Session) -> None:
    """Print the plan of the selected items.

    Args:
        session: collected, and settled where everything runs.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    items = [item for item in session.items if isinstance(item, LlemItem)]
    reporter.write_line("")
    for line in _lines(session.config, items):
        reporter.write_line(line)


def _lines(config: pytest.Config, items: Sequence[LlemItem]) -> Iterator[str]:
    if items:
        yield from lines(list(_plans(config, items)))
    elif KEY in config.stash and config.stash[KEY].studies:
        yield _NOT_SELECTED
    else:
        yield _NO_STUDY


def _plans(config: pytest.Config, items: Sequence[LlemItem]) -> Iterator[StudyPlan]:
    """A plan for each study, in the order of their first items."""
    stock, outlook = Stock(), Outlook()
    idlers = {item: reason for item in items if (reason := _idle(item))}
    turns = _turns(config, list(_cycles(items, idlers)))
    studies: dict[Path, list[LlemItem]] = {}
    for item in items:
        studies.setdefault(item.path, []).append(item)
    for path, selected in studies.items():
        node = selected[0].experiment
        own = turns.get(path, [])
        experiments = {turn.experiment.id: turn.experiment for turn in own}
        yield StudyPlan(
            name=node.study.name,
            file=node.shown,
            execution=node.study.execution,
            in_study=len(node.study.experiments),
            with_base=_with_base(node, selected),
            selected=len({item.experiment for item in selected}),
            turns=own,
            gates=sum(isinstance(item, GateItem) and item not in idlers for item in selected),
            supplies=[_shown(config, each) for each in stock.supplies(experiments.values())],
            images=_images(outlook, own),
            copies=_copies(config, outlook, own),
            not_made=_grouped({item: idlers[item] for item in selected if item in idlers}),
        )
    outlook.close()


def _images(outlook: Outlook, turns: Sequence[Turn]) -> list[ImageSupply]:
    """Images of containers, each once; without a container nobody asks for Docker."""
    used = [turn.runner.image for turn in turns if turn.runner.mode == "docker"]
    return [outlook.image(name) for name in dict.fromkeys(used) if name]


def _copies(config: pytest.Config, outlook: Outlook, turns: Sequence[Turn]) -> list[Copy]:
    """Models that are sent to a daemon elsewhere."""
    own = {turn.experiment.id: turn.experiment for turn in turns if turn.runner.mode == "docker"}
    if not own:
        return []
    return [_shown(config, copy) for copy in outlook.copies(own.values())]


def _idle(item: LlemItem) -> tuple[str, str] | None:
    """Why an item would not measure, under the word for it."""
    node = item.experiment
    if (mark := item.get_closest_marker("skip")) is not None:
        return "skipped", str(mark.kwargs.get("reason") or (mark.args or ["no reason given"])[0])
    if node.unmet:
        return "unmet", node.unmet
    return ("refused", node.refused) if node.refused else None


def _grouped(
    idlers: Mapping[LlemItem, tuple[str, str]],
) -> dict[tuple[str, str], list[str]]:
    """Word and reason to experiments, ordered by the word."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for item, why in sorted(idlers.items(), key=lambda pair: pair[1][0]):
        found.setdefault(why, {})[item.experiment.name] = None
    return {why: list(names) for why, names in found.items()}


def _cycles(items: Sequence[LlemItem], idlers: Collection[LlemItem]) -> Iterator[_Cycle]:
    """What would be measured, in order; a gate without a selected cycle measures all."""
    with_cycles = {item.experiment for item in items if isinstance(item, MeasurementItem)}
    for item in items:
        node = item.experiment
        if item in idlers:
            continue
        if isinstance(item, MeasurementItem):
            if item.runners:
                yield node, item.cycle, item.arm
        elif node not in with_cycles:
            yield from ((node, cycle, arm) for cycle, arm in node.to_make)


def _turns(config: pytest.Config, cycles: Sequence[_Cycle]) -> dict[Path, list[Turn]]:
    """The measurements of each study, with what is known of their times."""
    positions = {
        (path, planned.experiment.id): position
        for path, study in {node.path: node.study for node, *_ in cycles}.items()
        for position, planned in enumerate(study.experiments)
    }
    known = _known(config, {_identity(node, arm) for node, _, arm in cycles})
    idles = _Idles()
    found: dict[Path, list[Turn]] = {}
    previous: Place | None = None
    for node, cycle, arm in cycles:
        gaps = node.study.gaps
        place = place_of(node.shown, node.name, cycle, arm)
        turn = Turn(
            experiment=_experiment(node),
            cycle=cycle,
            arm=arm,
            runner=node.runner_of(arm),
            position=positions[node.path, node.name],
            gap_s=gap_s(previous, place, gaps.between_experiments, gaps.between_cycles),
            thermal=gaps.mode == "thermal",
        )
        busy_s = known.get(_identity(node, arm))
        turn = dataclasses.replace(turn, shares_idle=idles.is_known(turn, busy_s or 0.0))
        if busy_s is not None:
            turn = dataclasses.replace(turn, known_s=busy_s + turn.idle_s)
        found.setdefault(node.path, []).append(turn)
        previous = place
    return found


class _Idles:
    """Which measurements would find their idle power measured already.

    What isn't known to take time takes none here, so that the plan is the least there is to do.
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        self._known: dict[Hashable, tuple[float, float]] = {}

    def is_known(self, turn: Turn, busy_s: float) -> bool:
        """Whether the next measurement would; ``busy_s`` is what it takes beside idle and gap."""
        experiment = turn.experiment
        if not turn.thermal:
            self._now_s += turn.gap_s
        begun_s, self._now_s = self._now_s, self._now_s + busy_s
        if experiment.idle == "none":
            return False
        key = (engine_key(experiment, turn.runner), experiment.worker, experiment.meters)
        length_s, ended_s = self._known.get(key, (0.0, 0.0))
        if length_s >= experiment.idle and begun_s - ended_s <= IDLE_LASTS_S:
            return True
        self._now_s += experiment.idle
        self._known[key] = (experiment.idle, begun_s + experiment.idle)
        return False


def _identity(node: ExperimentNode, arm: Arm | None) -> _Identity:
    return node.planned.digest, node.runner_of(arm).mode


def _experiment(node: ExperimentNode) -> Experiment:
    """As it would be measured: where there is a base, no engine is kept."""
    experiment = node.planned.experiment
    if node.base is None or experiment.worker != "reuse":
        return experiment
    return dataclasses.replace(experiment, worker="fresh")


def _with_base(node: ExperimentNode, selected: Sequence[LlemItem]) -> int:
    """How many experiments of a study have a base: by their backends, selected or not."""
    have = {i.experiment.planned.experiment.backend for i in selected if i.experiment.base}
    return sum(planned.experiment.backend in have for planned in node.study.experiments)


def _known(config: pytest.Config, wanted: Collection[_Identity]) -> dict[_Identity, float]:
    """Median seconds that measurements took in earlier sessions, without their idle phases."""
    results = results_folder(config).parent
    sessions = {path.parent for path in results.glob("*/journal.*.jsonl")}
    # They are named by the time at which they began.
    newest = sorted(sessions, key=lambda path: path.name, reverse=True)[:_SESSIONS]
    found: dict[_Identity, list[float]] = {}
    count = 0
    for folder in newest:
        if count >= _OUTCOMES:
            break
        outcomes, _ = journal.read(folder)
        count += len(outcomes)
        for outcome in outcomes:
            identity = (outcome.digest, outcome.runner.mode)
            if outcome.measurement is not None and identity in wanted:
                windows = outcome.measurement.windows
                busy_s = sum(w.duration_s for w in windows if w.phase != "idle")
                found.setdefault(identity, []).append(busy_s)
    return {identity: statistics.median(times) for identity, times in found.items()}


def _shown(config: pytest.Config, supply: _Named) -> _Named:
    """A directory as messages name it."""
    if not Path(supply.model).is_absolute():
        return supply
    return dataclasses.replace(supply, model=shown_path(config, Path(supply.model)))
