"""What casts doubt on figures, provoked on the real vLLM: reused work and interrupted requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Prompts
from pytest_llem.worker.integrity import check
from tests.engines.conftest import experiment, load, run, workload

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

# Four blocks of 32 tokens are one request of the longest length; one block vLLM keeps to itself.
BLOCKS = 7


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    made = load({"enable_prefix_caching": True, "num_gpu_blocks_override": BLOCKS})
    yield made
    made.close()


def test_a_cache_too_small_for_one_request_is_told_with_what_mends_it() -> None:
    with pytest.raises(LlemError, match=r"longest length, 128 tokens; set\s+vllm: \{max_model_len"):
        load({"num_gpu_blocks_override": 2})


def test_a_prompt_that_was_there_before_is_counted_as_cached(engine: Any) -> None:
    asked = workload([[5] * 70], 4)
    (first,), (again,) = run(engine, asked), run(engine, asked)
    assert (first.cached_tokens, again.cached_tokens) == (0, 64)
    assert first.token_ids == again.token_ids
    assert engine.facts().reuses
    assert engine.facts().details["prefix_caching"]
    same = experiment(prompts=Prompts(count=1, input_tokens=70), output_tokens=4)
    (problem,) = check(same, [again])
    assert problem.startswith("1 of 1 requests found 64 tokens of their prompts in a cache")
    assert check(same, [again], 1, engine.facts().reuses) == ()


def test_requests_that_the_cache_does_not_hold_together_are_interrupted(engine: Any) -> None:
    prompts = [[n] * 40 for n in (30, 31, 32)]
    done = run(engine, workload(prompts, 80))
    assert sum(completion.preemptions or 0 for completion in done) > 0
    assert [len(completion.token_ids) for completion in done] == [80] * 3
    alone = [run(engine, workload([prompt], 80))[0].token_ids for prompt in prompts]
    assert [completion.token_ids for completion in done] == alone
    same = experiment(prompts=Prompts(count=3, input_tokens=40), output_tokens=80)
    (problem,) = check(same, done)
    assert "requests were interrupted" in problem
