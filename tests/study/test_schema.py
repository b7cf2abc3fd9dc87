"""Validation of the records that a study describes."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llem.records import Execution, Experiment, Prompts, Warmup
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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("warmup", "none"),
        ("idle", "none"),
        ("idle", 0.5),
        ("meters", "auto"),
        ("weights", "random"),
        ("revision", None),
        ("seed", 0),
        ("options", {"a": {"b": [1]}}),
    ],
)
def test_a_field_takes_its_values(field: str, value: Any) -> None:
    record, problems = validate(Experiment, {"model": "m", field: value})
    assert problems == []
    assert getattr(record, field) == value


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
        "unknown field; accepted: prompts, timeout_s",
    ),
    (
        {"warmup": {"prompts": -1}},
        ("warmup", "prompts"),
        "should be greater than or equal to 1, not -1",
    ),
    (
        {"warmup": "non"},
        ("warmup",),
        "should be a dictionary or an instance of Warmup or should be 'none', not 'non'",
    ),
    ({"idle": -1}, ("idle",), "should be greater than 0 or should be 'none', not -1"),
    (
        {"idle": float("inf")},
        ("idle",),
        "should be a finite number or should be 'none', not inf",
    ),
    ({"idle": "non"}, ("idle",), "should be a valid number or should be 'none', not 'non'"),
    (
        {"meters": "estimate"},
        ("meters",),
        "should be a valid tuple or should be 'auto', not 'estimate'",
    ),
    ({"meters": ["a", 1]}, ("meters", 1), "should be a valid string, not 1"),
    ({"options": 5}, ("options",), "should be a valid dictionary, not 5"),
]


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


@pytest.mark.parametrize(
    ("fields", "key", "text"),
    [
        ({"cycels": 3}, ("cycels",), "unknown field; did you mean cycles?"),
        ({"zzz": 3}, ("zzz",), "unknown field; accepted: cycles, gaps, order"),
    ],
)
def test_the_value_of_an_unknown_field_is_not_told(
    fields: dict[str, Any], key: Key, text: str
) -> None:
    assert validate(Execution, fields) == (None, [(key, text)])


@pytest.mark.parametrize("field", ["idle", "timeout_s", "load_timeout_s"])
def test_a_truth_value_is_no_number_of_seconds(field: str) -> None:
    record, problems = validate(Experiment, {"model": "m", field: True})
    assert record is None
    assert [key for key, _ in problems] == [(field,)]
