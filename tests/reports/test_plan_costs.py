"""The plan: how many engines are loaded, and how long everything takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any

import pytest

from pytest_llem.demands import RunnerSpec
from pytest_llem.experiment import Poisson, Prompts, Warmup
from pytest_llem.reports.plan import Turn
from pytest_llem.study import identity
from pytest_llem.study.keys import Execution
from tests.reports.plans import DOCKER, row, study, turn, turns

# --- engines --------------------------------------------------------------------------------


def engine_key(made: Turn) -> Hashable:
    return identity.engine_key(made.experiment, made.runner)


@pytest.mark.parametrize(
    "fields",
    [
        {"backend": "vllm"},
        {"model": "org/n"},
        {"revision": "v1"},
        {"weights": "random"},
        {"dtype": "float16"},
        {"device": "cpu"},
        {"gpus": 2},
        {"tensor_parallel": 2, "gpus": 1},
        {"pipeline_parallel": 2, "gpus": 1},
        {"options": {"block_size": 16}},
        {"env": {"OMP_NUM_THREADS": "2"}},
        {"runner": DOCKER},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_builds_an_engine_tells_two_engines_apart(fields: dict[str, Any]) -> None:
    assert engine_key(turn(**fields)) != engine_key(turn())


@pytest.mark.parametrize(
    "fields",
    [
        {"batch_size": 4},
        {"output_tokens": 7},
        {"gpus": 1},
        {"seed": 7},
        {"worker": "reuse"},
        {"idle": 3.0},
        {"cycle": 2},
        {"runner": RunnerSpec(mode="local", source="cli")},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_an_engine_is_the_same_whatever_is_asked_of_it(fields: dict[str, Any]) -> None:
    assert engine_key(turn("b", **fields)) == engine_key(turn("a"))


def test_the_seed_builds_an_engine_of_random_weights() -> None:
    one, other = turn(weights="random", seed=1), turn(weights="random", seed=2)
    assert engine_key(one) != engine_key(other)


def engines(order: Any, *models: str, worker: Any = "fresh") -> str:
    """The text for a study of experiments of these models."""
    names = "abcdef"[: len(models)]
    execution = Execution(cycles=2, order=order)
    made = [
        dataclasses.replace(
            each,
            experiment=dataclasses.replace(
                each.experiment, model=models[each.position], worker=worker
            ),
        )
        for each in turns(names, execution)
    ]
    return " ".join(row("engine loads", study(names, execution=execution, turns=made)))


FEWER = "with order: sequential and worker: reuse"


def test_each_measurement_loads_an_engine() -> None:
    assert engines("interleaved", "org/x", "org/y") == f"4; 2 {FEWER}"
    assert engines("sequential", "org/x", "org/x", "org/y", "org/x") == f"8; 3 {FEWER}"


def test_where_reuse_saves_nothing_it_is_not_spoken_of() -> None:
    assert row("engine loads", study(turns=[turn("a"), turn("b", model="org/n")])) == ["2"]


def test_a_reused_engine_is_loaded_where_it_changes() -> None:
    assert engines("sequential", "org/x", "org/x", "org/y", worker="reuse") == "2 (worker: reuse)"
    assert (
        engines("interleaved", "org/x", "org/y", worker="reuse") == f"4 (worker: reuse); 2 {FEWER}"
    )


# --- windows --------------------------------------------------------------------------------


def test_what_makes_measurements_longer_is_told() -> None:
    stable = Warmup(timeout_s=150.0, until_stable=True)
    made = [turn(precision=0.02, phases=True, warmup=stable)]
    assert row("windows", study(turns=made)) == [
        "warm-up until stable, at most 2.5 min",
        "precision 2 %: a pilot run tells the repeats, at most 10 min",
        "phases: a window of prefill alone, 1 to 30 s",
    ]


def test_how_long_random_arrivals_take_is_told() -> None:
    scenario, prompts = Poisson(poisson=0.5), Prompts(count=150)
    made = [turn(scenario=scenario, prompts=prompts, warmup="none")]
    assert row("windows", study(turns=made)) == [
        "poisson 0.5 a second: requests arrive for about 5 min"
    ]


def test_what_some_measurements_only_have_is_counted() -> None:
    made = [turn("a", precision=0.005), turn("b", precision=0.005), turn("c")]
    assert row("windows", study("abc", turns=made)) == [
        "precision 0.5 %: a pilot run tells the repeats, at most 10 min (2",
        "of 3 measurements)",
    ]


def test_ordinary_measurements_need_no_word() -> None:
    assert row("windows", study(turns=[turn("a"), turn("b", warmup="none")])) == []


# --- times ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.04 s"),
        (1.25, "1.2 s"),
        (9.0, "9 s"),
        (10.4, "10 s"),
        (119.0, "119 s"),
        (120.0, "2 min"),
        (150.0, "2.5 min"),
        (630.0, "10 min"),
        (7199.0, "120 min"),
        (7200.0, "2 h"),
        (9000.0, "2.5 h"),
        (1_000_000.0, "278 h"),
    ],
)
def test_times_are_as_people_say_them(seconds: float, text: str) -> None:
    assert row("asleep", study(turns=[turn(idle=seconds)])) == [f"idle {text}, no gaps"]


@pytest.mark.parametrize(
    ("made", "asleep", "total"),
    [
        ([turn()], "no idle, no gaps", "unknown"),
        ([turn(idle=30.0)], "idle 30 s, no gaps", "at least 30 s"),
        ([turn(), turn(gap_s=60.0)], "no idle, gaps 60 s", "at least 60 s"),
        ([turn(known_s=50.0)], "no idle, no gaps", "about 50 s"),
        (
            [turn(known_s=50.0, idle=5.0), turn(known_s=50.0, idle=5.0, gap_s=5.0)],
            "idle 10 s, gaps 5 s",
            "about 105 s",
        ),
        ([turn(known_s=50.0), turn(idle=5.0)], "idle 5 s, no gaps", "at least 55 s"),
        ([turn(idle=5.0), turn(idle=5.0, shares_idle=True)], "idle 5 s, no gaps", "at least 5 s"),
        (
            [turn(known_s=50.0), turn(known_s=50.0, gap_s=300.0, thermal=True)],
            "no idle, gaps at most 5 min (thermal)",
            "about 100 s, 6.7 min with the longest gaps",
        ),
        (
            [turn(), turn(gap_s=300.0, thermal=True)],
            "no idle, gaps at most 5 min (thermal)",
            "unknown",
        ),
    ],
)
def test_what_is_known_of_the_time_adds_up(made: list[Turn], asleep: str, total: str) -> None:
    plan = study(turns=made)
    assert row("asleep", plan) == [asleep]
    assert row("total", plan)[0] == total


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ([None, None], "no measurement known from earlier sessions"),
        ([3.0, None], "1 of 2 measurements known from earlier sessions"),
        ([3.0, 3.0], "2 measurements known from earlier sessions"),
    ],
)
def test_it_is_said_how_many_measurements_are_known(known: list[float | None], text: str) -> None:
    assert row("total", study(turns=[turn(known_s=each) for each in known]))[1] == text
