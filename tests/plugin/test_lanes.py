"""Lanes: how tests are dealt, and what is sent to whom; the workers here are stand-ins."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.plugin.lanes import LaneScheduling, deal, holds_study

FILE = "benchmarks/s.study.yaml"
IDS = [
    *(f"{FILE}::{name}" for name in ("a::c1", "b::c1", "c::c1")),
    *(f"{FILE}::{name}" for name in ("a::c2", "a::gate", "b::c2", "b::gate", "c::c2", "c::gate")),
]
PLAIN = [f"test_x.py::test_{n}" for n in range(6)]


class FakeNode:
    """An xdist worker as its controller sees it; runs nothing by itself."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.received: list[int] = []
        self.shutting_down = False
        self.broken = False

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        assert not self.shutting_down
        if self.broken:
            raise OSError("cannot send to <Channel closed>")
        self.received += indices

    def shutdown(self) -> None:
        self.shutting_down = True


class FakeConfig:
    """Of pytest's config what a scheduler uses."""

    def __init__(self, dist: str = "load") -> None:
        self._dist = dist
        self.reports: list[pytest.CollectReport] = []
        self.hook = self

    def getoption(self, name: str) -> str:
        assert name == "dist"
        return self._dist

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.reports.append(report)


class Session:
    """A scheduler with its workers, and what each of them ran."""

    def __init__(self, ids: Sequence[str], workers: int, dist: str = "load") -> None:
        self.ids = list(ids)
        self.config = FakeConfig(dist)
        self.nodes = [FakeNode(f"gw{n}") for n in range(workers)]
        self.scheduling = LaneScheduling(cast(Any, self.config), self.ids, self.nodes)
        self.ran: dict[str, list[str]] = {}
        for node in self.nodes:
            self.scheduling.add_node_collection(node, self.ids)
        self.scheduling.schedule()

    def step(self, node: FakeNode) -> bool:
        """Let a worker run one test, if it may: it starts one only when it knows the next."""
        done = self.ran.setdefault(node.gateway.id, [])
        if len(done) < len(node.received) - (not node.shutting_down):
            index = node.received[len(done)]
            done.append(self.ids[index])
            self.scheduling.mark_test_complete(node, index, 0.1)
            return True
        return False

    def finish(self) -> None:
        """Let all workers run what they get, in turns, as xdist's controller would."""
        while sum(self.step(node) for node in self.nodes):
            if self.scheduling.tests_finished:
                for node in self.scheduling.nodes:
                    node.shutdown()

    def lose(self, node: FakeNode) -> str | None:
        self.nodes.remove(node)
        return self.scheduling.remove_node(node)

    def replace(self, ids: Sequence[str] | None = None) -> FakeNode:
        node = FakeNode("clone")
        self.nodes.append(node)
        self.scheduling.add_node(node)
        self.scheduling.add_node_collection(node, self.ids if ids is None else ids)
        self.scheduling.schedule()
        return node

    @property
    def everything(self) -> list[str]:
        return sorted(name for names in self.ran.values() for name in names)


def names(ids: Sequence[str]) -> list[str]:
    return [name.removeprefix(f"{FILE}::") for name in ids]


# --- dealing -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodeid", "is_item"),
    [
        ("s.study.yaml::a::c1", True),
        ("s.study.yml::a::c12", True),
        ("../other/anything.yaml::a.b_c+d-e::gate", True),
        ("s.study.yaml::a::c1@group", True),
        ("s.study.yaml::a::c1-base", True),
        ("s.study.yaml::a::c1-other", False),
        ("my@folder/s.study.yaml::a::c1", True),
        ("test_x.py::a::c1", False),
        ("test_x.py::Test::gate", False),
        ("s.study.yaml::a::c", False),
        ("s.study.yaml::a", False),
        ("test_x.py::test[s.yaml::a::c1]", False),
    ],
)
def test_items_of_studies_are_known_by_their_ids(nodeid: str, is_item: bool) -> None:
    assert holds_study(["test_y.py::test", nodeid]) is is_item


def test_experiments_are_dealt_in_order_to_the_lane_with_the_fewest_items() -> None:
    lanes, single = deal(IDS + PLAIN[:2], 2, grouped=False)
    assert [list(lane) for lane in lanes] == [[0, 2, 3, 4, 7, 8], [1, 5, 6]]
    assert list(single) == [9, 10]


def test_there_are_no_more_lanes_than_experiments() -> None:
    lanes, _ = deal(IDS, 5, grouped=False)
    assert len(lanes) == 3


def test_equal_names_in_two_files_are_two_experiments() -> None:
    lanes, _ = deal(["x.yaml::a::c1", "y.yaml::a::c1", "x.yaml::a::gate"], 2, grouped=False)
    assert [list(lane) for lane in lanes] == [[0, 2], [1]]


def test_base_and_head_of_an_experiment_are_kept_together() -> None:
    ids = ["x.yaml::a::c1-base", "x.yaml::b::c1-base", "x.yaml::a::c1", "x.yaml::b::c1"]
    lanes, _ = deal(ids, 2, grouped=False)
    assert [list(lane) for lane in lanes] == [[0, 2], [1, 3]]


def test_groups_of_xdist_are_kept_together_where_they_are_asked_for() -> None:
    ids = ["t.py::a@g", "t.py::b", "t.py::c@g", "t.py::d[x@y]", "s.yaml::a::c1@g", "s.yaml::b::c1"]
    lanes, single = deal(ids, 2, grouped=True)
    assert [list(lane) for lane in lanes] == [[0, 2, 4], [5]]
    assert list(single) == [1, 3]
    assert list(deal(ids, 2, grouped=False)[1]) == [0, 1, 2, 3]


@given(
    st.lists(st.sampled_from([*IDS, *PLAIN]), max_size=40),
    st.integers(min_value=1, max_value=5),
)
def test_every_test_is_in_one_queue_in_order(ids: list[str], workers: int) -> None:
    lanes, single = deal(ids, workers, grouped=False)
    queues = [*lanes, single]
    assert sorted(index for queue in queues for index in queue) == list(range(len(ids)))
    assert all(list(queue) == sorted(queue) for queue in queues)
    assert len(lanes) <= workers


# --- a session -----------------------------------------------------------------------------


def test_a_worker_runs_its_experiments_in_turns() -> None:
    session = Session(IDS, 2)
    session.finish()
    assert names(session.ran["gw0"]) == ["a::c1", "c::c1", "a::c2", "a::gate", "c::c2", "c::gate"]
    assert names(session.ran["gw1"]) == ["b::c1", "b::c2", "b::gate"]
    assert session.scheduling.tests_finished


def test_a_worker_never_holds_more_than_two_tests() -> None:
    session = Session(IDS + PLAIN, 2)
    assert [len(node.received) for node in session.nodes] == [2, 2]
    session.step(session.nodes[0])
    assert [len(node.received) for node in session.nodes] == [3, 2]


def test_other_tests_go_one_by_one_to_whoever_is_free() -> None:
    session = Session(IDS[:1] + PLAIN, 3)
    assert [node.received for node in session.nodes] == [[0, 1], [2, 3], [4, 5]]
    session.finish()
    assert session.everything == sorted(IDS[:1] + PLAIN)


def test_tests_collected_before_a_study_are_run_before_it() -> None:
    session = Session(PLAIN + IDS, 2)
    assert [node.received for node in session.nodes] == [[0, 1], [2, 3]]


def test_a_worker_without_work_is_told_to_end_at_once() -> None:
    session = Session(IDS[:1], 2)
    assert [node.shutting_down for node in session.nodes] == [True, True]
    session.finish()
    assert session.everything == IDS[:1]


def test_nothing_is_sent_to_a_worker_that_ends() -> None:
    session = Session(IDS, 2)
    for node in session.nodes:
        node.shutdown()
    session.finish()
    assert [len(ids) for ids in session.ran.values()] == [2, 2]


def test_the_state_that_xdist_asks_for() -> None:
    session = Session(IDS[:2], 1)
    scheduling = session.scheduling
    before = LaneScheduling(cast(Any, FakeConfig()), IDS, session.nodes)
    assert (scheduling.has_pending, scheduling.tests_finished) == (True, False)
    assert scheduling.collection_is_completed
    assert scheduling.nodes == session.nodes
    assert not before.has_pending
    assert not before.tests_finished
    session.finish()
    assert (scheduling.has_pending, scheduling.tests_finished) == (False, True)


# --- lost workers --------------------------------------------------------------------------


def test_a_lost_worker_costs_the_test_it_ran_and_its_lane_goes_to_the_next() -> None:
    session = Session(IDS, 1)
    session.step(session.nodes[0])
    assert session.lose(session.nodes[0]) == f"{FILE}::b::c1"
    assert not session.scheduling.tests_finished
    session.replace()
    session.finish()
    assert session.everything == sorted(set(IDS) - {f"{FILE}::b::c1"})
    assert session.ran["clone"] == IDS[2:]


def test_a_worker_that_is_done_takes_over_from_a_lost_one() -> None:
    session = Session(IDS, 2)
    lost = session.lose(session.nodes[0])
    session.finish()
    assert lost == IDS[0]
    assert session.everything == sorted(IDS[1:])
    session.replace()
    assert session.nodes[-1].shutting_down


def test_a_worker_lost_with_nothing_to_do_costs_nothing() -> None:
    session = Session(IDS, 2)
    session.finish()
    assert session.lose(session.nodes[0]) is None


def test_a_worker_that_is_gone_before_it_is_sent_a_test_costs_none_of_its_lane() -> None:
    session = Session(IDS, 1)
    node = session.nodes[0]
    node.broken = True
    session.step(node)
    assert session.lose(node) == IDS[1]
    session.replace()
    session.finish()
    assert session.everything == sorted({*IDS} - {IDS[1]})


def test_a_plugin_may_have_the_lost_test_run_again_in_its_place() -> None:
    session = Session(IDS, 1)
    lost = session.lose(session.nodes[0])
    assert lost is not None
    session.scheduling.mark_test_pending(lost)
    session.replace()
    session.finish()
    assert session.ran["clone"] == IDS


def test_an_unknown_worker_is_a_key_error_as_xdist_expects() -> None:
    session = Session(IDS, 1)
    with pytest.raises(KeyError):
        session.scheduling.remove_node(FakeNode("stranger"))


def test_a_worker_that_collected_other_tests_gets_none_and_the_session_ends() -> None:
    session = Session(IDS, 1)
    session.lose(session.nodes[0])
    clone = session.replace(IDS[:3])
    assert clone.shutting_down
    assert clone.received == []
    assert session.scheduling.tests_finished
    (report,) = session.config.reports
    assert report.failed
    assert str(report.longrepr).endswith(", ".join(IDS[1:]))


def test_what_it_does_not_get_is_left_to_those_who_can() -> None:
    session = Session(IDS, 2)
    session.lose(session.nodes[0])
    session.replace(IDS[:3])
    session.finish()
    assert session.everything == sorted(IDS[1:])
    assert session.config.reports == []
