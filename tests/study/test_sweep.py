"""Points of a grid, merged fields, and where each of them was written."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.study.sweep import (
    Axis,
    Choice,
    Point,
    Source,
    Spot,
    backend_of,
    expand,
    listed,
    merge,
    nested,
)
from pytest_llem.study.yaml_lines import Document, Key
from tests.builders import UNHURRIED

DOCUMENT = Document(Path("x.study.yaml"), "x.study.yaml", {}, {("seed",): 7}, {})


def swept(name: str, *values: Any, backend: str = "") -> Axis:
    """A field and its values, as they stand in a list under ``sweep``."""
    path: Key = tuple(name.split("."))
    choices = [
        Choice(value, nested(name, value), Source(DOCUMENT, ("sweep", name, index), path, value))
        for index, value in enumerate(values)
    ]
    return Axis(name, choices, backend=backend)


def group(name: str, **alternatives: dict[str, Any]) -> Axis:
    """A group of variants."""
    choices = [
        Choice(key, fields, Source(DOCUMENT, ("variants", name, key), (), fields))
        for key, fields in alternatives.items()
    ]
    return Axis(name, choices, variants=True)


def points(shared: dict[str, Any], *axes: Axis, default: str = "pytorch") -> list[Point]:
    return list(expand(shared, [Source(DOCUMENT, (), (), shared)], axes, default))


# --- the grid ------------------------------------------------------------------------------


def test_without_axes_there_is_just_one_point_of_the_shared_fields() -> None:
    (point,) = points({"model": "m"})
    assert (point.data, list(point.own), point.listed) == ({"model": "m"}, [], False)


def test_a_grid_is_the_product_of_its_values_and_its_first_axis_varies_slowest() -> None:
    found = points({"model": "m"}, swept("batch_size", 1, 2), swept("dtype", "a", "b"))
    assert [point.data for point in found] == [
        {"model": "m", "batch_size": 1, "dtype": "a"},
        {"model": "m", "batch_size": 1, "dtype": "b"},
        {"model": "m", "batch_size": 2, "dtype": "a"},
        {"model": "m", "batch_size": 2, "dtype": "b"},
    ]
    assert [list(point.own) for point in found][1] == [("batch_size", 1), ("dtype", "b")]


def test_a_dotted_key_sets_a_field_of_a_field_and_leaves_the_shared_ones_alone() -> None:
    shared = {"prompts": {"input_tokens": 8, "count": 1}}
    found = points(shared, swept("prompts.count", 2, 3), swept("pytorch.a.b", True))
    assert [point.data["prompts"] for point in found] == [
        {"input_tokens": 8, "count": 2},
        {"input_tokens": 8, "count": 3},
    ]
    assert found[0].data["pytorch"] == {"a": {"b": True}}
    assert shared == {"prompts": {"input_tokens": 8, "count": 1}}


def test_null_takes_a_shared_field_back() -> None:
    found = points({"revision": "v1"}, swept("revision", None, "v2"))
    assert [point.data for point in found] == [{}, {"revision": "v2"}]


@pytest.mark.parametrize("shared", [{"prompts": {"count": 1}}, {}], ids=["shared", "not shared"])
def test_null_takes_a_field_of_a_field_back(shared: dict[str, Any]) -> None:
    (point,) = points(shared, swept("prompts.count", None))
    assert point.data.get("prompts", {}) == {}


def test_what_is_swept_is_more_specific_than_a_variant() -> None:
    (point,) = points({"seed": 1}, swept("seed", 3), group("g", a={"seed": 2}))
    assert point.data == {"seed": 3}


def test_the_alternative_that_changes_nothing_is_not_named() -> None:
    plain, other = points({}, group("quant", plain={}, fp8={"vllm": {"quantization": "fp8"}}))
    assert (list(plain.own), list(other.own)) == ([], [("quant", "fp8")])
    assert (plain.variants, other.variants) == ({"quant": "plain"}, {"quant": "fp8"})


# --- axes of one backend -------------------------------------------------------------------


def test_an_axis_of_a_backend_is_for_its_experiments_alone() -> None:
    axes = [swept("vllm.block_size", 16, 32, backend="vllm"), swept("backend", "pytorch", "vllm")]
    assert [point.data for point in points({}, *axes)] == [
        {"backend": "pytorch"},
        {"backend": "vllm", "vllm": {"block_size": 16}},
        {"backend": "vllm", "vllm": {"block_size": 32}},
    ]


@pytest.mark.parametrize(("default", "count"), [("vllm", 2), ("pytorch", 1)])
def test_where_no_backend_is_named_the_default_counts(default: str, count: int) -> None:
    axis = swept("vllm.block_size", 16, 32, backend="vllm")
    assert len(points({}, axis, default=default)) == count


def test_a_variant_may_choose_the_backend_whose_axes_then_apply() -> None:
    engines = group("engine", ours={}, theirs={"backend": "vllm"})
    found = points({}, engines, swept("vllm.a", 1, 2, backend="vllm"))
    assert [point.variants["engine"] for point in found] == ["ours", "theirs", "theirs"]


# --- experiments that are written out ------------------------------------------------------


def test_a_listed_experiment_is_merged_onto_the_shared_fields_and_named_by_its_own() -> None:
    shared = {"model": "m", "prompts": {"count": 1, "input_tokens": 2}, "seed": 3}
    own = {"id": "b", "prompts": {"count": 9}, "seed": None}
    source = Source(DOCUMENT, ("experiments", 0), (), own)
    point = listed(shared, [Source(DOCUMENT, (), (), shared)], own, source)
    assert point.data == {"id": "b", "model": "m", "prompts": {"count": 9, "input_tokens": 2}}
    assert list(point.own) == [("prompts", {"count": 9}), ("seed", None)]
    assert point.listed
    assert point.spot == Spot(DOCUMENT, ("experiments", 0))


# --- where it was written ------------------------------------------------------------------

GRID = (
    swept("batch_size", 1),
    swept("prompts", {"count": 2}),
    swept("warmup.prompts", 3),
    group("g", a={"seed": 5}),
)


@pytest.mark.parametrize(
    ("field", "place"),
    [
        (("batch_size",), ("sweep", "batch_size", 0)),
        (("prompts", "count"), ("sweep", "prompts", 0, "count")),
        (("warmup", "prompts"), ("sweep", "warmup.prompts", 0)),
        (("seed",), ("variants", "g", "a", "seed")),
        (("meters", 1), ("meters", 1)),
        (("model",), ("model",)),
        (("meters", 2), ("meters",)),
        (("prompts", "source"), ("sweep", "prompts", 0)),
        (("dtype",), ("sweep", "batch_size", 0)),
    ],
)
def test_a_field_is_located_where_it_was_written_or_should_have_been(
    field: Key, place: Key
) -> None:
    (point,) = points({"model": "m", "meters": ["a", "b"], "seed": 1}, *GRID)
    assert point.locate(field) == Spot(DOCUMENT, place)


@pytest.mark.parametrize(
    "axes",
    [
        (group("g", a={"prompts": {"count": 1}}), group("h", b={"prompts": {"count": 2}})),
        (swept("prompts", {"count": 1}), swept("prompts.count", 2)),
    ],
    ids=["variants", "swept"],
)
def test_of_two_axes_with_one_field_that_is_blamed_whose_value_counts(
    axes: tuple[Axis, Axis],
) -> None:
    (point,) = points({}, *axes)
    assert point.data == {"prompts": {"count": 2}}
    winner = axes[1].choices[0].source
    assert point.locate(("prompts", "count")).key[: len(winner.place)] == winner.place


def test_a_spot_is_written_as_file_and_line() -> None:
    assert str(Spot(DOCUMENT, ("seed",))) == "x.study.yaml:7"


# --- dotted names --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dotted", "fields"),
    [("a", {"a": 5}), ("a.b", {"a": {"b": 5}}), ("a.b.c", {"a": {"b": {"c": 5}}})],
)
def test_a_dotted_name_is_mappings_within_each_other(dotted: str, fields: dict[str, Any]) -> None:
    assert nested(dotted, 5) == fields


@pytest.mark.parametrize(
    ("dotted", "backend"),
    [("vllm.block_size", "vllm"), ("vllm.a.b", "vllm"), ("prompts.count", ""), ("seed", "")],
)
def test_an_option_of_a_backend_is_known_by_its_first_part(dotted: str, backend: str) -> None:
    assert backend_of(dotted, ["pytorch", "vllm"]) == backend


def test_a_backends_whole_options_are_its_own_too() -> None:
    assert backend_of("vllm", ["pytorch", "vllm"]) == "vllm"


# --- merge ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": [1]}, {"a": [2]}, {"a": [2]}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 3}}, {"a": {"x": 3, "y": 2}}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": None}}, {"a": {"y": 2}}),
        ({"a": "none"}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": "none"}, {"a": "none"}),
        ({"a": {"x": 1}}, {"a": None}, {}),
        ({"a": {"x": 1}}, {"a": {}}, {"a": {"x": 1}}),
        ({}, {"a": None}, {}),
        ({}, {"a": {"x": None, "y": 1}}, {"a": {"y": 1}}),
    ],
)
def test_mappings_are_merged_all_else_is_replaced_and_null_removes(
    base: dict[str, Any], over: dict[str, Any], merged: dict[str, Any]
) -> None:
    assert merge(base, over) == merged


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)
# Of one kind whoever sets it, and never null.
NUMBERS = st.dictionaries(st.sampled_from("xy"), st.integers(), max_size=2)
NESTED = st.dictionaries(st.just("p"), NUMBERS, max_size=1)
SCALARS = st.integers() | st.lists(st.integers(), max_size=2)
SAME_KINDS = st.fixed_dictionaries({}, optional={"a": NUMBERS, "b": NESTED, "c": SCALARS})


@UNHURRIED
@given(FIELDS, FIELDS)
def test_merging_twice_changes_nothing(base: dict[str, Any], over: dict[str, Any]) -> None:
    once = merge(base, over)
    assert merge(once, over) == once


@UNHURRIED
@given(FIELDS, FIELDS)
def test_merging_never_changes_what_it_is_given(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = copy.deepcopy((base, over))
    merged = merge(base, over)
    merge(merged, over)
    assert (base, over) == before


@UNHURRIED
@given(SAME_KINDS, SAME_KINDS, SAME_KINDS)
def test_where_nothing_changes_its_kind_it_does_not_matter_which_are_merged_first(
    one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]
) -> None:
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


# --- properties of grids -------------------------------------------------------------------

LISTS = st.dictionaries(
    st.sampled_from(["batch_size", "seed", "prompts.count", "warmup.prompts", "pytorch.x"]),
    st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
)


@UNHURRIED
@given(LISTS)
def test_a_grid_has_as_many_points_as_its_axes_have_combinations(
    lists: dict[str, list[int]],
) -> None:
    found = points({"model": "m"}, *(swept(name, *values) for name, values in lists.items()))
    assert len(found) == math.prod(len(values) for values in lists.values())
    assert len({repr(point.data) for point in found}) == len(found)


@UNHURRIED
@given(LISTS)
def test_points_come_in_the_order_of_their_values(lists: dict[str, list[int]]) -> None:
    found = points({}, *(swept(name, *values) for name, values in lists.items()))
    places = [
        tuple(lists[name].index(value) for name, value in point.own if name in lists)
        for point in found
    ]
    assert places == sorted(places)
