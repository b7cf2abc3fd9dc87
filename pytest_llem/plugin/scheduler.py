"""The order of a study's items: its schedule, each gate behind its experiment's last cycle."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pytest_llem.plugin.collect import GateItem, LlemItem, MeasurementItem
from pytest_llem.study.schedule import schedule, turn_of

__all__ = [
    "in_order",
    "out_of_order",
    "pytest_collection_modifyitems",
    "pytest_collection_modifyitems_unshuffle",
]


_AS_COLLECTED = pytest.StashKey[list[Path]]()
"""The studies' files in the order in which pytest found them."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    """Order the items of each study, after everybody else has selected and moved.

    A study stands whole where its first item was put, so that ``--ff`` brings it forward with
    all that it compares; other tests keep their order.
    """
    config.stash[_AS_COLLECTED] = list(_by_study(items))
    yield
    studies = _by_study(items)
    ordered: list[pytest.Item] = []
    for item in items:
        if not isinstance(item, LlemItem):
            ordered.append(item)
        elif item.path in studies:
            ordered += in_order(studies.pop(item.path))
    items[:] = ordered


@pytest.hookimpl(specname="pytest_collection_modifyitems")
def pytest_collection_modifyitems_unshuffle(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Put the studies in order a first time: what shuffles has done so, ``--sw`` comes after.

    Stepwise leaves out all that stands before the last failure, which has to be what ran before it.
    """
    studies = _by_study(items)
    files = [path for path in config.stash[_AS_COLLECTED] if path in studies]
    ordered = iter([item for path in files for item in in_order(studies[path])])
    items[:] = [next(ordered) if isinstance(item, LlemItem) else item for item in items]


def _by_study(items: Sequence[pytest.Item]) -> dict[Path, list[LlemItem]]:
    """File to its items, in the order of the first item of each."""
    studies: dict[Path, list[LlemItem]] = {}
    for item in items:
        if isinstance(item, LlemItem):
            studies.setdefault(item.path, []).append(item)
    return studies


def out_of_order(items: Sequence[LlemItem]) -> Iterator[str]:
    """The studies whose items no longer stand in the order of their schedule."""
    for own in _by_study(items).values():
        if in_order(own) != own:
            yield own[0].experiment.shown


def in_order(items: list[LlemItem]) -> list[LlemItem]:
    """The items of one study by its schedule."""
    selected = {item.experiment.name for item in items}
    study = items[0].experiment.study
    execution = study.execution
    planned = [p.experiment.id for p in study.experiments if p.experiment.id in selected]
    turns = schedule(planned, execution.cycles, execution.order, execution.seed)
    rank = {turn: float(index) for index, turn in enumerate(turns)}
    last: dict[str, float] = {}
    for item in items:
        if isinstance(item, MeasurementItem):
            turn = rank[item.experiment.name, item.cycle]
            last[item.experiment.name] = max(turn, last.get(item.experiment.name, -1.0))

    def position(item: LlemItem) -> tuple[float, int]:
        if isinstance(item, GateItem):
            # A gate that measures by itself comes last.
            return last.get(item.experiment.name, math.inf) + 0.5, 0
        assert isinstance(item, MeasurementItem)
        return rank[item.experiment.name, item.cycle], turn_of(item.cycle, item.arm)

    return sorted(items, key=position)
