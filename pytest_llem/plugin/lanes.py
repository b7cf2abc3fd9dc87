"""Lanes: a scheduler for pytest-xdist under which one worker gets all of an experiment.

Who measures what on which GPUs is for :mod:`.packing` to say; tests that belong to no experiment go
to whoever is free first. What xdist asks of a scheduler is its protocol
``xdist.scheduler.Scheduling``; nothing is imported of it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import pytest

from pytest_llem.plugin.naming import STUDY_ITEM
from pytest_llem.plugin.packing import Packing
from pytest_llem.plugin.wires import Wires
from pytest_llem.plugin.work import ALONE, Job, Place

__all__ = ["LaneScheduling", "Node", "jobs", "places"]

_CYCLE = re.compile(r"::c\d+(?:-base)?(?:@.+)?$")


class Node(Protocol):
    """A worker, as far as it matters here."""

    gateway: Any
    workerinput: dict[str, Any]

    def __hash__(self) -> int:
        """No two are equal."""

    @property
    def shutting_down(self) -> bool:
        """Whether it was told to end, or did."""

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        """Have it run tests, behind those it has."""

    def shutdown(self) -> None:
        """Have it end behind the tests it has."""


def jobs(
    ids: Sequence[str],
    needs: Mapping[str, int],
    default: int,
    engines: Mapping[str, int] = MappingProxyType({}),
    *,
    grouped: bool = False,
) -> list[Job]:
    """What must not be parted.

    Args:
        ids: of all tests, as collected.
        needs: id of an experiment to the GPUs that it needs, :data:`ALONE` for no GPU.
        default: of all others.
        engines: id of an experiment to the number of the engine that is kept for it.
        grouped: xdist's groups are kept together, too.
    """
    groups: dict[str, list[int]] = {}
    wanted: dict[str, int] = {}
    kept: dict[str, int] = {}
    for index, nodeid in enumerate(ids):
        item = STUDY_ITEM.fullmatch(nodeid)
        if (name := _group(nodeid, item, grouped=grouped)) is not None:
            groups.setdefault(name, []).append(index)
            if item is not None:
                need = needs.get(item["experiment"], default)
                known = wanted.setdefault(name, need)
                wanted[name] = ALONE if ALONE in (known, need) else max(known, need)
                kept[name] = engines.get(item["experiment"], 0)
    return [
        Job(
            items=deque(indices),
            need=wanted.get(name, 1),
            engine=kept.get(name, 0),
            cycles=frozenset(index for index in indices if _CYCLE.search(ids[index])),
        )
        for name, indices in groups.items()
    ]


def _group(nodeid: str, item: re.Match[str] | None, *, grouped: bool) -> str | None:
    """What a test must not be parted from; None for a test on its own."""
    if item is not None:
        return item["group"] or item["experiment"]
    # As xdist does: an @ within a parameter names no group.
    if grouped and nodeid.rfind("@") > nodeid.rfind("]"):
        return nodeid.rpartition("@")[2]
    return None


def places(nodes: Iterable[Node], wires: Wires) -> dict[Node, Place]:
    """The place of each worker: those that see the same GPUs of one host share it."""
    found: dict[tuple[str, tuple[str, ...]], Place] = {}
    given: dict[Node, Place] = {}
    for node in nodes:
        host = str(node.workerinput.get("llem_host", ""))
        units = tuple(wires.inventory(node).get("gpus", ())) or (host or "host",)
        given[node] = found.setdefault((host, units), Place(name=host, units=units))
    return given


class LaneScheduling:
    """Tests in lanes.

    An xdist worker starts a test only when it holds the next one, or was told to end. So each
    holds two, and no more: those would still be measured after ``-x`` ended the session. And one
    that holds just the first test of a lane waits there until the lane has its GPUs.

    Attributes:
        config: of the controller; other plugins look for it here.
        sends_stand_ins_home: a worker may stand in for one whose host is gone; it gets nothing.
    """

    collection_is_completed = True
    sends_stand_ins_home = True

    def __init__(
        self,
        config: pytest.Config,
        ids: Sequence[str],
        nodes: Iterable[Node],
        wires: Wires | None = None,
    ) -> None:
        """Deal the tests to the workers that there are."""
        self.config = config
        self._ids = list(ids)
        self._wires = wires or Wires()
        self._sent: dict[Node, list[int]] = {node: [] for node in nodes}
        self._ready: set[Node] = set()
        self._told: dict[Node, int] = {}
        grouped = config.getoption("dist") == "loadgroup"
        said = next(filter(None, map(self._wires.inventory, self._sent)), {})
        asked = (said.get("needs", {}), said.get("default", ALONE), said.get("engines", {}))
        dealt = jobs(ids, *asked, grouped=grouped)
        self._places = places(self._sent, self._wires)
        self._packing = Packing(dealt, {node: self._places[node] for node in self._sent})
        self._single = deque(i for i in range(len(self._ids)) if not self._packing.holds(i))

    @property
    def nodes(self) -> list[Node]:
        """The workers."""
        return list(self._sent)

    @property
    def tests_finished(self) -> bool:
        """Whether all may be told to end; the one test that a worker still holds, it then runs."""
        waiting = self._single or not self._packing.is_dealt
        return not waiting and all(len(sent) < 2 for sent in self._sent.values())

    @property
    def has_pending(self) -> bool:
        """Whether a worker has a test: not yet when xdist tells which scheduler is at work."""
        return any(self._sent.values())

    def add_node(self, node: Node) -> None:
        """Know of a worker that replaces a lost one; send one home that only stands in for it."""
        if gone := node.workerinput.get("llem_standin"):
            node.shutdown()
            if not self._is_anybody_left():
                self._give_up(f"{gone} is gone, and no worker is left")
            return
        self._sent[node] = []

    def add_node_collection(self, node: Node, collection: Sequence[str]) -> None:
        """Take a worker that collected the same tests; send any other home."""
        if node not in self._sent:
            return
        if list(collection) == self._ids:
            self._ready.add(node)
            if node not in self._places:
                self._places[node] = self._place_of(node)
                self._packing.add_worker(node, self._places[node])
            return
        node.shutdown()
        if not self._is_anybody_left():
            self._give_up(
                f"{node.gateway.id}, in place of a lost worker, collected other tests: a file was"
                " changed meanwhile"
            )

    def schedule(self) -> None:
        """See to it that every worker has something to run."""
        self._packing.granted()
        # Each one its first test, so that nobody takes two where another has nothing to do.
        for count in (1, 2):
            for node in self._sent:
                if node in self._ready:
                    self._feed(node, count)

    def mark_test_complete(self, node: Node, item_index: int, duration: float = 0) -> None:
        """Take note that a worker ran a test, and give it the next."""
        self._sent[node].remove(item_index)
        if self._packing.holds(item_index):
            self._packing.done(node, item_index, duration)
        # What it used is for whoever waits for it.
        self.schedule()

    def mark_test_pending(self, item: str) -> None:
        """Run a test again; plugins ask for it when a worker was lost."""
        index = self._ids.index(item)
        if self._packing.holds(index):
            self._packing.give_back(index)
        else:
            self._single.appendleft(index)

    def remove_node(self, node: Node) -> str | None:
        """Forget a worker; the id of the test it was lost with, which is not run again.

        The rest of its lane is for the worker that replaces it, or for one that has nothing left.
        """
        sent = self._sent.pop(node)
        self._ready.discard(node)
        self._packing.remove_worker(node, sent[0] if sent else None)
        self._single.extendleft(i for i in reversed(sent[1:]) if not self._packing.holds(i))
        self.schedule()
        return self._ids[sent[0]] if sent else None

    def _is_anybody_left(self) -> bool:
        return any(node in self._ready and not node.shutting_down for node in self._sent)

    # --- feeding -----------------------------------------------------------------------------

    def _place_of(self, node: Node) -> Place:
        """Of a worker that came later: that of the one it replaces, where they see the same."""
        (new,) = places([node], self._wires).values()
        known = (place for place in self._places.values() if place.name == new.name)
        return next((place for place in known if place.units == new.units), new)

    def _feed(self, node: Node, count: int) -> None:
        """See to it that a worker has so many tests, if it may have them now."""
        sent = self._sent[node]
        while len(sent) < count and not node.shutting_down:
            index = self._next(node)
            if index is None and sent and not self._packing.waits(node):
                index = self._last_resort(node)
            if index is None or not self._send(node, index):
                break
            sent.append(index)
        self._tell(node)
        if count == 2 > len(sent) and not node.shutting_down and self._packing.may_end(node):
            node.shutdown()

    def _next(self, node: Node) -> int | None:
        """What comes first in the order of collection, of what it can run now."""
        first = self._packing.peek(node)
        if self._single and first is not None and self._single[0] < first:
            return self._single.popleft()
        index = self._packing.next(node)
        if index is None and self._single and not self._packing.waits(node):
            return self._single.popleft()
        return index

    def _last_resort(self, node: Node) -> int | None:
        """What has a worker begin with its only test, where it isn't to be told to end."""
        return None if self._packing.may_end(node) else self._packing.bind(node)

    def _send(self, node: Node, index: int) -> bool:
        """Send a test; whether it was."""
        held = self._packing.holds(index)
        try:
            if held:
                self._wires.tell(node, "item", index, self._packing.lane_of(node, index).number)
                self._tell(node)
            node.send_runtest_some([index])
        except OSError:
            # It is gone, and xdist is about to hear of that.
            if held:
                self._packing.not_sent(node, index)
            else:
                self._single.appendleft(index)
            return False
        return True

    def _tell(self, node: Node) -> None:
        """Tell a worker the GPUs of its lanes that have got them."""
        for lane in self._packing.lanes(node):
            if lane.units and lane.number > self._told.get(node, 0):
                self._told[node] = lane.number
                self._wires.tell(node, "lane", lane.number, list(lane.units))

    def _give_up(self, reason: str) -> None:
        """Nobody is left for the tests that wait: an error, rather than waiting for ever."""
        waiting = sorted([*self._packing.give_up(), *self._single])
        self._single.clear()
        if waiting:
            ids = ", ".join(self._ids[index] for index in waiting)
            report = pytest.CollectReport(
                nodeid="pytest-xdist",
                outcome="failed",
                longrepr=f"{reason}. Run again what was not run: {ids}",
                result=[],
            )
            self.config.hook.pytest_collectreport(report=report)
