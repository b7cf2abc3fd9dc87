"""Requests to a loaded vLLM: step by step with its own loop, or over its asynchronous engine.

Times are ours, of ``time.monotonic()``: the one at which a step, or the engine's stream, handed a
token over. Of the engine's statistics only ``scheduled_ts`` is taken, which is of the same clock,
in another process too; ``arrival_time`` is of the clock on the wall, and must meet none of these.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pytest_llem.backends.vllm_failures import Log, explained
from pytest_llem.experiment import DECODING, Decoding
from pytest_llem.extensions import Completion, EngineFacts, Workload
from pytest_llem.records import RequestTiming

__all__ = ["AsyncVllmEngine", "Memory", "Output", "VllmEngine", "sampling"]

Ask = Callable[[Workload, int], tuple[Any, Any]]
"""A request of a workload in vLLM's words: prompt and sampling parameters.

New objects each time: vLLM changes the parameters that it is given, and those that were changed to
deliver the end alone would hide every time between.
"""

_SEEDS = 2**63


class Memory(Protocol):
    """The peak memory of an engine."""

    def reset(self) -> None:
        """Forget the peak so far."""

    def peak_bytes(self) -> int | None:
        """Peak since the last reset; None where it can't be told."""


class Output(Protocol):
    """What vLLM says of a request at a time: ``RequestOutput``."""

    request_id: str
    outputs: Sequence[Any]
    finished: bool
    metrics: Any
    num_cached_tokens: int | None


class Stepping(Protocol):
    """An engine that computes when it is told to: ``LLMEngine``."""

    def add_request(self, request_id: str, prompt: Any, params: Any) -> Any:
        """Queue a request."""

    def abort_request(self, request_ids: list[str]) -> None:
        """Take requests back."""

    def has_unfinished_requests(self) -> bool:
        """Whether there is more to do."""

    def step(self) -> Sequence[Any]:
        """Compute one step, and tell what came of it."""


class Streams(Protocol):
    """An engine that computes in a process of its own: ``AsyncLLM``."""

    def generate(
        self, prompt: Any, sampling_params: Any, request_id: str
    ) -> AsyncGenerator[Any, None]:
        """Queue a request; yields what comes of it as it comes."""


def sampling(decoding: Decoding, seed: int, number: int, count: int) -> dict[str, Any]:
    """Arguments of ``SamplingParams``, output kind excepted, for exactly ``count`` tokens.

    A seed of its own for each request makes its tokens the same in whatever company it is
    computed.
    """
    chosen = {name: value for name in DECODING if (value := getattr(decoding, name)) is not None}
    return {
        "temperature": 1.0 if decoding.sampled else 0.0,
        **chosen,
        "seed": (seed + number) % _SEEDS if decoding.sampled else None,
        "max_tokens": count,
        "min_tokens": count,
        "ignore_eos": True,
        "detokenize": False,
    }


@dataclass(slots=True)
class _Flight:
    """A request on its way."""

    submitted_s: float
    input_tokens: int
    token_s: list[float] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)

    def take(self, output: Output, now_s: float) -> None:
        """Note what arrived; tokens that came together have the same time."""
        new = output.outputs[0].token_ids
        self.token_ids.extend(new)
        self.token_s.extend([now_s] * len(new))

    def completion(self, last: Output) -> Completion:
        """The request as it ended.

        Statistics are None where the engine keeps none (``disable_log_stats``, by which vLLM's own
        ``LLM`` turns them off unless told otherwise).
        """
        stats = last.metrics
        counted = len(self.token_ids) if stats is None else stats.num_generation_tokens
        return Completion(
            timing=RequestTiming(
                submitted_s=self.submitted_s,
                token_s=tuple(self.token_s),
                input_tokens=self.input_tokens,
                output_tokens=counted,
                # Zero is what vLLM has before it knows.
                scheduled_s=(stats.scheduled_ts or None) if stats is not None else None,
            ),
            token_ids=tuple(self.token_ids),
            cached_tokens=last.num_cached_tokens,
            preemptions=None if stats is None else stats.num_preemptions,
        )


class _Loaded:
    """What both kinds of engine share."""

    def __init__(
        self, facts: EngineFacts, ask: Ask, memory: Memory, shut_down: Callable[[], None]
    ) -> None:
        """``ask`` words a request, ``shut_down`` ends the engine and its processes."""
        self._facts = facts
        self._ask = ask
        self._memory = memory
        self._shut_down = shut_down
        self._ids = itertools.count()

    def facts(self) -> EngineFacts:
        """Vocabulary, device, where the core runs, and how vLLM set itself up."""
        return self._facts

    def reset_peak_memory(self) -> None:
        """Forget the peak so far."""
        self._memory.reset()

    def peak_memory_bytes(self) -> int | None:
        """Peak of the device's memory; None for a GPU that a child process computes on."""
        return self._memory.peak_bytes()


class VllmEngine(_Loaded):
    """Answers all requests of a workload, submitted at once, stepping vLLM's engine."""

    def __init__(
        self,
        engine: Stepping,
        facts: EngineFacts,
        ask: Ask,
        memory: Memory,
        shut_down: Callable[[], None],
    ) -> None:
        """Take a loaded engine."""
        super().__init__(facts, ask, memory, shut_down)
        self._engine = engine

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        """Answer the requests; vLLM makes up the batches."""
        with explained(Log()):
            flights = self._submit(workload)
            done: dict[str, Completion] = {}
            while self._engine.has_unfinished_requests():
                outputs = self._engine.step()
                now_s = time.monotonic()
                before = len(done)
                for output in outputs:
                    flight = flights[output.request_id]
                    flight.take(output, now_s)
                    if output.finished:
                        done[output.request_id] = flight.completion(output)
                if len(done) > before:
                    progress(len(done))
        return tuple(done[name] for name in flights if name in done)

    def _submit(self, workload: Workload) -> dict[str, _Flight]:
        """Queue all requests; nothing is computed here unless the core is a process of its own."""
        flights: dict[str, _Flight] = {}
        try:
            for number, ids in enumerate(workload.prompts):
                name = str(next(self._ids))
                prompt, parameters = self._ask(workload, number)
                flights[name] = _Flight(time.monotonic(), len(ids))
                self._engine.add_request(name, prompt, parameters)
        except BaseException:
            self._engine.abort_request(list(flights))
            raise
        return flights

    def close(self) -> None:
        """End the engine and its processes."""
        self._shut_down()


class AsyncVllmEngine(_Loaded):
    """Takes a request while it computes others; the core is always a process of its own."""

    def __init__(
        self,
        engine: Streams,
        loop: asyncio.AbstractEventLoop,
        facts: EngineFacts,
        ask: Ask,
        memory: Memory,
        shut_down: Callable[[], None],
    ) -> None:
        """Take a loaded engine, and the loop that it was loaded in."""
        super().__init__(facts, ask, memory, shut_down)
        self._engine = engine
        self.loop = loop

    async def answer(
        self, number: int, workload: Workload, progress: Callable[[int], None]
    ) -> Completion:
        """Submit one request now, and wait for its end; cancelled, it is taken back.

        Tokens that arrive before they are asked for come together, and share a time.
        """
        prompt, parameters = self._ask(workload, number)
        flight = _Flight(time.monotonic(), len(workload.prompts[number]))
        last = None
        with explained(Log()):
            async for last in self._engine.generate(prompt, parameters, str(next(self._ids))):
                flight.take(last, time.monotonic())
                progress(len(flight.token_ids))
        assert last is not None, "vLLM ends a request with an output"
        return flight.completion(last)

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        """Answer all requests, submitted at once."""
        return self.loop.run_until_complete(self._all(workload, progress))

    async def _all(
        self, workload: Workload, progress: Callable[[int], None]
    ) -> tuple[Completion, ...]:
        done = itertools.count(1)

        async def one(number: int) -> Completion:
            completion = await self.answer(number, workload, lambda _: None)
            progress(next(done))
            return completion

        return tuple(await asyncio.gather(*map(one, range(len(workload.prompts)))))

    def close(self) -> None:
        """End the engine and its processes, then the loop."""
        self._shut_down()
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left))
        self.loop.close()
