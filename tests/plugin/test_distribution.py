"""Who schedules: xdist's own schedulers, unless there is a study to keep together."""

from __future__ import annotations

from typing import Any, cast

import pytest
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadScheduling  # type: ignore[import-untyped]

from pytest_llem.plugin.distribution import choose
from pytest_llem.plugin.lanes import LaneScheduling
from pytest_llem.plugin.wires import Wires
from tests.plugin.test_lanes import IDS, PLAIN, FakeNode


class FakeConfig:
    """Options of a controller with two workers."""

    def __init__(self, dist: str = "load", llem_dist: str | None = None) -> None:
        self._options = {"dist": dist, "llem_dist": llem_dist, "maxschedchunk": None}
        self.hook = self
        self.reports: list[pytest.CollectReport] = []

    def getoption(self, name: str) -> Any:
        return self._options[name]

    def getvalue(self, name: str) -> list[str]:
        assert name == "tx"
        return ["2*popen"]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.reports.append(report)


def collected(first: list[str], second: list[str], config: FakeConfig | None = None) -> Any:
    """A scheduler whose two workers have collected."""
    given = cast(pytest.Config, config or FakeConfig())
    stock = LoadScheduling(given, Producer("test", enabled=False))
    wires = Wires()
    scheduler = choose(given, stock, wires)
    nodes = [FakeNode("gw0"), FakeNode("gw1")]
    for node in nodes:
        wires.connect(node)
        node.channel.heard(("inventory", {"gpus": ["GPU-0", "GPU-1"], "default": 1, "needs": {}}))
        scheduler.add_node(node)
    for node, ids in zip(nodes, (first, second), strict=True):
        assert not scheduler.collection_is_completed
        scheduler.add_node_collection(node, ids)
    return scheduler


def test_a_study_is_scheduled_in_lanes() -> None:
    scheduler = collected(IDS, IDS)
    assert isinstance(scheduler, LaneScheduling)
    scheduler.schedule()
    assert [node.received for node in cast(Any, scheduler.nodes)] == [[0, 2], [1, 5]]


def test_without_a_study_the_stock_scheduler_does_all() -> None:
    scheduler = collected(PLAIN, PLAIN)
    assert isinstance(scheduler, LoadScheduling)
    scheduler.schedule()
    assert scheduler.collection == PLAIN
    assert [node.received for node in cast(Any, scheduler.nodes)] == [[0, 1], [2, 3]]


def test_workers_that_disagree_are_reported_by_the_stock_scheduler() -> None:
    config = FakeConfig()
    scheduler = collected(IDS, IDS[:-1], config)
    assert isinstance(scheduler, LoadScheduling)
    scheduler.schedule()
    assert [report.outcome for report in config.reports] == ["failed"]


@pytest.mark.parametrize("dist", ["each", "loadscope", "loadfile", "no", "of-a-later-xdist"])
def test_modes_that_part_nothing_are_left_alone(dist: str) -> None:
    stock = object.__new__(LoadScheduling)
    assert choose(cast(pytest.Config, FakeConfig(dist)), stock, Wires()) is stock


def test_the_user_can_have_xdists_own() -> None:
    stock = object.__new__(LoadScheduling)
    assert choose(cast(pytest.Config, FakeConfig(llem_dist="off")), stock, Wires()) is stock


@pytest.mark.parametrize("scheduler", [None, object()])
def test_schedulers_of_others_are_left_alone(scheduler: object) -> None:
    assert choose(cast(pytest.Config, FakeConfig()), scheduler, Wires()) is scheduler
