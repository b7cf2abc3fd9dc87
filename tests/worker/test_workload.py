"""Prompts: the same everywhere, and all different."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Prompts, Uniform, Warmup
from pytest_llem.worker.workload import (
    MOST_TOKENS,
    asked_lengths,
    measured,
    most_repeats,
    part,
    prefill,
    synthetic,
    warmup,
    warmup_batch,
)
from tests.builders import UNHURRIED, experiment

EXPERIMENT = experiment(
    prompts=Prompts(count=5, input_tokens=7),
    warmup=Warmup(prompts=3),
    output_tokens=11,
    batch_size=2,
    seed=42,
)


LENGTHS = st.lists(st.integers(2, 30), min_size=1, max_size=20)


@UNHURRIED
@given(LENGTHS, st.integers(20, 50_000), st.text(max_size=5))
def test_prompts_are_what_was_asked_for_and_all_different(
    lengths: list[int], vocab_size: int, seed: str
) -> None:
    prompts = synthetic(lengths, vocab_size, seed)
    assert [len(prompt) for prompt in prompts] == lengths
    assert len({tuple(prompt) for prompt in prompts}) == len(prompts)
    assert all(0 <= token < vocab_size for prompt in prompts for token in prompt)
    assert synthetic(lengths, vocab_size, seed) == prompts


@UNHURRIED
@given(st.lists(st.integers(3, 6), min_size=1, max_size=8), st.text(max_size=3))
def test_ragged_prompts_of_few_token_ids_are_all_different(lengths: list[int], seed: str) -> None:
    prompts = [tuple(prompt) for prompt in synthetic(lengths, 2, seed)]
    assert len(set(prompts)) == len(lengths)
    assert [len(prompt) for prompt in prompts] == lengths


def test_prompts_are_the_same_on_every_host_and_version() -> None:
    prompts = [[351, 88, 553, 218], [877, 509, 887, 249]]
    assert synthetic([4, 4], 1000, "42/measure") == prompts
    assert synthetic([1, 5, 2], 1000, "42/measure") == [
        [351],
        [88, 553, 218, 877, 509],
        [887, 249],
    ]


def test_the_hash_seed_of_a_process_does_not_count() -> None:
    call = "synthetic([4, 2], 1000, 'x')"
    program = f"from pytest_llem.worker.workload import synthetic; print({call})"
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert said == {str(synthetic([4, 2], 1000, "x"))}


def test_another_seed_gives_other_prompts() -> None:
    assert synthetic([8] * 3, 100, "a") != synthetic([8] * 3, 100, "b")


def test_more_prompts_begin_with_the_same() -> None:
    assert synthetic([8] * 9, 100, "a")[:4] == synthetic([8] * 4, 100, "a")


def test_no_lengths_give_no_prompts() -> None:
    assert synthetic([], 100, "a") == []


@pytest.mark.parametrize(
    ("lengths", "vocab_size"), [([3] * 8, 2), ([1], 1), ([1] * 5, 5), ([1, 2, 1, 2, 2, 2], 2)]
)
def test_all_prompts_there_are_can_be_asked_for(lengths: list[int], vocab_size: int) -> None:
    assert len(synthetic(lengths, vocab_size, "x")) == len(lengths)


@pytest.mark.parametrize(
    ("lengths", "vocab_size", "count", "length"),
    [
        ([3] * 9, 2, 9, 3),
        ([1] * 2, 1, 2, 1),
        ([500] * 2, 1, 2, 500),
        ([1] * 6, 5, 6, 1),
        ([3], 0, 1, 3),
        # It is prompts of one length that there are too few of.
        ([9, 1, 9, 1, 1], 2, 3, 1),
    ],
)
def test_more_prompts_than_there_are_are_refused(
    lengths: list[int], vocab_size: int, count: int, length: int
) -> None:
    with pytest.raises(LlemError) as caught:
        synthetic(lengths, vocab_size, "x")
    assert str(caught.value) == (
        f"{count} different prompts of {length} tokens don't exist with {vocab_size} token ids;"
        " lower prompts.count or raise prompts.input_tokens"
    )


def test_long_prompts_of_few_token_ids_do_exist() -> None:
    assert len(synthetic([12] * 300, 2, "x")) == 300


def test_a_long_prompt_of_a_large_vocabulary_is_quickly_found_possible() -> None:
    assert len(synthetic([10_000], 200_000, "x")[0]) == 10_000


def test_the_measured_requests_are_those_of_the_experiment() -> None:
    workload = measured(EXPERIMENT, 1000)
    assert list(workload.prompts) == synthetic([7] * 5, 1000, "42/measure")
    assert (workload.output_tokens, workload.batch_size, workload.seed) == (11, 2, 42)


def test_warm_up_has_prompts_of_its_own() -> None:
    workload = warmup(EXPERIMENT, 1000)
    assert workload is not None
    assert (len(workload.prompts), workload.output_tokens, workload.batch_size) == (3, 11, 2)
    own = {tuple(prompt) for prompt in workload.prompts}
    assert not own & {tuple(prompt) for prompt in measured(EXPERIMENT, 1000).prompts}


def test_there_may_be_no_warm_up() -> None:
    assert warmup(experiment(warmup="none"), 1000) is None


@pytest.mark.parametrize(
    ("first", "last", "expected"), [(0, 2, [0, 1]), (2, 4, [2, 3]), (4, 6, [4]), (6, 8, [])]
)
def test_a_part_has_the_requests_of_a_range(first: int, last: int, expected: list[int]) -> None:
    whole = measured(EXPERIMENT, 1000)
    some = part(whole, first, last)
    assert list(some.prompts) == [whole.prompts[index] for index in expected]
    assert (some.output_tokens, some.batch_size, some.seed) == (11, 2, 42)


# --- repeats -------------------------------------------------------------------------------

DRAWN = experiment(prompts=Prompts(count=5, input_tokens=Uniform(uniform=(3, 90))), batch_size=2)


def test_repeats_have_the_same_lengths_and_other_prompts() -> None:
    runs = [measured(DRAWN, 1000, repeat) for repeat in range(4)]
    runs += [prefill(DRAWN, 1000, repeat) for repeat in range(4)]
    assert all([len(prompt) for prompt in run.prompts] == asked_lengths(DRAWN) for run in runs)
    assert len({tuple(prompt) for run in runs for prompt in run.prompts}) == 8 * 5


def test_the_first_repeat_is_the_workload_itself() -> None:
    assert measured(DRAWN, 1000, 0) == measured(DRAWN, 1000)
    assert measured(DRAWN, 1000, 3) == measured(DRAWN, 1000, 3)


def test_prefill_is_the_same_but_for_its_one_token() -> None:
    run = prefill(EXPERIMENT, 1000, 2)
    assert (run.output_tokens, run.batch_size, run.seed) == (1, 2, 42)


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"prompts": Prompts(count=100, input_tokens=400), "output_tokens": 100}, 100),
        ({"prompts": Prompts(count=1, input_tokens=1), "output_tokens": 1}, MOST_TOKENS // 2),
        ({"prompts": Prompts(count=10_000, input_tokens=4000)}, 1),
    ],
)
def test_repeats_are_as_many_as_memory_holds_and_at_least_one(
    fields: dict[str, Any], most: int
) -> None:
    assert most_repeats(experiment(**fields)) == most


def test_batches_of_a_longer_warm_up_have_the_lengths_of_its_first() -> None:
    batches = [warmup_batch(DRAWN, 1000, number) for number in range(3)]
    begun = warmup(DRAWN, 1000)
    assert begun is not None
    wanted = [len(prompt) for prompt in begun.prompts[:2]]
    assert [[len(prompt) for prompt in batch.prompts] for batch in batches] == [wanted] * 3
    prompts = [prompt for batch in (begun, *batches) for prompt in batch.prompts]
    assert len(set(map(tuple, prompts))) == len(prompts)
