"""Fields that don't fit together, and what a backend can't do."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llem.experiment import (
    Concurrency,
    Decoding,
    Lognormal,
    LognormalShape,
    Poisson,
    Prompts,
    Uniform,
    Warmup,
)
from pytest_llem.extensions import Abilities
from pytest_llem.study import checks
from pytest_llem.study.yaml_lines import Key
from tests.builders import experiment

SECRET = (
    "a secret doesn't belong in a study: its report shows it; set it where pytest runs, the worker"
    " inherits it"
)


def lognormal(median: int, longest: int) -> Prompts:
    shape = LognormalShape(median=median, sigma=1.0, max=longest)
    return Prompts(input_tokens=Lognormal(lognormal=shape))


def wrong(**fields: Any) -> list[tuple[Key, str]]:
    return list(checks.problems(experiment(**fields)))


# --- what is wrong wherever it runs --------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompts": Prompts(input_tokens=Uniform(uniform=(1, 9)))},
        {"prompts": Prompts(input_tokens=Uniform(uniform=(9, 9)))},
        {"prompts": lognormal(9, 9)},
        {"gpus": 4, "tensor_parallel": 2, "pipeline_parallel": 2},
        {"gpus": 8, "tensor_parallel": 2},
        {"env": {"OMP_NUM_THREADS": "4", "TOKENIZERS_PARALLELISM": "false", "KEYBOARD": "x"}},
        {"marks": ("slow", {"timeout": 30})},
        {"warmup": "none"},
        {"warmup": Warmup(until_stable=True), "precision": 0.02, "phases": True},
        {"precision": 0.02, "meters": ("estimate", "nvml")},
        {"phases": True, "meters": ("estimate",)},
    ],
)
def test_what_fits_together_is_taken(fields: dict[str, Any]) -> None:
    assert wrong(**fields) == []


@pytest.mark.parametrize(
    ("fields", "key", "text"),
    [
        (
            {"prompts": Prompts(input_tokens=Uniform(uniform=(9, 2)))},
            ("prompts", "input_tokens", "uniform"),
            "runs backwards: from 9 to 2; swap them",
        ),
        (
            {"prompts": lognormal(9, 8)},
            ("prompts", "input_tokens", "lognormal"),
            "the median, 9, is above the longest, 8",
        ),
        (
            {"gpus": 3, "tensor_parallel": 2, "pipeline_parallel": 2},
            ("gpus",),
            "fewer than tensor_parallel × pipeline_parallel = 4",
        ),
        (
            {"precision": 0.02, "meters": ()},
            ("precision",),
            "needs a meter that measures; meters names none",
        ),
        (
            {"precision": 0.02, "meters": ("estimate",)},
            ("precision",),
            "needs a meter that measures; meters names none",
        ),
        ({"phases": True, "meters": ()}, ("phases",), "needs a meter; meters names none"),
        ({"marks": ("a", {"b": 1, "c": 2})}, ("marks", 1), "should be a name, or one name with"),
        ({"marks": ({},)}, ("marks", 0), "should be a name, or one name with its arguments"),
    ],
)
def test_what_does_not_fit_together_is_told(fields: dict[str, Any], key: Key, text: str) -> None:
    ((place, said),) = wrong(**fields)
    assert place == key
    assert said.startswith(text)


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "TOKEN",
        "hf_token",
        "AWS_SECRET_ACCESS_KEY",
        "OPENAI_API_KEY",
        "APIKEY",
        "DB_PASSWORD",
        "DB_PASSWD",
        "MY_SECRET",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ],
)
def test_a_secret_in_a_study_is_refused(name: str) -> None:
    assert wrong(env={name: "x"}) == [(("env", name), SECRET)]


def test_prompts_come_from_a_file_of_lines_or_are_made_up() -> None:
    place, text = wrong(prompts=Prompts(source="prompts.csv"))[0]
    assert place == ("prompts", "source")
    assert text == "should be synthetic, or a .jsonl or .json file, not 'prompts.csv'"


def test_everything_that_does_not_fit_is_told() -> None:
    found = wrong(gpus=1, tensor_parallel=2, env={"A_KEY": "x", "B_KEY": "y"}, marks=({},))
    assert [key for key, _ in found] == [
        ("gpus",),
        ("env", "A_KEY"),
        ("env", "B_KEY"),
        ("marks", 0),
    ]


# --- requests that come one by one ---------------------------------------------------------

MANY = Prompts(count=100)


@pytest.mark.parametrize("scenario", [Poisson(poisson=2.0), Concurrency(concurrency=2)])
@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"precision": 0.02}, ("precision",)),
        ({"phases": True}, ("phases",)),
        ({"warmup": Warmup(until_stable=True)}, ("warmup", "until_stable")),
    ],
)
def test_what_repeats_a_workload_goes_with_offline_only(
    scenario: Poisson | Concurrency, fields: dict[str, Any], key: Key
) -> None:
    assert wrong(scenario=scenario, prompts=MANY) == []
    assert wrong(**fields) == []
    ((place, text),) = wrong(scenario=scenario, prompts=MANY, **fields)
    assert place == key
    assert text.startswith("goes with the scenario offline only")


@pytest.mark.parametrize(
    ("scenario", "few", "enough"),
    [
        (Concurrency(concurrency=1), 1, 2),
        (Concurrency(concurrency=8), 8, 9),
        (Poisson(poisson=2.0), 3, 4),
    ],
)
def test_too_few_requests_for_a_steady_state_are_refused(
    scenario: Poisson | Concurrency, few: int, enough: int
) -> None:
    ((place, text),) = wrong(scenario=scenario, prompts=Prompts(count=few))
    assert place == ("prompts", "count")
    assert text.startswith(f"{few} requests ")
    assert wrong(scenario=scenario, prompts=Prompts(count=enough)) == []


def test_arrivals_that_take_longer_than_they_may_are_refused() -> None:
    slow = Poisson(poisson=0.5)
    assert wrong(scenario=slow, prompts=MANY, timeout_s=200.0) == []
    ((place, text),) = wrong(scenario=slow, prompts=MANY, timeout_s=199.0)
    assert place == ("timeout_s",)
    assert text.startswith("100 requests at 0.5 a second take 200 s, and timeout_s is 199")


# --- what a backend can't do ---------------------------------------------------------------

NOTHING = Abilities(scenarios=frozenset(), devices=frozenset(), batches=False)
SIMPLE = Abilities()
EVERYTHING = Abilities(
    scenarios=frozenset({"offline", "poisson", "concurrency"}),
    devices=frozenset({"cpu", "cuda", "mps"}),
    parallel=True,
    decoding=frozenset({"temperature", "top_k", "top_p", "min_p", "repetition_penalty"}),
)
SAMPLED = Decoding(temperature=0.5, top_k=4, top_p=0.5, min_p=0.1, repetition_penalty=1.2)
ASKED: list[tuple[dict[str, Any], list[Key]]] = [
    ({"scenario": Poisson(poisson=2.0)}, [("scenario",)]),
    ({"scenario": Concurrency(concurrency=2)}, [("scenario",)]),
    ({"device": "mps"}, [("device",)]),
    ({"tensor_parallel": 2}, [("tensor_parallel",)]),
    ({"pipeline_parallel": 2}, [("pipeline_parallel",)]),
    ({"gpus": 2}, [("gpus",)]),
    (
        {"decoding": SAMPLED},
        [
            ("decoding", "temperature"),
            ("decoding", "top_k"),
            ("decoding", "top_p"),
            ("decoding", "min_p"),
            ("decoding", "repetition_penalty"),
        ],
    ),
]


def keys(abilities: Abilities, **fields: Any) -> list[Key]:
    return [key for key, _ in checks.unable(experiment(**fields), abilities)]


@pytest.mark.parametrize(("fields", "places"), ASKED)
def test_what_a_simple_backend_can_not_do_is_refused(
    fields: dict[str, Any], places: list[Key]
) -> None:
    assert keys(SIMPLE, **fields) == places


@pytest.mark.parametrize("fields", [fields for fields, _ in ASKED])
def test_a_backend_that_can_do_everything_is_asked_for_anything(fields: dict[str, Any]) -> None:
    assert keys(EVERYTHING, **fields) == []


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"device": "auto"},
        {"device": "cpu"},
        {"device": "cuda"},
        {"gpus": 1, "tensor_parallel": 1, "pipeline_parallel": 1},
        {"batch_size": 16},
        {"decoding": Decoding(temperature=0.0)},
    ],
)
def test_a_simple_backend_is_asked_for_what_it_can_do(fields: dict[str, Any]) -> None:
    assert keys(SIMPLE, **fields) == []


def test_a_backend_that_schedules_by_itself_takes_no_batch_size() -> None:
    by_itself = Abilities(batches=False)
    assert keys(by_itself) == []
    assert keys(by_itself, batch_size=1) == []
    assert keys(by_itself, batch_size=2) == [("batch_size",)]


@pytest.mark.parametrize(
    ("abilities", "fields", "text"),
    [
        (SIMPLE, {"scenario": Poisson(poisson=1.0)}, "x can't do poisson; it can do: offline"),
        (SIMPLE, {"device": "mps"}, "x can't compute on mps; it can on: cpu, cuda"),
        (SIMPLE, {"gpus": 2}, "x computes on one device only"),
        (
            Abilities(batches=False),
            {"batch_size": 2},
            "x makes up batches by itself; leave this out",
        ),
        (SIMPLE, {"decoding": Decoding(top_k=2)}, "x can't do that; it is greedy"),
    ],
)
def test_a_refusal_names_the_backend_and_what_it_can_do(
    abilities: Abilities, fields: dict[str, Any], text: str
) -> None:
    ((_, said),) = checks.unable(experiment(backend="x", **fields), abilities)
    assert said == text


def test_all_that_a_backend_can_not_do_is_told() -> None:
    places = keys(NOTHING, batch_size=2, gpus=2, device="cpu", decoding=SAMPLED)
    assert [place[0] for place in places] == [
        "scenario",
        "batch_size",
        "device",
        "gpus",
        *["decoding"] * 5,
    ]
