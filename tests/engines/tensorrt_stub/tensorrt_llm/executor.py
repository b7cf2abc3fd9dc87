"""A thread that answers requests as they come, a token of each at every step."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import queue
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tensorrt_llm import knobs
from tensorrt_llm.arguments import KvCacheConfig, SamplingParams

CANDIDATES = 12
"""Tokens that may follow."""


def steady_clock_now() -> datetime.timedelta:
    return datetime.timedelta(seconds=time.monotonic() + knobs.clock_ahead_s)


@dataclass
class TimingMetrics:
    arrival_time: datetime.timedelta
    first_scheduled_time: datetime.timedelta = datetime.timedelta(0)
    first_token_time: datetime.timedelta = datetime.timedelta(0)
    last_token_time: datetime.timedelta = datetime.timedelta(0)


@dataclass
class KvCacheMetrics:
    num_total_allocated_blocks: int = 0
    num_new_allocated_blocks: int = 0
    num_reused_blocks: int = 0
    num_missed_blocks: int = 0


@dataclass
class RequestPerfMetrics:
    timing_metrics: TimingMetrics
    kv_cache_metrics: KvCacheMetrics = field(default_factory=KvCacheMetrics)


@dataclass
class CompletionOutput:
    index: int = 0
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    request_perf_metrics: RequestPerfMetrics | None = None
    _last_token_ids_len: int = 0

    @property
    def token_ids_diff(self) -> list[int]:
        return self.token_ids[self._last_token_ids_len :]


class RequestOutput:
    """A request; it yields itself with more tokens each time."""

    def __init__(self, prompt: list[int], params: SamplingParams, streaming: bool) -> None:
        self.prompt_token_ids = prompt
        self.params = params
        self.outputs = [CompletionOutput()]
        self.cached_tokens = 0
        self.finished = False
        self.aborted = False
        self.streaming = streaming
        self.measured = RequestPerfMetrics(TimingMetrics(steady_clock_now()))
        self.made: list[int] = []
        self.sent = 0
        self._queue: queue.Queue[Any] = queue.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            self._loop = asyncio.get_running_loop()
            self._aqueue: asyncio.Queue[Any] = asyncio.Queue()
        except RuntimeError:
            pass

    def send(self, response: tuple[list[int], str | None]) -> None:
        if self._loop is None:
            self._queue.put(response)
        else:
            self._loop.call_soon_threadsafe(self._aqueue.put_nowait, response)

    def _take(self, response: tuple[list[int], str | None]) -> None:
        output = self.outputs[0]
        output._last_token_ids_len = len(output.token_ids)
        output.token_ids.extend(response[0])
        output.finish_reason = response[1]
        self.finished = response[1] is not None
        if self.finished and self.params.return_perf_metrics and knobs.metrics:
            output.request_perf_metrics = self.measured

    def abort(self) -> None:
        self.aborted = True
        knobs.aborted += 1

    def result(self) -> RequestOutput:
        while not self.finished:
            self._take(self._queue.get())
        return self

    def __aiter__(self) -> RequestOutput:
        assert self._loop is not None, "The asyncio event loop was not present"
        return self

    async def __anext__(self) -> RequestOutput:
        if self.finished:
            raise StopAsyncIteration
        self._take(await self._aqueue.get())
        return self


class Executor:
    """In-flight batching, and a cache whose blocks are used again where it is asked to."""

    def __init__(self, cache: KvCacheConfig, slots: int, vocab_size: int) -> None:
        self._cache = cache
        self._slots = slots
        self._vocab_size = vocab_size
        self._blocks: set[tuple[int, ...]] = set()
        self._new: queue.Queue[RequestOutput | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, request: RequestOutput) -> None:
        self._new.put(request)

    def shutdown(self) -> None:
        self._new.put(None)
        self._thread.join()

    def _work(self) -> None:
        waiting: list[RequestOutput] = []
        running: list[RequestOutput] = []
        while True:
            try:
                while True:
                    request = self._new.get(block=not waiting and not running)
                    if request is None:
                        return
                    waiting.append(request)
            except queue.Empty:
                pass
            while waiting and len(running) < self._slots:
                running.append(self._begin(waiting.pop(0)))
            time.sleep(knobs.step_s)
            for request in running:
                self._step(request)
            running = [r for r in running if not r.aborted and len(r.made) < _length(r)]

    def _begin(self, request: RequestOutput) -> RequestOutput:
        size = self._cache.tokens_per_block
        ids = request.prompt_token_ids
        # The last token is always computed: something has to predict the next.
        blocks = [tuple(ids[: n + size]) for n in range(0, len(ids) - 1 - size + 1, size)]
        counts = request.measured.kv_cache_metrics
        counts.num_total_allocated_blocks = len(blocks) + 1
        if self._cache.enable_block_reuse:
            counts.num_reused_blocks = sum(block in self._blocks for block in blocks)
            request.cached_tokens = counts.num_reused_blocks * size
            self._blocks.update(blocks)
        counts.num_missed_blocks = len(blocks) - counts.num_reused_blocks
        request.measured.timing_metrics.first_scheduled_time = steady_clock_now()
        return request

    def _step(self, request: RequestOutput) -> None:
        request.made.append(_next(request, self._vocab_size))
        times, now = request.measured.timing_metrics, steady_clock_now()
        if len(request.made) == 1:
            times.first_token_time = now
        times.last_token_time = now
        done = len(request.made) == _length(request)
        fresh = request.made[request.sent :]
        if done or (request.streaming and len(fresh) >= knobs.per_response):
            request.sent = len(request.made)
            stopped = len(request.made) < request.params.max_tokens
            request.send((fresh, ("stop" if stopped else "length") if done else None))


def _length(request: RequestOutput) -> int:
    """The model ends every request after three tokens, where it is listened to."""
    longest = request.params.max_tokens
    return longest if request.params.ignore_eos else min(3, longest)


def _next(request: RequestOutput, vocab_size: int) -> int:
    """The likeliest token, or one drawn: a few follow every text, each with its own weight."""
    params, context = request.params, (*request.prompt_token_ids, *request.made)
    text = ",".join(map(str, context[-8:])) + f"/{len(context)}"
    model = random.Random(hashlib.sha256(text.encode()).digest())
    likely = sorted((model.gauss(0.0, 2.0), model.randrange(vocab_size)) for _ in range(CANDIDATES))
    logits = {token: logit for logit, token in likely}
    # As long as it isn't ruled out, the token before last is always likely.
    if len(request.made) >= 2:
        logits[request.made[-2]] = 1.0 + max(logits.values())
    if penalty := params.repetition_penalty:
        for token in logits.keys() & set(context):
            logits[token] -= abs(logits[token]) * (penalty - 1) * 10
    ranked = sorted(logits, key=lambda token: -logits[token])
    if params.greedy:
        return ranked[0]
    heat = params.temperature if params.temperature is not None else 1.0
    weights = {token: 2.718281828 ** (logits[token] / heat) for token in ranked}
    ranked = ranked[: params.top_k] if params.top_k else ranked
    least = (params.min_p or 0.0) * weights[ranked[0]]
    ranked = [token for token in ranked if weights[token] >= least]
    if params.top_p is not None:
        whole, kept = sum(weights[token] for token in ranked), 0.0
        for count, token in enumerate(ranked, 1):
            kept += weights[token] / whole
            if kept >= params.top_p:
                ranked = ranked[:count]
                break
    draw = random.Random(f"{params.seed or 0}/{text}")
    return draw.choices(ranked, [weights[token] for token in ranked])[0]
