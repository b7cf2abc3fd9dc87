"""An event loop whose time nobody waits for, an engine that lives in it, and meters beside it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pytest_llem.extensions import Completion, EngineFacts, Workload
from pytest_llem.records import Reading, RequestTiming
from tests.builders import reading

__all__ = ["FakeBracket", "StreamingFake", "VirtualLoop", "workload"]


class _Leap(selectors.DefaultSelector):
    """Waits for nothing: time is then as late as it would be."""

    def __init__(self, leap: Callable[[float], None]) -> None:
        super().__init__()
        self._leap = leap

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if not found:
            assert timeout is not None, "everybody waits, and nothing will come"
            self._leap(timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sleeps end at once, and in their order."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_Leap(self._leap))

    def time(self) -> float:
        return self.now_s

    def _leap(self, seconds: float) -> None:
        self.now_s += seconds


class StreamingFake:
    """An engine: each request is begun after ``queue_s`` and has a token every ``token_s``.

    Args:
        token_s: or a function of the request's number.
        fails: numbers of requests that it can't answer.
    """

    def __init__(
        self,
        token_s: float | Callable[[int], float] = 1.0,
        queue_s: float = 0.0,
        fails: Sequence[int] = (),
        tells: bool = True,
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = VirtualLoop()
        self.order: list[int] = []
        self.cancelled: list[int] = []
        self._token_s = token_s
        self._queue_s = queue_s
        self._fails = fails
        self._tells = tells

    async def answer(
        self, number: int, workload: Workload, progress: Callable[[int], None]
    ) -> Completion:
        self.order.append(number)
        submitted_s = self.loop.time()
        token_s = self._token_s(number) if callable(self._token_s) else self._token_s
        try:
            await asyncio.sleep(self._queue_s)
            scheduled_s, times = self.loop.time(), []
            if number in self._fails:
                raise RuntimeError(f"no luck with {number}")
            for _ in range(workload.output_tokens):
                await asyncio.sleep(token_s)
                times.append(self.loop.time())
                if self._tells:
                    progress(len(times))
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        timing = RequestTiming(
            submitted_s=submitted_s,
            token_s=tuple(times),
            input_tokens=len(workload.prompts[number]),
            output_tokens=len(times),
            scheduled_s=scheduled_s,
        )
        return Completion(timing=timing, token_ids=tuple(range(len(times))))

    def facts(self) -> EngineFacts:
        return EngineFacts(vocab_size=1000, device="cpu")

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        async def every() -> Iterator[Completion]:
            return iter([await self.answer(n, workload, progress) for n in self._all(workload)])

        return tuple(self.loop.run_until_complete(every()))

    def _all(self, workload: Workload) -> range:
        return range(len(workload.prompts))

    def reset_peak_memory(self) -> None:
        """There is no memory."""

    def peak_memory_bytes(self) -> int | None:
        return 7

    def close(self) -> None:
        self.loop.close()


class FakeBracket:
    """Meters that take their time, on the loop of the engine, and draw ten watts.

    Attributes:
        asked: windows that were asked for.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, edge_s: float = 0.0, early_s: float = 0.0
    ) -> None:
        self.asked: list[tuple[float, float]] = []
        self._loop = loop
        self._edge_s = edge_s
        self._early_s = early_s

    async def start(self) -> float:
        await asyncio.sleep(self._edge_s)
        return self._loop.time()

    async def stop(self, start_s: float, latest_s: float) -> tuple[float, Sequence[Reading]]:
        self.asked.append((start_s, latest_s))
        await asyncio.sleep(self._edge_s)
        end_s = max(start_s, latest_s - self._early_s)
        return end_s, [reading(10 * (end_s - start_s), before_w=10.0)]


def workload(count: int, output_tokens: int = 3, **fields: Any) -> Workload:
    """Requests of four input tokens each."""
    base: Mapping[str, Any] = {"batch_size": 1, "seed": 0}
    prompts = [[number, 1, 2, 3] for number in range(count)]
    return Workload(prompts=prompts, output_tokens=output_tokens, **{**base, **fields})
