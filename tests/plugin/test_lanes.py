"""Lanes: how tests are dealt, and what is sent to whom; the workers here are stand-ins."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_llem.plugin.lanes import LaneScheduling
from pytest_llem.plugin.naming import holds_study
from pytest_llem.plugin.wires import Wire, Wires

FILE = "benchmarks/s.study.yaml"
IDS = [
    *(f"{FILE}::{name}" for name in ("a::c1", "b::c1", "c::c1")),
    *(f"{FILE}::{name}" for name in ("a::c2", "a::gate", "b::c2", "b::gate", "c::c2", "c::gate")),
]
PLAIN = [f"test_x.py::test_{n}" for n in range(6)]


class FakeChannel:
    """One end of a channel; the other end is played by the test."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.heard: Callable[[object], None] = lambda _: None

    def send(self, message: tuple[Any, ...]) -> None:
        self.sent.append(message)

    def setcallback(self, heard: Callable[[object], None]) -> None:
        self.heard = heard


class FakeNode:
    """An xdist worker as its controller sees it; runs nothing by itself."""

    def __init__(self, name: str, host: str = "") -> None:
        self.channel = FakeChannel()
        self.gateway = SimpleNamespace(id=name, newchannel=lambda: self.channel)
        self.workerinput: dict[str, Any] = {"llem_host": host} if host else {}
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

    @property
    def name(self) -> str:
        return str(self.gateway.id)


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
    """A scheduler with its workers, and what each of them ran, when and on which GPUs.

    Args:
        ids: of all tests.
        workers: how many on this host.
        gpus: of this host; as many as there are workers where not given.
        needs: of experiments on another number of GPUs than one; 0 for a host alone.
        seconds: that a test takes; by default a cycle takes one.
        hosts: workers on other hosts, and their GPUs.
        engines: number of the engine that is kept for an experiment.
    """

    def __init__(
        self,
        ids: Sequence[str],
        workers: int,
        gpus: int | None = None,
        *,
        dist: str = "load",
        needs: Mapping[str, int] | None = None,
        seconds: Callable[[str], float] = lambda name: float(not name.endswith("gate")),
        hosts: Mapping[str, tuple[int, int]] | None = None,
        engines: Mapping[str, int] | None = None,
    ) -> None:
        self.ids = list(ids)
        self.config = FakeConfig(dist)
        self.wires = Wires()
        self.needs = dict(needs or {})
        self.engines = dict(engines or {})
        self.seconds = seconds
        own = workers if gpus is None else gpus
        self.gpus = {"": own, **{name: count for name, (_, count) in (hosts or {}).items()}}
        self.nodes = [FakeNode(f"gw{n}") for n in range(workers)]
        for host, (count, _) in (hosts or {}).items():
            self.nodes += [FakeNode(f"{host}{n}", host) for n in range(count)]
        for node in self.nodes:
            self.connect(node)
        self.scheduling = LaneScheduling(cast(Any, self.config), self.ids, self.nodes, self.wires)
        self.clones = 0
        self.ran: dict[str, list[str]] = {}
        self.times: list[tuple[float, float, str, tuple[str, ...]]] = []
        """Start, end, id and GPUs of what ran, with :meth:`play`."""
        for node in self.nodes:
            self.scheduling.add_node_collection(node, self.ids)
        self.scheduling.schedule()

    def connect(self, node: FakeNode) -> None:
        self.wires.connect(node)
        host = node.workerinput.get("llem_host", "")
        gpus = [f"{host}GPU-{n}" for n in range(self.gpus[host])]
        told = {"gpus": gpus, "default": 1, "needs": self.needs, "engines": self.engines}
        node.channel.heard(("inventory", told))

    def units(self, node: FakeNode, index: int) -> tuple[str, ...] | None:
        """The GPUs that a worker was told for a test; None for a test without a lane."""
        wire = Wire(FakeChannel())
        for message in node.channel.sent:
            wire._hear(message)
        return None if wire.lane(index) is None else wire.units(index)

    def begins(self, node: FakeNode) -> int | None:
        """The test that a worker may begin with: it does so only when it knows the next."""
        done = self.ran.setdefault(node.name, [])
        if len(done) < len(node.received) - (not node.shutting_down):
            return node.received[len(done)]
        return None

    def step(self, node: FakeNode, seconds: float = 0.1) -> bool:
        """Let a worker run one test, if it may."""
        index = self.begins(node)
        if index is None:
            return False
        self.ran[node.name].append(self.ids[index])
        self.scheduling.mark_test_complete(node, index, seconds)
        return True

    def finish(self) -> None:
        """Let all workers run what they get, in turns, as xdist's controller would."""
        while sum(self.step(node) for node in self.nodes):
            self.end()

    def end(self) -> None:
        if self.scheduling.tests_finished:
            for node in self.scheduling.nodes:
                node.shutdown()

    def play(self) -> float:
        """Let time pass, each worker running one test after another; when all is done."""
        now, running = 0.0, list[tuple[float, int, FakeNode, int]]()
        while True:
            busy = {node.name for _, _, node, _ in running}
            for number, node in enumerate(self.nodes):
                if node.name not in busy and (index := self.begins(node)) is not None:
                    end = now + self.seconds(self.ids[index])
                    self.times.append((now, end, self.ids[index], self.units(node, index) or ()))
                    heapq.heappush(running, (end, number, node, index))
            if not running:
                return now
            now, _, node, index = heapq.heappop(running)
            self.ran[node.name].append(self.ids[index])
            self.scheduling.mark_test_complete(node, index, self.seconds(self.ids[index]))
            self.end()

    def lose(self, node: FakeNode) -> str | None:
        self.nodes.remove(node)
        return self.scheduling.remove_node(node)

    def replace(self, ids: Sequence[str] | None = None) -> FakeNode:
        self.clones += 1
        node = FakeNode("clone" if self.clones == 1 else f"clone{self.clones}")
        self.connect(node)
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
    assert [node.received for node in session.nodes] == [[0, 3], [1, 4], [2, 5]]
    session.finish()
    assert session.everything == sorted(IDS[:1] + PLAIN)


def test_tests_collected_before_a_study_are_run_before_it() -> None:
    session = Session(PLAIN + IDS, 2)
    assert [node.received for node in session.nodes] == [[0, 2], [1, 3]]


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


@pytest.mark.parametrize("workers", [1, 2])
def test_who_stands_in_for_a_host_that_is_gone_gets_nothing(workers: int) -> None:
    session = Session(IDS, workers)
    session.lose(session.nodes[0])
    stand_in = FakeNode("gw9")
    stand_in.workerinput["llem_standin"] = "gpu2"
    session.scheduling.add_node(stand_in)
    session.scheduling.add_node_collection(stand_in, [])
    assert stand_in.shutting_down
    assert stand_in not in session.scheduling.nodes
    session.finish()
    reports = [str(report.longrepr) for report in session.config.reports]
    if workers == 1:
        assert reports[0].startswith("gpu2 is gone, and no worker is left. Run again what was not")
        assert session.scheduling.tests_finished
    else:
        assert not reports
        assert session.everything == sorted(IDS[1:])


def test_what_it_does_not_get_is_left_to_those_who_can() -> None:
    session = Session(IDS, 2)
    session.lose(session.nodes[0])
    session.replace(IDS[:3])
    session.finish()
    assert session.everything == sorted(IDS[1:])
    assert session.config.reports == []
