"""``variants:`` and ``sweep:`` of a document: the directions of its grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.study.axes import MAX_POINTS, axes
from pytest_llem.study.problems import Problems
from pytest_llem.study.sweep import Axis
from pytest_llem.study.yaml_lines import Document
from tests.builders import UNHURRIED

BACKENDS = ("pytorch", "vllm")
NAMES = "may hold letters, digits and . _ + -"


def found(data: dict[str, Any]) -> list[Axis]:
    """The axes of a document that has nothing wrong with them."""
    problems = Problems()
    made = axes(Document(Path("x"), "x", data, {}, {}), BACKENDS, problems)
    assert problems.lines() == []
    return made


def wrong(data: dict[str, Any]) -> list[str]:
    """What is wrong with the axes of a document."""
    problems = Problems()
    axes(Document(Path("x"), "x", data, {}, {}), BACKENDS, problems)
    return [line.removeprefix("x:1: ") for line in problems.lines()]


def shape(axis: Axis) -> tuple[str, list[Any], str]:
    return axis.name, [choice.value for choice in axis.choices], axis.backend


# --- sweep ---------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [{}, {"sweep": None}, {"sweep": {}}, {"variants": None}])
def test_nothing_swept_is_no_axis(data: dict[str, Any]) -> None:
    assert found(data) == []


def test_each_key_is_an_axis_in_the_order_of_the_file() -> None:
    made = found({"sweep": {"seed": [1, 2], "batch_size": [4], "prompts.count": [None, 7]}})
    assert [shape(axis) for axis in made] == [
        ("seed", [1, 2], ""),
        ("batch_size", [4], ""),
        ("prompts.count", [None, 7], ""),
    ]
    assert [choice.fields for choice in made[2].choices] == [
        {"prompts": {"count": None}},
        {"prompts": {"count": 7}},
    ]


@pytest.mark.parametrize(
    "sweep",
    [
        {"vllm.block_size": [16, 32], "vllm.a.b": [True]},
        {"vllm": {"block_size": [16, 32], "a.b": [True]}},
    ],
    ids=["dotted", "nested"],
)
def test_options_of_a_backend_are_its_own_however_they_are_written(sweep: dict[str, Any]) -> None:
    made = found({"sweep": sweep})
    assert [shape(axis) for axis in made] == [
        ("vllm.block_size", [16, 32], "vllm"),
        ("vllm.a.b", [True], "vllm"),
    ]
    assert made[0].choices[1].fields == {"vllm": {"block_size": 32}}
    assert made[1].choices[0].fields == {"vllm": {"a": {"b": True}}}


def test_a_value_knows_where_it_stands() -> None:
    plain, nested = found({"sweep": {"prompts": [{"count": 1}], "vllm": {"a": [1, 2]}}})
    assert plain.choices[0].source.find(("prompts", "count")) == ("sweep", "prompts", 0, "count")
    assert nested.choices[1].source.find(("vllm", "a")) == ("sweep", "vllm", "a", 1)
    assert nested.choices[1].source.find(("vllm", "b")) is None


def test_a_range_is_an_axis_of_its_values() -> None:
    (axis,) = found({"sweep": {"batch_size": {"from": 1, "to": 8, "scale": "pow2"}}})
    assert shape(axis) == ("batch_size", [1, 2, 4, 8], "")
    assert axis.choices[3].fields == {"batch_size": 8}
    assert axis.choices[3].source.find(("batch_size",)) == ("sweep", "batch_size")


def test_a_range_may_stand_under_a_backend() -> None:
    (axis,) = found({"sweep": {"vllm": {"block_size": {"from": 1, "to": 3, "steps": 3}}}})
    assert shape(axis) == ("vllm.block_size", [1, 2, 3], "vllm")


@pytest.mark.parametrize("value", [3, "x", True, None, [], {}, {"count": [1]}])
def test_a_value_that_is_neither_list_nor_range_is_refused(value: Any) -> None:
    text = "should be a list of values or a range {from, to, steps}"
    assert wrong({"sweep": {"prompts": value}}) == [f"sweep.prompts: {text}, not {value!r}"]


@pytest.mark.parametrize("value", [3, None, []])
def test_the_same_goes_for_one_under_a_backend(value: Any) -> None:
    (problem,) = wrong({"sweep": {"vllm": {"block_size": value}}})
    assert problem.startswith("sweep.vllm.block_size: should be a list of values or a range")


@pytest.mark.parametrize(
    ("shape", "place"),
    [({"from": 4, "to": 1, "steps": 2}, ""), ({"from": "a", "to": 1, "steps": 2}, ".from")],
)
def test_a_range_that_gives_no_values_is_refused(shape: dict[str, Any], place: str) -> None:
    (problem,) = wrong({"sweep": {"seed": shape}})
    assert problem.startswith(f"sweep.seed{place}: ")


@pytest.mark.parametrize(
    "key", ["id", "expect", "requires", "expect.energy_j.max", "requires.gpus"]
)
def test_what_is_no_field_to_be_swept_is_refused_with_what_to_do(key: str) -> None:
    (problem,) = wrong({"sweep": {key: ["a"]}})
    assert problem.startswith(f"sweep.{key}: can't be swept; ")


@pytest.mark.parametrize("key", ["sweep", "variants"])
@pytest.mark.parametrize("value", [3, "x", [1]])
def test_what_is_no_mapping_is_refused(key: str, value: Any) -> None:
    assert wrong({key: value}) == [f"{key}: should be a mapping, not {value!r}"]


# --- variants ------------------------------------------------------------------------------


def test_variants_are_axes_before_what_is_swept() -> None:
    variants = {"quant": {"plain": {}, "fp8": {"vllm": {"quantization": "fp8"}}}}
    group, swept = found({"sweep": {"seed": [1]}, "variants": variants})
    assert (shape(group), group.variants) == (("quant", ["plain", "fp8"], ""), True)
    assert (shape(swept), swept.variants) == (("seed", [1], ""), False)
    assert group.choices[1].fields == {"vllm": {"quantization": "fp8"}}
    assert group.choices[1].source.find(("vllm", "quantization")) == (
        "variants",
        "quant",
        "fp8",
        "vllm",
        "quantization",
    )


def test_an_alternative_of_null_changes_nothing() -> None:
    (group,) = found({"variants": {"quant": {"plain": None}}})
    assert [(choice.fields, choice.source.content) for choice in group.choices] == [({}, {})]


def test_expectations_and_requirements_of_a_variant_are_no_fields() -> None:
    content = {"seed": 1, "expect": {"load_s": {"max": 1}}, "requires": {"gpus": 1}}
    (group,) = found({"variants": {"g": {"a": content}}})
    assert group.choices[0].fields == {"seed": 1}
    assert group.choices[0].source.content == content


@pytest.mark.parametrize("value", [3, "x", [1], None, {}])
def test_a_group_that_names_no_alternatives_is_refused(value: Any) -> None:
    text = f"should be a mapping of names to fields, not {value!r}"
    assert wrong({"variants": {"quant": value}}) == [f"variants.quant: {text}"]


@pytest.mark.parametrize("value", [3, "x", [1], False])
def test_a_variant_that_is_no_mapping_is_refused_and_the_others_are_read(value: Any) -> None:
    variants = {"quant": {"bad": value, "good": {}, "worse": 1}}
    assert wrong({"variants": variants}) == [
        f"variants.quant.bad: should be a mapping of fields, not {value!r}",
        "variants.quant.worse: should be a mapping of fields, not 1",
    ]


@pytest.mark.parametrize("name", ["a b", "", "-a", "é", "a[1]", "a::b"])
def test_a_name_that_no_id_could_hold_is_refused(name: str) -> None:
    said = wrong({"variants": {name: {"a": {}}, "g": {name: {}}}})
    assert set(said) == {
        f"variants.{name}: {name!r} {NAMES}",
        f"variants.g.{name}: {name!r} {NAMES}",
    }


# --- size ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"sweep": {"seed": list(range(1000)), "output_tokens": list(range(101))}}, "sweep"),
        (
            {
                "variants": {
                    "g": {f"a{i}": {} for i in range(1000)},
                    "h": {f"a{i}": {} for i in range(101)},
                }
            },
            "variants",
        ),
    ],
    ids=["sweep", "variants"],
)
def test_a_grid_that_is_a_slip_of_the_keyboard_is_refused(data: dict[str, Any], key: str) -> None:
    assert wrong(data) == [f"{key}: a grid of 101,000 points; {MAX_POINTS:,} are the most"]


def test_a_grid_of_just_as_many_points_as_there_may_be_is_taken() -> None:
    sweep = {"seed": list(range(1000)), "output_tokens": list(range(MAX_POINTS // 1000))}
    assert [len(axis.choices) for axis in found({"sweep": sweep})] == [1000, 100]


def test_axes_of_different_backends_do_not_multiply() -> None:
    sweep = {"vllm.a": list(range(400)), "pytorch.a": list(range(400))}
    assert len(found({"sweep": sweep})) == 2


@UNHURRIED
@given(
    st.dictionaries(
        st.sampled_from(["seed", "prompts.count", "vllm.a", "x"]),
        st.lists(st.none() | st.integers() | st.text(max_size=3), min_size=1, max_size=5),
    )
)
def test_every_list_becomes_an_axis_of_just_its_values(sweep: dict[str, list[Any]]) -> None:
    made = found({"sweep": sweep})
    assert {axis.name: [choice.value for choice in axis.choices] for axis in made} == sweep
