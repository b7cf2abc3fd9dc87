"""The order of a study's items: its schedule, each gate behind its experiment's last cycle."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llem.plugin.collect import GateItem, LlemItem, MeasurementItem
from pytest_llem.study.schedule import interleaved

__all__ = ["in_order", "pytest_collection_modifyitems"]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Order the items of each study, after everybody else has selected and shuffled.

    A study's items stay in the places that its items have; other tests don't move.
    """
    yield
    places: dict[Path, list[int]] = {}
    for index, item in enumerate(items):
        if isinstance(item, LlemItem):
            places.setdefault(item.path, []).append(index)
    for indices in places.values():
        ordered = in_order([item for i in indices if isinstance(item := items[i], LlemItem)])
        for index, item in zip(indices, ordered, strict=True):
            items[index] = item


def in_order(items: list[LlemItem]) -> list[LlemItem]:
    """The items of one study by its schedule."""
    experiments = list(dict.fromkeys(item.experiment.name for item in items))
    cycles = items[0].experiment.study.execution.cycles
    planned = [p.experiment.id for p in items[0].experiment.study.experiments]
    rank = {
        turn: float(index)
        for index, turn in enumerate(
            interleaved([name for name in planned if name in experiments], cycles)
        )
    }
    last: dict[str, float] = {}
    for item in items:
        if isinstance(item, MeasurementItem):
            turn = rank[item.experiment.name, item.cycle]
            last[item.experiment.name] = max(turn, last.get(item.experiment.name, -1.0))

    def position(item: LlemItem) -> float:
        if isinstance(item, GateItem):
            # A gate that measures by itself comes last.
            return last.get(item.experiment.name, math.inf) + 0.5
        assert isinstance(item, MeasurementItem)
        return rank[item.experiment.name, item.cycle]

    return sorted(items, key=position)
