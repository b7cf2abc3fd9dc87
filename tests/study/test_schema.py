"""Validation of the records that a study describes: what is wrong, and where."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llem.experiment import Experiment, Prompts, Warmup
from pytest_llem.study.keys import Execution
from pytest_llem.study.schema import nearest, validate
from pytest_llem.study.yaml_lines import Key


@pytest.mark.parametrize(
    ("name", "accepted", "hint"),
    [
        ("bach_size", ["batch_size", "model"], "did you mean batch_size?"),
        ("pytroch", ["vllm", "pytorch"], "did you mean pytorch?"),
        ("zzz", ["b", "a"], "accepted: a, b"),
        ("zzz", [f"n{i:02}" for i in range(30)], "accepted: n00, n01, "),
        ("zzz", [f"n{i:02}" for i in range(31)], "no name is near"),
        ("", ["a"], "accepted: a"),
    ],
)
def test_a_misspelt_name_gets_a_hint(name: str, accepted: list[str], hint: str) -> None:
    assert nearest(name, accepted).startswith(hint)
    assert nearest(name, reversed(accepted)) == nearest(name, accepted)


def test_valid_data_become_the_record() -> None:
    data = {
        "model": "m",
        "prompts": {"count": 3},
        "warmup": {"prompts": 1, "timeout_s": 2},
        "idle": 0.005,
        "meters": ["estimate"],
    }
    assert validate(Experiment, data) == (
        Experiment(
            model="m",
            prompts=Prompts(count=3),
            warmup=Warmup(prompts=1, timeout_s=2.0),
            idle=0.005,
            meters=("estimate",),
        ),
        [],
    )


EXPERIMENT: list[tuple[dict[str, Any], Key, str]] = [
    ({"batch_size": 0}, ("batch_size",), "should be greater than or equal to 1, not 0"),
    ({"batch_size": True}, ("batch_size",), "should be a valid integer, not True"),
    ({"batch_size": "4"}, ("batch_size",), "should be a valid integer, not '4'"),
    ({"batch_size": 4.0}, ("batch_size",), "should be a valid integer, not 4.0"),
    ({"batch_size": [4]}, ("batch_size",), "should be a valid integer, not [4]"),
    ({"seed": -1}, ("seed",), "should be greater than or equal to 0, not -1"),
    ({"model": 5}, ("model",), "should be a valid string, not 5"),
    ({"timeout_s": 0}, ("timeout_s",), "should be greater than 0, not 0"),
    (
        {"dtype": "int8"},
        ("dtype",),
        "should be 'auto', 'float32', 'float16' or 'bfloat16', not 'int8'",
    ),
    (
        {"prompts": {"count": 0}},
        ("prompts", "count"),
        "should be greater than or equal to 1, not 0",
    ),
    (
        {"prompts": {"cuont": {"a": 1}}},
        ("prompts", "cuont"),
        "unknown field; did you mean count?",
    ),
    (
        {"warmup": {"xyz": {}}},
        ("warmup", "xyz"),
        "unknown field; accepted: prompts, timeout_s, until_stable",
    ),
    (
        {"warmup": {"prompts": -1}},
        ("warmup", "prompts"),
        "should be greater than or equal to 1, not -1",
    ),
    ({"idle": -1}, ("idle",), "should be greater than 0 or should be 'none', not -1"),
    (
        {"idle": float("inf")},
        ("idle",),
        "should be a finite number or should be 'none', not inf",
    ),
    ({"idle": "non"}, ("idle",), "should be a valid number or should be 'none', not 'non'"),
    ({"meters": ["a", 1]}, ("meters", 1), "should be a valid string, not 1"),
]


OF_SEVERAL_MAPPINGS: list[tuple[dict[str, Any], Key, str]] = [
    (
        {"scenario": {"poison": 4}},
        ("scenario", "poison"),
        "unknown field; did you mean poisson?",
    ),
    (
        {"prompts": {"input_tokens": {"unifrom": [1, 2]}}},
        ("prompts", "input_tokens", "unifrom"),
        "unknown field; did you mean uniform?",
    ),
    (
        {"scenario": {"poisson": 0}},
        ("scenario", "poisson"),
        "should be greater than 0, not 0",
    ),
    (
        {"scenario": {"concurrency": 1.5}},
        ("scenario", "concurrency"),
        "should be a valid integer, not 1.5",
    ),
    (
        {"prompts": {"input_tokens": {"uniform": [1, 0]}}},
        ("prompts", "input_tokens", "uniform", 1),
        "should be greater than or equal to 1, not 0",
    ),
    (
        {"prompts": {"input_tokens": {"lognormal": {"median": 5, "sigma": 1}}}},
        ("prompts", "input_tokens", "lognormal", "max"),
        "required, and not given",
    ),
]


@pytest.mark.parametrize(("fields", "key", "text"), OF_SEVERAL_MAPPINGS)
def test_of_several_mappings_the_one_is_meant_whose_key_is_given(
    fields: dict[str, Any], key: Key, text: str
) -> None:
    assert validate(Experiment, {"model": "m"} | fields) == (None, [(key, text)])


@pytest.mark.parametrize(
    ("fields", "place", "hint"),
    [
        ({"scenario": {"concurency": 4}}, "concurency", "did you mean concurrency?"),
        (
            {"prompts": {"input_tokens": {"lognromal": {}}}},
            "lognromal",
            "did you mean lognormal?",
        ),
        (
            {"prompts": {"input_tokens": {"lognormal": {"medain": 1, "sigma": 1, "max": 2}}}},
            "medain",
            "did you mean median?",
        ),
        ({"scenario": {"zzz": 1}}, "zzz", "accepted: concurrency, poisson"),
    ],
)
def test_a_misspelt_key_gets_its_hint_from_every_mapping_that_it_could_be_of(
    fields: dict[str, Any], place: str, hint: str
) -> None:
    _, problems = validate(Experiment, {"model": "m"} | fields)
    assert [text for key, text in problems if key[-1] == place] == [f"unknown field; {hint}"]


@pytest.mark.parametrize(
    "fields",
    [
        {"scenario": "onlin"},
        {"prompts": {"input_tokens": "many"}},
        {"prompts": {"input_tokens": 0}},
        {"warmup": "non"},
        {"slo": 5},
        {"meters": "estimate"},
        {"marks": "slow"},
        {"env": {"a b": 1}},
    ],
    ids=repr,
)
def test_a_problem_is_told_in_words_of_a_study(fields: dict[str, Any]) -> None:
    _, problems = validate(Experiment, {"model": "m"} | fields)
    foreign = ("instance of", "dictionary", "tuple", "pattern")
    assert problems
    assert not any(word in text for _, text in problems for word in foreign)


@pytest.mark.parametrize(("fields", "key", "text"), EXPERIMENT)
def test_a_problem_has_its_place_and_what_stands_there(
    fields: dict[str, Any], key: Key, text: str
) -> None:
    assert validate(Experiment, {"model": "m"} | fields) == (None, [(key, text)])


def test_an_empty_model_is_refused() -> None:
    record, ((key, text),) = validate(Experiment, {"model": ""})
    assert (record, key) == (None, ("model",))
    assert text.endswith("should have at least 1 character, not ''")


def test_what_is_required_and_absent_is_named() -> None:
    assert validate(Experiment, {}) == (None, [(("model",), "required, and not given")])


def test_a_long_value_is_shortened() -> None:
    _, ((_, text),) = validate(Execution, {"cycles": "x" * 1000})
    assert len(text) < 120


def test_all_problems_are_found_at_once() -> None:
    record, problems = validate(
        Experiment,
        {
            "batch_size": 0,
            "prompts": {"count": 0, "input_tokens": "x"},
            "warmup": {"prompts": 0},
            "idle": 0,
            "foo": {},
        },
    )
    assert record is None
    assert {key for key, _ in problems} == {
        ("model",),
        ("batch_size",),
        ("prompts", "count"),
        ("prompts", "input_tokens"),
        ("warmup", "prompts"),
        ("idle",),
        ("foo",),
    }


ALL = "cycles, gaps, max_failures, order, seed, skip_preflight, time_budget_s"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cycels", "unknown field; did you mean cycles?"),
        ("zzz", f"unknown field; accepted: {ALL}"),
    ],
)
def test_the_value_of_an_unknown_field_is_not_told(name: str, text: str) -> None:
    assert validate(Execution, {name: 3}) == (None, [((name,), text)])


@pytest.mark.parametrize("field", ["idle", "timeout_s", "load_timeout_s"])
def test_a_truth_value_is_no_number_of_seconds(field: str) -> None:
    record, problems = validate(Experiment, {"model": "m", field: True})
    assert record is None
    assert [key for key, _ in problems] == [(field,)]
