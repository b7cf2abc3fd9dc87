"""Lanes: a scheduler for pytest-xdist under which one worker gets all of an experiment.

A worker has a lane of experiments; tests that belong to none go to whoever is free first. What
xdist asks of a scheduler is its protocol ``xdist.scheduler.Scheduling``; nothing is imported of it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import pytest

__all__ = ["LaneScheduling", "Node", "deal", "holds_study"]

_STUDY_ITEM = re.compile(
    r"(?P<experiment>.+\.ya?ml::[^:]+)::(?:c\d+(?:-base)?|gate)(?:@(?P<group>.+))?"
)
"""The id of a study's item; loadgroup adds a group to it."""


class Node(Protocol):
    """A worker, as far as it matters here."""

    gateway: Any

    @property
    def shutting_down(self) -> bool:
        """Whether it was told to end, or did."""

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        """Have it run tests, behind those it has."""

    def shutdown(self) -> None:
        """Have it end behind the tests it has."""


def holds_study(ids: Iterable[str]) -> bool:
    """Whether there is a measurement or a gate among tests."""
    return any(map(_STUDY_ITEM.fullmatch, ids))


def deal(ids: Sequence[str], workers: int, *, grouped: bool) -> tuple[list[deque[int]], deque[int]]:
    """Deal tests to workers.

    Args:
        ids: of all tests, as collected.
        workers: how many there are.
        grouped: xdist's groups are kept together, too.

    Returns:
        Lanes, each for one worker, and the tests that any worker may run: indices into the ids,
        ascending, so that the experiments of a lane take turns as they do without xdist.
    """
    groups: dict[str, list[int]] = {}
    single: deque[int] = deque()
    for index, nodeid in enumerate(ids):
        name = _group(nodeid, grouped=grouped)
        if name is None:
            single.append(index)
        else:
            groups.setdefault(name, []).append(index)
    lanes: list[list[int]] = [[] for _ in range(workers)]
    for indices in groups.values():
        min(lanes, key=len).extend(indices)
    return [deque(sorted(lane)) for lane in lanes if lane], single


def _group(nodeid: str, *, grouped: bool) -> str | None:
    """What a test must not be parted from; None for a test on its own."""
    if item := _STUDY_ITEM.fullmatch(nodeid):
        return item["group"] or item["experiment"]
    # As xdist does: an @ within a parameter names no group.
    if grouped and nodeid.rfind("@") > nodeid.rfind("]"):
        return nodeid.rpartition("@")[2]
    return None


class LaneScheduling:
    """Tests in lanes, one lane a worker.

    An xdist worker starts a test only when it holds the next one, or was told to end. So each
    holds two, and no more: those would still be measured after ``-x`` ended the session.

    Attributes:
        config: of the controller; other plugins look for it here.
    """

    collection_is_completed = True

    def __init__(self, config: pytest.Config, ids: Sequence[str], nodes: Iterable[Node]) -> None:
        """Deal the tests to the workers that there are."""
        self.config = config
        self._ids = list(ids)
        self._sent: dict[Node, list[int]] = {node: [] for node in nodes}
        self._ready: set[Node] = set()
        grouped = config.getoption("dist") == "loadgroup"
        self._lanes, self._single = deal(self._ids, len(self._sent), grouped=grouped)
        self._queues = (*self._lanes, self._single)
        self._queue_of = {index: queue for queue in self._queues for index in queue}
        self._lane_of: dict[Node, int] = {}

    @property
    def nodes(self) -> list[Node]:
        """The workers."""
        return list(self._sent)

    @property
    def tests_finished(self) -> bool:
        """Whether all may be told to end; the one test that a worker still holds, it then runs."""
        return not any(self._queues) and all(len(sent) < 2 for sent in self._sent.values())

    @property
    def has_pending(self) -> bool:
        """Whether a worker has a test: not yet when xdist tells which scheduler is at work."""
        return any(self._sent.values())

    def add_node(self, node: Node) -> None:
        """Know of a worker that replaces a lost one."""
        self._sent[node] = []

    def add_node_collection(self, node: Node, collection: Sequence[str]) -> None:
        """Take a worker that collected the same tests; send any other home."""
        if list(collection) == self._ids:
            self._ready.add(node)
            return
        node.shutdown()
        if not any(other in self._ready and not other.shutting_down for other in self._sent):
            self._give_up(f"{node.gateway.id}, in place of a lost worker, collected other tests")

    def schedule(self) -> None:
        """See to it that every worker has something to run."""
        for node in self._sent:
            if node in self._ready:
                self._feed(node)

    def mark_test_complete(self, node: Node, item_index: int, *_: object) -> None:
        """Take note that a worker ran a test, and give it the next."""
        self._sent[node].remove(item_index)
        self._feed(node)

    def mark_test_pending(self, item: str) -> None:
        """Run a test again; plugins ask for it when a worker was lost."""
        self._return(self._ids.index(item))

    def remove_node(self, node: Node) -> str | None:
        """Forget a worker; the id of the test it was lost with, which is not run again.

        The rest of its lane is for the worker that replaces it, or for one that has nothing left.
        """
        sent = self._sent.pop(node)
        self._ready.discard(node)
        self._lane_of.pop(node, None)
        for index in reversed(sent[1:]):
            self._return(index)
        return self._ids[sent[0]] if sent else None

    def _return(self, index: int) -> None:
        self._queue_of[index].appendleft(index)

    def _feed(self, node: Node) -> None:
        sent = self._sent[node]
        while len(sent) < 2 and not node.shutting_down:
            queues = [queue for queue in (self._lane(node), self._single) if queue]
            if not queues:
                node.shutdown()
                return
            index = min(queues, key=lambda queue: queue[0]).popleft()
            try:
                node.send_runtest_some([index])
            except OSError:
                # It is gone, and xdist is about to hear of that.
                self._return(index)
                return
            sent.append(index)

    def _lane(self, node: Node) -> deque[int]:
        """The worker's lane; when that is done, one that no other worker has."""
        mine = self._lane_of.pop(node, None)
        taken = self._lane_of.values()
        free = [n for n, lane in enumerate(self._lanes) if lane and n not in taken]
        if not free:
            return deque()
        self._lane_of[node] = mine if mine in free else free[0]
        return self._lanes[self._lane_of[node]]

    def _give_up(self, reason: str) -> None:
        """Nobody is left for the tests that wait: an error, rather than waiting for ever."""
        waiting = sorted(index for queue in self._queues for index in queue)
        for queue in self._queues:
            queue.clear()
        if waiting:
            ids = ", ".join(self._ids[index] for index in waiting)
            text = f"{reason}: a file was changed meanwhile. Run again what was not run: {ids}"
            report = pytest.CollectReport(
                nodeid="pytest-xdist", outcome="failed", longrepr=text, result=[]
            )
            self.config.hook.pytest_collectreport(report=report)
