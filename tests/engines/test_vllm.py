"""The real vLLM on a CPU, its core in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_llem.backends import vllm as backend
from pytest_llem.errors import LlemError
from pytest_llem.worker.integrity import check
from tests.engines.conftest import PROMPTS, experiment, load, run, workload

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    made = load()
    yield made
    made.close()


def tokens(engine: Any, *arguments: Any, **named: Any) -> list[tuple[int, ...]]:
    return [done.token_ids for done in run(engine, workload(*arguments, **named))]


@pytest.mark.parametrize("count", [1, 17])
def test_every_request_gets_exactly_its_tokens_and_a_time_for_each(engine: Any, count: int) -> None:
    begun_s = time.monotonic()
    done = run(engine, workload(PROMPTS, count))
    ended_s = time.monotonic()
    for completion, prompt in zip(done, PROMPTS, strict=True):
        timing = completion.timing
        assert len(completion.token_ids) == timing.output_tokens == len(timing.token_s) == count
        assert timing.input_tokens == len(prompt)
        # All of one clock: vLLM's time of arrival is of another, decades away.
        assert timing.scheduled_s is not None
        times = [begun_s, timing.submitted_s, timing.scheduled_s, *timing.token_s, ended_s]
        assert times == sorted(times)
        # A step for each token: none came in a lump.
        assert len(set(timing.token_s)) == count
        assert (completion.cached_tokens, completion.preemptions) == (0, 0)


def test_more_requests_than_places_wait_in_the_queue(engine: Any) -> None:
    done = run(engine, workload([[n, n + 1] for n in range(3, 11)], 4))
    first_end_s = min(completion.timing.token_s[-1] for completion in done)
    scheduled_s = [completion.timing.scheduled_s or 0.0 for completion in done]
    assert sum(at < first_end_s for at in scheduled_s) == 4
    assert sum(at >= first_end_s for at in scheduled_s) == 4


def test_requests_have_words_of_their_own_for_every_token(engine: Any) -> None:
    # LLM.generate() turns what it is given into an order for the end alone: nothing may be shared.
    from vllm.sampling_params import RequestOutputKind

    asked = workload(PROMPTS, 3)
    (_, first), (_, again) = backend._ask(asked, 0), backend._ask(asked, 0)
    assert first is not again
    assert first.output_kind is again.output_kind is RequestOutputKind.DELTA


def test_greedy_tokens_are_the_same_again_alone_and_in_company(engine: Any) -> None:
    together = tokens(engine, PROMPTS, 8)
    assert tokens(engine, PROMPTS, 8) == together
    assert [tokens(engine, [prompt], 8)[0] for prompt in PROMPTS] == together


def test_sampled_tokens_come_from_the_seed(engine: Any) -> None:
    drawn = [tokens(engine, PROMPTS, 8, seed=seed, temperature=1.0) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] != tokens(engine, PROMPTS, 8)
    assert tokens(engine, PROMPTS[:1], 8, seed=1, temperature=1.0) == drawn[0][:1]


@pytest.mark.parametrize("limit", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}])
def test_a_limit_that_leaves_one_token_is_greedy(engine: Any, limit: dict[str, Any]) -> None:
    assert tokens(engine, PROMPTS, 6, temperature=2.0, **limit) == tokens(engine, PROMPTS, 6)


def test_repetitions_are_penalised(engine: Any) -> None:
    (row,) = tokens(engine, [[7, 8, 9]], 20, repetition_penalty=50.0)
    assert len(set(row)) == 20


def test_a_length_that_does_not_fit_is_seen(engine: Any) -> None:
    # vLLM ends such a request before its time, and says nothing of it.
    asked = experiment(output_tokens=120)
    done = run(engine, workload([[n] * 12 for n in (3, 4, 5)], 120))
    assert [len(completion.token_ids) for completion in done] == [116] * 3
    assert check(asked, done) == ("3 of 3 requests did not produce exactly 120 tokens",)


def test_a_prompt_that_does_not_fit_is_refused(engine: Any) -> None:
    with pytest.raises(LlemError, match=r"a prompt of 200 tokens is longer than .* 128; shorten"):
        run(engine, workload([*PROMPTS, [3] * 200], 4))
    # Those before it were taken back.
    assert len(run(engine, workload(PROMPTS, 2))) == 4


def test_progress_counts_finished_requests(engine: Any) -> None:
    seen: list[int] = []
    engine.run(workload(PROMPTS * 2, 2), seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 8


def test_facts_tell_how_it_was_set_up(engine: Any) -> None:
    facts = engine.facts()
    assert (facts.vocab_size, facts.device, facts.reuses) == (512, "cpu", False)
    wanted = {
        "architecture": "LlamaForCausalLM",
        "dtype": "float32",
        "core": "in process",
        "attention": "CPU_ATTN",
        "max_num_seqs": 4,
        "max_model_len": 128,
        "prefix_caching": False,
        "tensor_parallel": 1,
    }
    assert {name: facts.details[name] for name in wanted} == wanted
    assert facts.details["kv_cache_tokens"] == 32 * facts.details["kv_cache_blocks"] > 0


def test_peak_memory_is_that_of_the_process(engine: Any) -> None:
    engine.reset_peak_memory()
    peak = engine.peak_memory_bytes()
    assert 1e8 < peak < 1e11


# --- what is refused before anything is loaded ---------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_num_seq": 4}, "max_num_seq: unknown; did you mean max_num_seqs?"),
        ({"hf_overides": {}}, "hf_overides: unknown; did you mean hf_overrides?"),
        ({"tensor_parallel_size": 2}, "tensor_parallel_size: set the experiment's tensor_parallel"),
        ({"load_format": "dummy"}, "load_format: set the experiment's weights"),
        ({"disable_log_stats": True}, "disable_log_stats: the engine's statistics are part *"),
    ],
)
def test_options_are_checked_against_the_installed_version(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(LlemError) as caught:
        load(options)
    text = str(caught.value)
    assert text.startswith(f"vLLM {backend.VllmBackend().versions()['vllm']} doesn't take")
    assert said.removesuffix("*") in text


def test_a_device_that_this_vllm_does_not_have_is_refused() -> None:
    with pytest.raises(LlemError, match=r"computes on cpu; pip install vllm, on a host with a GPU"):
        load(device="cuda")


def test_the_version_is_that_of_the_module() -> None:
    import vllm

    assert backend.VllmBackend().versions() == {"vllm": vllm.__version__}
