"""Sends requests to an engine while it computes others, and marks when the run is steady.

Runs in the engine's own event loop, which nothing here blocks: whoever reads meters is told to
begin and to end (:class:`Bracket`), and answers when it is done.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_llem.extensions import Completion, StreamingEngine, Workload
from pytest_llem.records import Reading, Window
from pytest_llem.worker.repeats import Clock

__all__ = ["TOO_LATE", "Bracket", "Driven", "Driver"]

TOO_LATE = "the steady window was over before its meters had begun; raise prompts.count"


class Bracket(Protocol):
    """Meters around a window, while an event loop goes on."""

    async def start(self) -> float:
        """Start them; returns when the window began, by the clock of the windows."""

    async def stop(self, start_s: float, latest_s: float) -> tuple[float, Sequence[Reading]]:
        """End the window; returns when it ended, and what was read.

        That is at the last time before ``latest_s`` at which its energy can be told exactly, or
        about there; never before ``start_s``.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Driven:
    """A run of a workload.

    Attributes:
        completions: in the order of the workload's prompts.
        begun_s: when the run began.
        ended_s: when the last request had ended.
        steady_s: the first mark: from then on the run was steady; None where it never came.
        over_s: the second mark: until then it was.
        window: between the marks, from when the meters had begun to where they end it. Its readings
            are unmeasured where they had not begun by the second mark. None where the run never
            was steady.
        read: whether the meters had begun by then.
    """

    completions: tuple[Completion, ...]
    begun_s: float
    ended_s: float
    steady_s: float | None
    over_s: float
    window: Window | None
    read: bool


class _Steady:
    """The part of a run that is steady: from the first mark to the second."""

    def __init__(self, bracket: Bracket, clock: Clock) -> None:
        self.from_s: float | None = None
        self.to_s: float | None = None
        self.read = False
        self._bracket = bracket
        self._clock = clock
        self._over = asyncio.Event()
        self._task: asyncio.Task[Window] | None = None

    def begin(self) -> None:
        """The first mark, or nothing where there was one, or the second."""
        if self.from_s is None and self.to_s is None:
            self.from_s = self._clock()
            self._task = asyncio.ensure_future(self._measure(self.from_s))

    def end(self) -> None:
        """The second mark, or nothing where there was one."""
        if self.to_s is None:
            self.to_s = self._clock()
            self._over.set()

    async def _measure(self, from_s: float) -> Window:
        start_s = await self._bracket.start()
        await self._over.wait()
        assert self.to_s is not None
        self.read = start_s < self.to_s
        # Those that began too late are to end all the same, before others can begin.
        end_s, readings = await self._bracket.stop(start_s, max(start_s, self.to_s))
        if not self.read:
            start_s, end_s = from_s, self.to_s
            readings = [reading.without_figures(TOO_LATE) for reading in readings]
        return Window(
            phase="measure",
            start_s=start_s,
            duration_s=end_s - start_s,
            readings=tuple(readings),
        )

    async def window(self) -> Window | None:
        """What was measured; waits for the meters."""
        return None if self._task is None else await self._task

    def drop(self) -> None:
        """The run has failed."""
        if self._task is not None:
            self._task.cancel()


class Driver:
    """Sends the requests of one workload, once."""

    def __init__(
        self,
        engine: StreamingEngine,
        workload: Workload,
        bracket: Bracket,
        clock: Clock,
        report: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Take what to send where.

        Args:
            engine: loaded; its loop runs while requests are made.
            workload: the requests.
            bracket: told when to read meters.
            clock: of all times here, and of the engine's timings.
            report: told the number of finished requests.
        """
        self._engine = engine
        self._workload = workload
        self._bracket = bracket
        self._clock = clock
        self._report = report
        self._done: dict[int, Completion] = {}
        self._first_token: Callable[[int], None] = lambda _: None

    def concurrency(self, slots: int) -> Driven:
        """A fixed number of requests in flight: each that ends is followed by another.

        The run is steady from when each slot has had its first token to when the first slot finds
        no request left.

        Raises:
            Exception: whatever the engine raises.
        """
        return self._run(lambda steady: self._closed(slots, steady))

    def poisson(self, after_s: Sequence[float]) -> Driven:
        """Requests at given times after the beginning, whatever the engine does meanwhile.

        The run is steady from the first request's end to the last arrival.

        Raises:
            Exception: whatever the engine raises.
        """
        return self._run(lambda steady: self._open(after_s, steady))

    def _run(self, scenario: Callable[[_Steady], Coroutine[Any, Any, None]]) -> Driven:
        return self._engine.loop.run_until_complete(self._whole(scenario))

    async def _whole(self, scenario: Callable[[_Steady], Coroutine[Any, Any, None]]) -> Driven:
        steady = _Steady(self._bracket, self._clock)
        begun_s = self._clock()
        try:
            await scenario(steady)
        except BaseException:
            steady.drop()
            raise
        ended_s = self._clock()
        steady.end()
        window = await steady.window()
        assert steady.to_s is not None
        return Driven(
            completions=tuple(self._done[number] for number in sorted(self._done)),
            begun_s=begun_s,
            ended_s=ended_s,
            steady_s=steady.from_s,
            over_s=steady.to_s,
            window=window,
            read=steady.read,
        )

    async def _closed(self, slots: int, steady: _Steady) -> None:
        numbers = iter(range(len(self._workload.prompts)))
        waiting = set(range(slots))

        def first_token(number: int) -> None:
            waiting.discard(number)
            if not waiting:
                steady.begin()

        async def slot() -> None:
            for number in numbers:
                await self._send(number)
            steady.end()

        self._first_token = first_token
        await _together([asyncio.ensure_future(slot()) for _ in range(slots)])

    async def _open(self, after_s: Sequence[float], steady: _Steady) -> None:
        begun_s = self._clock()
        tasks: list[asyncio.Task[None]] = []
        broken = asyncio.Event()

        async def send(number: int, due_s: float) -> None:
            try:
                await self._send(number, due_s)
                steady.begin()
            except BaseException:
                broken.set()
                raise

        for number, each_s in enumerate(after_s):
            await _until(begun_s + each_s, self._clock, broken)
            if broken.is_set():
                break
            if number == len(after_s) - 1:
                steady.end()
            tasks.append(asyncio.ensure_future(send(number, begun_s + each_s)))
        await _together(tasks)

    async def _send(self, number: int, due_s: float | None = None) -> None:
        """Make one request, and keep what came of it."""
        seen = False

        def heard(tokens: int) -> None:
            nonlocal seen
            if tokens > 0 and not seen:
                seen = True
                self._first_token(number)

        completion = await self._engine.answer(number, self._workload, heard)
        # An engine need not tell of tokens on the way.
        heard(1)
        if due_s is not None:
            timing = dataclasses.replace(completion.timing, due_s=due_s)
            completion = dataclasses.replace(completion, timing=timing)
        self._done[number] = completion
        self._report(len(self._done))


async def _together(tasks: Collection[asyncio.Task[None]]) -> None:
    """Wait for all; the first that fails ends the others."""
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _until(due_s: float, clock: Clock, broken: asyncio.Event) -> None:
    """Wait for a time, or for something to fail."""
    left_s = due_s - clock()
    if left_s <= 0:
        return
    waiting = asyncio.ensure_future(broken.wait())
    await asyncio.wait({waiting}, timeout=left_s)
    waiting.cancel()
