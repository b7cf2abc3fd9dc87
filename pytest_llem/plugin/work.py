"""What is packed, and where: experiments, hosts, and the lanes between them."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

__all__ = ["ALONE", "Job", "Lane", "Mean", "Place", "Waiting"]

ALONE = 0
"""Need of an experiment that has a place for itself: it isn't on GPUs."""

_LOOK_AHEAD = 64
"""Jobs; looking through all of thousands each time would take longer than it saves."""


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """Items that must not be parted: cycles of an experiment and its gate.

    Attributes:
        items: numbers of those that are left, ascending.
        need: GPUs; :data:`ALONE` for a place of its own.
        cycles: those of the items that take time.
        engine: number of the engine that is kept for all jobs of the same one; 0 for none.
    """

    items: deque[int]
    need: int
    cycles: frozenset[int]
    engine: int = 0

    @property
    def left(self) -> int:
        """Cycles that are still to be measured."""
        return sum(item in self.cycles for item in self.items)


@dataclass(slots=True, eq=False, kw_only=True)
class Place:
    """A host.

    Attributes:
        units: names of its GPUs; a single one that stands for it all where it has none.
    """

    name: str
    units: tuple[str, ...]
    free: list[str] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)

    def __post_init__(self) -> None:
        """All of it is free."""
        self.free = list(self.units)


@dataclass(slots=True, eq=False, kw_only=True)
class Lane:
    """What a worker measures on some GPUs of its place.

    Attributes:
        number: no two have the same.
        kind: need of its jobs.
        units: GPUs that it has; none as long as it waits for them.
        todo: items to be sent, a heap.
        sent: items at the worker.
        last: the latest that was sent.
        cycles: how many of its cycles aren't done.
        seen: cycles that are, and the seconds they took.
    """

    number: int
    place: Place
    kind: int
    width: int
    units: tuple[str, ...] = ()
    jobs: list[Job] = field(default_factory=list)
    todo: list[int] = field(default_factory=list)
    sent: set[int] = field(default_factory=set)
    last: int = -1
    cycles: int = 0
    seen: Mean = field(default_factory=lambda: Mean())


@dataclass(slots=True)
class Mean:
    """Of what was seen so far."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Take one more."""
        self.count += 1
        self.seconds += seconds

    @property
    def value(self) -> float | None:
        """It in seconds; None where nothing was seen."""
        return self.seconds / self.count if self.count else None


class Waiting:
    """Jobs of one need that no lane has, by their first items.

    Attributes:
        firsts: those items, ascending.
        jobs: each by its own.
        cycles: of all of them.
        seen: cycles of jobs of this need that were run, and their time.
    """

    def __init__(self) -> None:
        """There are none."""
        self.firsts: list[int] = []
        self.jobs: dict[int, Job] = {}
        self.cycles = 0
        self.seen = Mean()

    def add(self, job: Job) -> None:
        """One more."""
        bisect.insort(self.firsts, job.items[0])
        self.jobs[job.items[0]] = job
        self.cycles += job.left

    def take(self, first: int) -> Job:
        """Take away the one that begins with an item."""
        del self.firsts[bisect.bisect_left(self.firsts, first)]
        job = self.jobs.pop(first)
        self.cycles -= job.left
        return job

    def after(self, item: int, claimed: Collection[int] = ()) -> int | None:
        """First item of the first job behind an item; of others' engines only if there is no other.

        Args:
            item: that the job comes behind.
            claimed: engines that others have loaded.
        """
        position = bisect.bisect_right(self.firsts, item)
        ahead = self.firsts[position : position + (_LOOK_AHEAD if claimed else 1)]
        free = (first for first in ahead if self.jobs[first].engine not in claimed)
        return next(free, ahead[0] if ahead else None)
