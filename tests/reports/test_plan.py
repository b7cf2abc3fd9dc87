"""The plan: data to lines."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.demands import RunnerSpec
from pytest_llem.reports.plan import lines
from pytest_llem.runners.fetch import Copy, ImageSupply, Supply
from pytest_llem.runners.models import Finding
from pytest_llem.study.keys import Execution
from pytest_llem.study.schedule import schedule
from tests.builders import UNHURRIED
from tests.reports.plans import DOCKER, row, study, supply, turn, turns

# --- the whole ------------------------------------------------------------------------------


def test_a_plan_reads_like_this() -> None:
    execution = Execution(cycles=3, order="latin_square")
    made = [
        turn(
            name,
            cycle,
            position="abcd".index(name),
            idle=30.0,
            gap_s=60.0,
            thermal=True,
            **{"backend": "vllm", "runner": DOCKER} if name == "a" else {"known_s": 100.0},
        )
        for name, cycle in schedule("abcd", 3, "latin_square", 0)
    ]
    plan = study(
        "abcd",
        name="compare",
        file="benchmarks/compare.study.yaml",
        execution=execution,
        turns=made,
        gates=4,
        images=[ImageSupply(name="vllm/vllm-openai:v0.32.0", here=False)],
        supplies=[
            supply(model="models/tiny-llama", place="directory", random=True, size_bytes=1234),
            supply(model="org/model", revision="v1", size_bytes=2_500_000_000),
        ],
        not_made={
            ("refused", "Multi-backend study requires Docker isolation."): ["e"],
            ("unmet", "requires 2 GPUs, 0 found"): ["f", "g"],
        },
    )
    assert list(lines([plan])) == [
        "compare (benchmarks/compare.study.yaml)",
        "  4 experiments x 3 cycles = 12 measurements, 4 gates",
        "  order        latin_square is not balanced: 3 cycles of 4 experiments; use a",
        "                 multiple of 4",
        "               a c1, b c1, d c1, c c1, b c2, c c2 and 6 more",
        "  runner       vllm     docker (cli), image vllm/vllm-openai:v0.32.0 (default)",
        "               pytorch  local (default)",
        "  images       vllm/vllm-openai:v0.32.0: to pull, size unknown before",
        "  models       models/tiny-llama: directory, random weights, 1.23 kB",
        "               org/model@v1: hub, 2.50 GB to fetch",
        "  engine loads 12; 2 with order: sequential and worker: reuse",
        "  asleep       idle 6 min, gaps at most 12 min (thermal)",
        "  total        at least 16 min, 28 min with the longest gaps",
        "               9 of 12 measurements known from earlier sessions",
        "  refused      e: Multi-backend study requires Docker isolation.",
        "  unmet        f, g: requires 2 GPUs, 0 found",
    ]


@UNHURRIED
@given(
    st.sampled_from(["interleaved", "sequential", "shuffled", "latin_square"]),
    st.integers(1, 12),
    st.integers(1, 200),
    st.floats(0, 1e7),
    st.booleans(),
)
def test_with_short_names_it_fits_in_eighty_columns(
    order: Any, count: int, cycles: int, seconds: float, thermal: bool
) -> None:
    execution = Execution(cycles=cycles, order=order)
    names = "abcdefghijkl"[:count]
    made = turns(names, execution, gap_s=seconds, thermal=thermal, runner=DOCKER)
    plan = study(names, execution=execution, turns=made, gates=cycles)
    found = list(lines([plan, plan]))
    assert max(map(len, found)) <= 80
    assert not any(line != line.rstrip() or "\xa0" in line for line in found)


# --- how much -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "2 experiments x 2 cycles = 4 measurements"),
        ({"gates": 1}, "2 experiments x 2 cycles = 4 measurements, 1 gate"),
        ({"in_study": 5, "gates": 2}, "2 of 5 experiments x 2 cycles = 4 measurements, 2 gates"),
        ({"turns": [turn("a"), turn("b")]}, "2 experiments, 2 of 4 measurements"),
        ({"turns": [turn("b", 2)]}, "1 of 2 experiments, 1 of 4 measurements"),
        ({"turns": []}, "0 of 2 experiments, 0 of 4 measurements"),
        (
            {"execution": Execution(cycles=1), "turns": [turn()], "in_study": 1},
            "1 experiment x 1 cycle = 1 measurement",
        ),
    ],
)
def test_experiments_cycles_and_gates_are_counted(fields: dict[str, Any], text: str) -> None:
    assert list(lines([study(**fields)]))[1] == f"  {text}"


def test_base_and_head_are_counted_and_named() -> None:
    old = RunnerSpec(mode="local", argument="/old/bin/python", source="ab")
    made = [
        turn("a", arm="base", runner=old),
        turn("a", arm="head"),
        turn("a", 2, arm="head"),
        turn("a", 2, arm="base", runner=old),
    ]
    plan = study("a", turns=made, with_base=1, execution=Execution(cycles=2))
    assert list(lines([plan]))[1] == "  1 experiment x 2 cycles of base and head = 4 measurements"
    assert row("order", plan)[1] == "a c1-base, a c1, a c2, a c2-base"
    assert row("runner", plan) == [
        "pytorch base  local:/old/bin/python (ab)",
        "pytorch head  local (default)",
    ]
    assert row("engine loads", plan) == ["4"]
    part = dataclasses.replace(plan, turns=made[:3])
    assert list(lines([part]))[1] == "  1 experiment, 3 of 4 measurements"
    both = dataclasses.replace(plan, in_study=2, selected=2, turns=[*made, turn("b"), turn("b", 2)])
    assert list(lines([both]))[1] == (
        "  2 experiments x 2 cycles of base and head (1 of them) = 6 measurements"
    )


def test_where_nothing_would_be_measured_only_the_reasons_are_said() -> None:
    plan = study(turns=[], not_made={("unmet", "requires 1 GPU, 0 found"): ["a", "b"]})
    assert list(lines([plan]))[2:] == ["  unmet        a, b: requires 1 GPU, 0 found"]


# --- order ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "execution", "text"),
    [
        ("ab", Execution(cycles=3), "interleaved"),
        ("ab", Execution(cycles=3, order="sequential"), "sequential"),
        ("ab", Execution(cycles=3, order="shuffled", seed=7), "shuffled, seed 7"),
        ("ab", Execution(cycles=2, order="latin_square"), "latin_square, balanced"),
        ("a", Execution(cycles=2, order="latin_square"), "latin_square"),
    ],
)
def test_the_order_is_named(names: str, execution: Execution, text: str) -> None:
    assert row("order", study(names, execution=execution))[0] == text


def test_a_latin_square_with_holes_is_not_balanced() -> None:
    execution = Execution(cycles=2, order="latin_square")
    plan = study(execution=execution, turns=turns("ab", execution)[1:])
    assert row("order", plan)[0] == "latin_square is not balanced: 3 of 4 measurements"


def test_a_few_measurements_are_all_named_in_order() -> None:
    assert row("order")[1] == "a c1, b c1, a c2, b c2"


def test_an_experiment_and_its_cycle_stand_on_one_line() -> None:
    found = row("order", study(turns=[turn("x" * 20, cycle) for cycle in (1, 2, 3, 4)]))
    assert found[1:] == [
        ", ".join([f"{'x' * 20} c{c}" for c in (1, 2)]) + ",",
        ", ".join([f"{'x' * 20} c{c}" for c in (3, 4)]),
    ]


# --- where ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runner", "text"),
    [
        (RunnerSpec(mode="local", source="study"), "local (study)"),
        (RunnerSpec(mode="slurm", argument="gpu", source="env"), "slurm:gpu (env)"),
        (
            RunnerSpec(mode="docker", source="auto_detected", image="i:1", image_source="ini"),
            "docker (auto_detected), image i:1 (ini)",
        ),
    ],
)
def test_a_runner_stands_with_its_source(runner: RunnerSpec, text: str) -> None:
    assert row("runner", study(turns=[turn(runner=runner)])) == [f"pytorch  {text}"]


def test_images_of_single_experiments_are_told_apart() -> None:
    own = dataclasses.replace(DOCKER, image="mine:1", image_source="experiment")
    plan = study(turns=[turn("a", runner=DOCKER), turn("b", runner=own), turn("c", runner=DOCKER)])
    assert row("runner", plan) == [
        "pytorch  docker (cli), image vllm/vllm-openai:v0.32.0 (default):",
        "a, c",
        "pytorch  docker (cli), image mine:1 (experiment): b",
    ]


def test_images_are_told_with_what_the_daemon_knows() -> None:
    assert row("images") == []
    images = [
        ImageSupply(name="a:1", here=True, size_bytes=5_300_000_000),
        ImageSupply(name="b:1", here=False),
    ]
    assert row("images", study(images=images)) == [
        "a:1: here, 5.30 GB",
        "b:1: to pull, size unknown before",
    ]


def test_a_daemon_that_does_not_answer_is_spoken_of_once() -> None:
    images = [ImageSupply(name=name, here=None, reason="nobody answers") for name in "ab"]
    assert row("images", study(images=images)) == [
        "a: size unknown",
        "b: size unknown",
        "Docker can't be asked: nobody answers",
    ]


def test_models_are_copied_to_daemons_elsewhere() -> None:
    copies = [
        Copy(model="models/a", daemon="lab", size_bytes=3_000_000_000, done=False),
        Copy(model="org/b", daemon="lab", size_bytes=2_000_000, done=True),
    ]
    assert row("copies") == []
    assert row("copies", study(copies=copies)) == [
        "models/a: 3.00 GB to copy to lab",
        "org/b: 2.00 MB copied to lab before",
    ]


# --- models ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "texts"),
    [
        (supply(size_bytes=5_000_000), ["org/m: hub, 5.00 MB to fetch"]),
        (supply(random=True, size_bytes=600), ["org/m: hub, random weights, 600 B to fetch"]),
        (supply(place="cache", revision="v1"), ["org/m@v1: hub, in the cache"]),
        (
            supply(reason="the hub can't be asked (no)"),
            ["org/m: hub, size unknown: the hub can't be asked (no)"],
        ),
        (
            supply(place="engine", backends=("x", "y")),
            ["org/m: left to the backend x, y, size unknown"],
        ),
        (
            supply(problem=Finding("not found on the hub", "check the id")),
            ["org/m: not found on the hub", "fix: check the id"],
        ),
    ],
)
def test_a_model_stands_with_its_size_or_why_there_is_none(
    given_: Supply, texts: list[str]
) -> None:
    assert row("models", study(supplies=[given_])) == texts


# --- what is left out -----------------------------------------------------------------------


def test_of_many_experiments_with_one_reason_the_first_are_named() -> None:
    plan = study(not_made={("skipped", "not today"): [f"e{n}" for n in range(12)]})
    assert row("skipped", plan) == ["e0, e1, e2, e3, e4, e5, e6, e7, e8, e9 and 2 more: not today"]


# --- several studies ------------------------------------------------------------------------


def test_one_study_needs_no_sum() -> None:
    assert not any(line.startswith("all") for line in lines([study()]))


def test_several_studies_are_summed_up() -> None:
    fetched = [supply(size_bytes=600, random=True), supply(place="cache", model="org/c")]
    one = study(turns=[turn(idle=5.0), turn(idle=5.0)], gates=2, supplies=fetched)
    more = [supply(size_bytes=2_000_000), supply(model="org/u", reason="why")]
    refused = supply(model="org/r", problem=Finding("gated", "ask"))
    made = [turn(gap_s=60.0, thermal=True, known_s=9.0)]
    other = study(name="t", turns=made, supplies=[*more, refused])
    found = list(lines([one, other]))
    assert found[found.index("all 2 studies") - 1 :] == [
        "",
        "all 2 studies",
        "  3 measurements, 2 gates",
        "  to fetch     2.00 MB and 1 model of unknown size",
        "  engine loads 3",
        "  asleep       idle 10 s, gaps at most 60 s (thermal)",
        "  total        at least 19 s, 79 s with the longest gaps",
        "               1 of 3 measurements known from earlier sessions",
    ]


def test_of_several_studies_without_measurements_there_is_nothing_to_sum_up() -> None:
    plan = study(turns=[], not_made={("skipped", "why"): ["a", "b"]})
    assert list(lines([plan, plan]))[-2:] == ["all 2 studies", "  0 measurements"]


def test_no_study_has_no_plan() -> None:
    assert list(lines([])) == []
