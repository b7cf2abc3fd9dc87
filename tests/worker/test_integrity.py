"""Checks that a run did what was asked."""

from __future__ import annotations

import dataclasses

import pytest

from pytest_llem.experiment import Prompts, Uniform
from pytest_llem.extensions import Completion
from pytest_llem.worker.integrity import check
from pytest_llem.worker.workload import asked_lengths
from tests.builders import completion, experiment, timing

EXPERIMENT = experiment(output_tokens=3, prompts=Prompts(count=2, input_tokens=4))
GOOD = completion(timing(0.0, 1.0, 2.0, 3.0))


def with_timing(**fields: object) -> Completion:
    return dataclasses.replace(GOOD, timing=dataclasses.replace(GOOD.timing, **fields))  # type: ignore[arg-type]


def test_a_run_that_did_what_was_asked_leaves_no_doubt() -> None:
    assert check(EXPERIMENT, [GOOD, GOOD]) == ()


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (
            completion(timing(0.0, 1.0, 2.0)),
            "did not produce exactly 3 tokens",
        ),
        (
            completion(timing(0.0, 1.0, 2.0, 3.0, 4.0)),
            "did not produce exactly 3 tokens",
        ),
        (
            completion(timing(0.0, 1.0, 2.0, 3.0), token_ids=(1, 2)),
            "did not produce exactly 3 tokens",
        ),
        (with_timing(input_tokens=5), "did not have exactly the input tokens asked for"),
        (with_timing(input_tokens=3), "did not have exactly the input tokens asked for"),
        (with_timing(token_s=(1.0, 2.0)), "have no time for each of their tokens"),
        (with_timing(token_s=(1.0, 3.0, 2.0)), "have times that run backwards"),
        (with_timing(submitted_s=1.5), "have times that run backwards"),
        (with_timing(scheduled_s=-0.5), "were begun before they were submitted"),
        (with_timing(scheduled_s=1.5), "have a token from before they were begun"),
        (with_timing(due_s=0.5), "were submitted before they were due"),
    ],
)
def test_a_request_that_went_wrong_is_told(wrong: Completion, problem: str) -> None:
    assert check(EXPERIMENT, [GOOD, wrong]) == (f"1 of 2 requests {problem}",)
    assert check(EXPERIMENT, [wrong, wrong]) == (f"2 of 2 requests {problem}",)


RAGGED = experiment(
    output_tokens=3, prompts=Prompts(count=3, input_tokens=Uniform(uniform=(2, 90)))
)


def ragged(*lengths: int) -> list[Completion]:
    return [with_timing(input_tokens=length) for length in lengths]


def test_prompts_of_many_lengths_are_checked_each_by_its_own() -> None:
    first, second, third = asked_lengths(RAGGED)
    assert len({first, second, third}) == 3
    wrong = "of 3 requests did not have exactly the input tokens asked for"
    assert check(RAGGED, ragged(first, second, third)) == ()
    assert check(RAGGED, ragged(first, second, third + 1)) == (f"1 {wrong}",)
    # The same lengths as a whole, and yet not what was asked of these requests.
    assert check(RAGGED, ragged(second, first, third)) == (f"2 {wrong}",)


def test_the_requests_that_were_answered_are_checked_where_some_were_not() -> None:
    first, second, _ = asked_lengths(RAGGED)
    assert check(RAGGED, ragged(first, second)) == ("2 of 3 requests were answered",)
    assert check(RAGGED, ragged(first, first)) == (
        "2 of 3 requests were answered",
        "1 of 3 requests did not have exactly the input tokens asked for",
    )


def test_tokens_that_arrive_together_are_in_order() -> None:
    assert check(EXPERIMENT, [GOOD, with_timing(submitted_s=1.0, token_s=(1.0, 1.0, 1.0))]) == ()


@pytest.mark.parametrize("answered", [0, 1, 3])
def test_a_wrong_number_of_answers_is_told(answered: int) -> None:
    problems = check(EXPERIMENT, [GOOD] * answered)
    assert problems == (f"{answered} of 2 requests were answered",)


def test_all_that_is_wrong_is_told() -> None:
    wrong = with_timing(input_tokens=1, output_tokens=9, token_s=(3.0, 1.0))
    assert check(EXPERIMENT, [wrong]) == (
        "1 of 2 requests were answered",
        "1 of 2 requests did not have exactly the input tokens asked for",
        "1 of 2 requests did not produce exactly 3 tokens",
        "1 of 2 requests have no time for each of their tokens",
        "1 of 2 requests have times that run backwards",
    )


def test_a_window_of_several_runs_has_the_requests_of_all() -> None:
    assert check(EXPERIMENT, [GOOD] * 6, repeats=3) == ()
    (problem,) = check(EXPERIMENT, [GOOD] * 5, repeats=3)
    assert problem == "5 of 6 requests were answered"


def test_input_tokens_are_looked_at_in_every_run() -> None:
    drawn = dataclasses.replace(
        EXPERIMENT, prompts=Prompts(count=2, input_tokens=Uniform(uniform=(1, 50)))
    )
    once = [with_timing(input_tokens=length) for length in asked_lengths(drawn)]
    assert check(drawn, once * 2, repeats=2) == ()
    assert len(check(drawn, once + once[::-1], repeats=2)) == 1


# --- what an engine says of its cache ------------------------------------------------------


def said(**fields: int) -> Completion:
    return dataclasses.replace(GOOD, **fields)  # type: ignore[arg-type]


def test_tokens_from_a_cache_that_nobody_asked_for_are_told() -> None:
    (problem,) = check(EXPERIMENT, [said(cached_tokens=3), GOOD])
    assert problem.startswith("1 of 2 requests found 3 tokens of their prompts in a cache")
    assert check(EXPERIMENT, [said(cached_tokens=0), GOOD]) == ()
    assert check(EXPERIMENT, [said(cached_tokens=3), GOOD], reuses=True) == ()


def test_requests_that_were_interrupted_are_told_whatever_was_asked_for() -> None:
    for reuses in (True, False):
        (problem,) = check(EXPERIMENT, [said(preemptions=2), said(preemptions=1)], reuses=reuses)
        assert problem.startswith("2 of 2 requests were interrupted, 3 times in all")
    assert check(EXPERIMENT, [said(preemptions=0), GOOD]) == ()


def test_a_timing_that_is_in_order_leaves_no_doubt() -> None:
    exact = with_timing(due_s=0.0, scheduled_s=0.0)
    later = with_timing(due_s=-1.0, scheduled_s=1.0)
    early = with_timing(due_s=1e-6)
    assert check(EXPERIMENT, [exact, later]) == check(EXPERIMENT, [early, GOOD]) == ()
