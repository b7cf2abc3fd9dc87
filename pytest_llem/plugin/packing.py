"""Which worker measures what, and on which GPUs: knows nothing of pytest and of clocks.

A worker that has GPUs works on a *lane*: some experiments that need equally many of them, measured
in the order of the study. Experiments that need many come first, so that those that need few fill
the gaps behind them; as long as one waits for its GPUs, nobody takes them for less. How long
something takes isn't known beforehand: an experiment that nobody has begun is dealt to a lane when
its turn has come there, unless another lane is about to be done earlier.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from pytest_llem.plugin.work import ALONE, Job, Lane, Mean, Place, Waiting

__all__ = ["Packing"]

_UNKNOWN_S = 1.0
"""Of a cycle, where none was seen yet."""


class Packing:
    """Deals jobs to lanes, and GPUs to lanes."""

    def __init__(self, jobs: Iterable[Job], places: Mapping[Hashable, Place]) -> None:
        """Take the jobs, and the place of each worker."""
        self._places = dict(places)
        self._lanes: dict[Hashable, list[Lane]] = {worker: [] for worker in places}
        self._ending: set[Hashable] = set()
        self._kinds: dict[int, Waiting] = {}
        self._job_of: dict[int, Job] = {}
        self._seen = Mean()
        self._number = 0
        self._keeps_engines = False
        for job in jobs:
            self._job_of.update(dict.fromkeys(job.items, job))
            self._keeps_engines |= job.engine != 0
            self._kind(job.need).add(job)

    def _kind(self, need: int) -> Waiting:
        return self._kinds.setdefault(need, Waiting())

    # --- for the scheduler -------------------------------------------------------------------

    @property
    def is_dealt(self) -> bool:
        """Whether workers have all there is, and the GPUs for it."""
        waiting = any(kind.firsts for kind in self._kinds.values())
        return not waiting and all(lane.units and not lane.todo for lane in self._all())

    def give_up(self) -> list[int]:
        """Forget all that no worker has; returns its items."""
        forgotten = [
            item
            for kind in self._kinds.values()
            for job in kind.jobs.values()
            for item in job.items
        ]
        self._kinds.clear()
        for lane in self._all():
            forgotten += lane.todo
            lane.todo.clear()
        return forgotten

    def waits(self, worker: Hashable) -> bool:
        """Whether a worker has the first item of a lane that hasn't got its GPUs yet."""
        lanes = self._lanes[worker]
        return bool(lanes) and not lanes[-1].units

    def lanes(self, worker: Hashable) -> Sequence[Lane]:
        """Those of a worker, the one that it is at first."""
        return self._lanes[worker]

    def peek(self, worker: Hashable) -> int | None:
        """The first of all items that :meth:`next` might return."""
        lanes = self._lanes[worker]
        if self.waits(worker):
            return None
        if lanes:
            found = [*lanes[-1].todo[:1], self._first(lanes[-1])]
            if first := [item for item in found if item is not None]:
                return min(first)
        return min((kind.firsts[0] for kind in self._kinds.values() if kind.firsts), default=None)

    def holds(self, item: int) -> bool:
        """Whether an item is one of a job's."""
        return item in self._job_of

    def lane_of(self, worker: Hashable, item: int) -> Lane:
        """The lane by which a worker has an item."""
        return next(lane for lane in self._lanes[worker] if item in lane.sent)

    def add_worker(self, worker: Hashable, place: Place) -> None:
        """There is a worker more."""
        self._places[worker] = place
        self._lanes[worker] = []

    def remove_worker(self, worker: Hashable, lost: int | None = None) -> None:
        """There is a worker less; what it had waits again, but for the item it was lost with."""
        for lane in self._lanes.pop(worker, ()):
            for job in lane.jobs:
                job.items = deque(item for item in job.items if item != lost)
                if job.items:
                    self._kind(job.need).add(job)
            self._free(lane)
        self._ending.discard(worker)
        self._places.pop(worker, None)

    def give_back(self, item: int) -> None:
        """An item is to be measured after all: by whom, is open again."""
        job = self._job_of[item]
        kind = self._kind(job.need)
        if job.items and job.items[0] in kind.jobs and kind.jobs[job.items[0]] is job:
            kind.take(job.items[0])
        elif job.items and (lane := next((one for one in self._all() if job in one.jobs), None)):
            heapq.heappush(lane.todo, item)
            lane.cycles += item in job.cycles
            job.items = deque(sorted({*job.items, item}))
            return
        job.items = deque(sorted({*job.items, item}))
        kind.add(job)

    def bind(self, worker: Hashable) -> int | None:
        """An item that a worker is to be sent though its GPUs aren't free: the next it will run."""
        place = self._places[worker]
        fits = [n for n, kind in self._kinds.items() if kind.firsts and self._fits(place, n)]
        if not fits:
            return None
        need = min(fits, key=lambda need: self._width(place, need))
        return self._next_of(self._new(worker, place, need, grant=False), begins=True)

    def next(self, worker: Hashable) -> int | None:
        """The item that a worker is to be sent now; None for none, or not yet."""
        lanes = self._lanes[worker]
        if worker in self._ending or self.waits(worker):
            return None
        if lanes:
            item = self._next_of(lanes[-1])
            if item is not None:
                return item
            if len(lanes) > 1:
                return None
        lane = self._opened(worker, follows=bool(lanes))
        return None if lane is None else self._next_of(lane, begins=True)

    def may_end(self, worker: Hashable) -> bool:
        """Whether others do for all that is left; it is told to end then, and gets no more."""
        lanes = self._lanes[worker]
        if worker in self._ending:
            return True
        if any(lane.todo or not lane.units for lane in lanes):
            return False
        place = self._places[worker]
        kinds = [
            need for need, kind in self._kinds.items() if kind.firsts and self._fits(place, need)
        ]
        most = max((len(place.units) // self._width(place, need) for need in kinds), default=0)
        others = sum(
            other != worker and where is place and other not in self._ending
            for other, where in self._places.items()
        )
        if others < most:
            return False
        self._ending.add(worker)
        return True

    def granted(self) -> None:
        """Give free GPUs to the lanes that wait for them, to those first that need many."""
        for place in {id(place): place for place in self._places.values()}.values():
            waiting = [lane for lane in place.lanes if not lane.units]
            for lane in sorted(waiting, key=lambda lane: (-lane.width, lane.number)):
                if len(place.free) < lane.width or self._is_due(place, lane.width):
                    break
                self._grant(lane)

    def done(self, worker: Hashable, item: int, seconds: float) -> None:
        """A worker has run an item, in so many seconds."""
        lane = self.lane_of(worker, item)
        job = self._job_of[item]
        lane.sent.remove(item)
        if item in job.cycles:
            lane.cycles -= 1
            for mean in (lane.seen, self._kind(job.need).seen, self._seen):
                mean.add(seconds)
        job.items.remove(item)
        if not job.items:
            lane.jobs.remove(job)
        if not lane.sent and not lane.todo:
            self._lanes[worker].remove(lane)
            self._free(lane)

    def not_sent(self, worker: Hashable, item: int) -> None:
        """A worker could not be sent an item after all."""
        lane = self.lane_of(worker, item)
        lane.sent.remove(item)
        heapq.heappush(lane.todo, item)

    # --- lanes -------------------------------------------------------------------------------

    def _all(self) -> Iterator[Lane]:
        return (lane for lanes in self._lanes.values() for lane in lanes)

    def _free(self, lane: Lane) -> None:
        lane.place.lanes.remove(lane)
        # In their order, so that a place without other work has the same ones used again.
        free = {*lane.place.free, *lane.units}
        lane.place.free = [unit for unit in lane.place.units if unit in free]

    def _grant(self, lane: Lane) -> None:
        lane.units = tuple(lane.place.free[: lane.width])
        del lane.place.free[: lane.width]

    def _next_of(self, lane: Lane, *, begins: bool = False) -> int | None:
        """The lane's next item; that of a job that nobody has begun, where it comes first."""
        own = lane.todo[0] if lane.todo else None
        other = None if begins else self._first(lane)
        if other is not None and (own is None or other < own) and self._is_for(lane, other):
            self._deal(lane, other)
            own = other
        if own is None:
            return None
        heapq.heappop(lane.todo)
        lane.sent.add(own)
        lane.last = own
        return own

    def _first(self, lane: Lane) -> int | None:
        """First item of the job that is next for a lane; what keeps an engine stays where it is."""
        claimed: set[int] = set()
        if self._keeps_engines:
            others = (each for each in lane.place.lanes if each is not lane)
            claimed = {job.engine for each in others for job in each.jobs}
            claimed -= {0, *(job.engine for job in lane.jobs)}
        return self._kind(lane.kind).after(lane.last, claimed)

    def _deal(self, lane: Lane, first: int) -> None:
        job = self._kind(lane.kind).take(first)
        lane.jobs.append(job)
        for item in job.items:
            heapq.heappush(lane.todo, item)
        lane.cycles += job.left

    def _opened(self, worker: Hashable, *, follows: bool) -> Lane | None:
        """A new lane of a worker, which has its GPUs where they are free.

        Args:
            worker: that has nothing else to do, or is about to.
            follows: it still has a lane, whose GPUs it then gives back.
        """
        place = self._places[worker]
        own = len(place.free) + sum(lane.width for lane in self._lanes[worker] if lane.units)
        for need in sorted(self._kinds, key=lambda need: -self._width(place, need)):
            if not self._kinds[need].firsts or not self._fits(place, need):
                continue
            width = self._width(place, need)
            # Who waits for as many, or more, comes first.
            waiting = [lane.width for lane in place.lanes if not lane.units]
            if own - sum(each for each in waiting if each >= width) >= width:
                return self._new(worker, place, need, grant=not follows)
            if not any(lane.kind == need for lane in place.lanes):
                # Nobody else is about to take it on: less must wait.
                return self._new(worker, place, need, grant=False) if follows else None
        return None

    def _new(self, worker: Hashable, place: Place, need: int, *, grant: bool) -> Lane:
        self._number += 1
        lane = Lane(number=self._number, place=place, kind=need, width=self._width(place, need))
        self._lanes[worker].append(lane)
        place.lanes.append(lane)
        first = self._first(lane)
        assert first is not None
        self._deal(lane, first)
        if grant:
            self._grant(lane)
        return lane

    # --- who comes first ---------------------------------------------------------------------

    def _width(self, place: Place, need: int) -> int:
        return len(place.units) if need == ALONE else min(need, len(place.units))

    def _fits(self, place: Place, need: int) -> bool:
        """Whether a place has as many GPUs, or no other has more."""
        most = max(len(other.units) for other in self._places.values())
        return len(place.units) >= min(need, most)

    def _is_due(self, place: Place, width: int) -> bool:
        """Whether something that needs more waits for a worker that is about to take it on."""
        able = any(
            where is place and worker not in self._ending and not self.waits(worker)
            for worker, where in self._places.items()
        )
        return able and any(
            kind.firsts
            and self._fits(place, need)
            and self._width(place, need) > width
            and not any(lane.kind == need for lane in place.lanes)
            for need, kind in self._kinds.items()
        )

    # --- how long it takes -------------------------------------------------------------------

    def _cycle_s(self, need: int, lane: Lane | None = None) -> float:
        """Seconds of a cycle, by the nearest that is known."""
        means = (lane and lane.seen, self._kind(need).seen, self._seen)
        known = (mean.value for mean in means if mean)
        return next((value for value in known if value is not None), _UNKNOWN_S)

    def _busy_s(self, lane: Lane) -> float:
        return lane.cycles * self._cycle_s(lane.kind, lane)

    def _even_s(self) -> float:
        """When all would be done, were it dealt out evenly to all GPUs, or to all workers."""
        places = {id(place): place for place in self._places.values()}.values()
        units = sum(len(place.units) for place in places)
        widest = max(places, key=lambda place: len(place.units))
        area = work = 0.0
        for need, kind in self._kinds.items():
            seconds = kind.cycles * self._cycle_s(need)
            area += seconds * self._width(widest, need)
            work += seconds
        for lane in self._all():
            seconds = self._busy_s(lane)
            area += seconds * lane.width
            work += seconds
        return max(area / units, work / (len(self._lanes) or 1))

    def _is_for(self, lane: Lane, first: int) -> bool:
        """Whether a lane takes on a job, or leaves it to one that is done earlier."""
        busy_s = self._busy_s(lane)
        job = self._kind(lane.kind).jobs[first]
        if busy_s + job.left * self._cycle_s(lane.kind) <= self._even_s():
            return True
        return busy_s <= min(self._others_s(lane), default=math.inf)

    def _others_s(self, lane: Lane) -> Iterator[float]:
        """When others could take it on."""
        for worker, lanes in self._lanes.items():
            place = self._places[worker]
            if worker in self._ending or lane in lanes or not self._fits(place, lane.kind):
                continue
            if lanes:
                yield sum(map(self._busy_s, lanes))
            elif len(place.free) >= self._width(place, lane.kind):
                yield 0.0
