"""The real vLLM on a CPU, taking requests while it computes others."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Concurrency
from pytest_llem.extensions import Completion
from pytest_llem.worker.lifeline import descendants
from tests.engines.conftest import PROMPTS, load, run, workload

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    before = set(descendants(os.getpid()))
    made = load(scenario=Concurrency(concurrency=2))
    assert set(descendants(os.getpid())) > before
    yield made
    made.close()
    deadline_s = time.monotonic() + 60
    while left := _engines(before):
        assert time.monotonic() < deadline_s, left
        time.sleep(0.1)


def _engines(before: set[int]) -> set[int]:
    """Processes of the engine; Python's own tracker of resources stays as long as we do."""
    from multiprocessing import resource_tracker

    tracker = getattr(resource_tracker._resource_tracker, "_pid", None)
    return set(descendants(os.getpid())) - before - {tracker}


def ignore(_: int) -> None:
    """Nobody is told of progress."""


def test_a_run_answers_all_at_once(engine: Any) -> None:
    seen: list[int] = []
    done = engine.run(workload(PROMPTS, 8), seen.append)
    assert seen == [1, 2, 3, 4]
    for completion, prompt in zip(done, PROMPTS, strict=True):
        timing = completion.timing
        assert timing.input_tokens == len(prompt)
        assert len(completion.token_ids) == len(timing.token_s) == timing.output_tokens == 8
        assert timing.scheduled_s is not None
        times = [timing.submitted_s, timing.scheduled_s, *timing.token_s, time.monotonic()]
        assert times == sorted(times)
        assert (completion.cached_tokens, completion.preemptions) == (0, 0)
    again = run(engine, workload(PROMPTS, 8))
    assert [c.token_ids for c in again] == [c.token_ids for c in done]
    assert engine.facts().details["core"] == "child process"


def test_a_fixed_number_in_flight_overlaps_and_each_end_lets_another_in(engine: Any) -> None:
    asked = workload([[n, n + 1, n + 2] for n in range(3, 11)], 24)
    progress: dict[int, list[int]] = {}

    async def drive() -> list[Completion]:
        numbers = iter(range(len(asked.prompts)))
        done: dict[int, Completion] = {}

        async def lane() -> None:
            for number in numbers:
                seen = progress.setdefault(number, [])
                done[number] = await engine.answer(number, asked, seen.append)

        await asyncio.gather(lane(), lane())
        return [done[number] for number in range(len(asked.prompts))]

    done = engine.loop.run_until_complete(drive())
    spans = [(c.timing.submitted_s, c.timing.token_s[-1]) for c in done]
    for start_s, _ in spans[2:]:
        # At each submission but the first two one other was on its way, never more.
        assert sum(begun_s < start_s < ended_s for begun_s, ended_s in spans) == 1
    assert [seen[-1] for seen in progress.values()] == [24] * 8
    assert [c.token_ids for c in done] == [c.token_ids for c in run(engine, asked)]


def test_a_request_that_is_given_up_leaves_the_engine_to_others(engine: Any) -> None:
    asked = workload([[5, 6], [7, 8]], 100)

    async def drive() -> Completion:
        begun = asyncio.Event()
        first = asyncio.ensure_future(engine.answer(0, asked, lambda _: begun.set()))
        await begun.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        other: Completion = await engine.answer(1, asked, ignore)
        return other

    done = engine.loop.run_until_complete(drive())
    assert len(done.token_ids) == 100
    assert engine.peak_memory_bytes() > 1e8


def test_a_child_that_cannot_start_is_told_with_its_own_cause(
    capfd: pytest.CaptureFixture[str],
) -> None:
    # The parent knows no more than that it is gone: the cause is read from the log, a file here.
    with pytest.raises(LlemError, match=r"longest length, 128 tokens; set vllm: \{max_model_len"):
        load({"num_gpu_blocks_override": 2}, scenario=Concurrency(concurrency=2))
