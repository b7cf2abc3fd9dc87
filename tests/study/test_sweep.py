"""Grids, lists, names and digests of experiments."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.records import Experiment, Prompts, Warmup
from pytest_llem.study.sweep import NAME, Point, digest, expand, merge, name_of, resolve_model
from tests.builders import UNHURRIED, experiment


def points(
    shared: dict[str, Any] | None = None,
    sweep: dict[str, list[Any]] | None = None,
    listed: list[dict[str, Any]] | None = None,
) -> list[Point]:
    return list(expand(shared or {}, sweep or {}, dict(enumerate(listed or []))))


# --- the grid ------------------------------------------------------------------------------


def test_a_grid_is_the_product_of_its_values_in_order() -> None:
    found = points({"model": "m"}, {"batch_size": [1, 2], "dtype": ["float32", "bfloat16"]})
    assert [point.data for point in found] == [
        {"model": "m", "batch_size": 1, "dtype": "float32"},
        {"model": "m", "batch_size": 1, "dtype": "bfloat16"},
        {"model": "m", "batch_size": 2, "dtype": "float32"},
        {"model": "m", "batch_size": 2, "dtype": "bfloat16"},
    ]


def test_a_dotted_key_sets_a_field_of_a_field() -> None:
    shared = {"model": "m", "prompts": {"input_tokens": 8, "count": 1}}
    found = points(shared, {"prompts.count": [2, 3], "pytorch.a.b": [True]})
    assert [point.data for point in found] == [
        {
            "model": "m",
            "prompts": {"input_tokens": 8, "count": count},
            "pytorch": {"a": {"b": True}},
        }
        for count in (2, 3)
    ]
    assert shared == {"model": "m", "prompts": {"input_tokens": 8, "count": 1}}


def test_equal_points_are_made_once() -> None:
    found = points({}, {"batch_size": [1, 2, 1], "seed": [7, 7]})
    assert [point.own for point in found] == [
        {"batch_size": 1, "seed": 7},
        {"batch_size": 2, "seed": 7},
    ]


def test_values_of_different_types_are_different() -> None:
    assert [p.own["x"] for p in points({}, {"x": [1, "1", True, 1.0]})] == [1, "1", True, 1.0]


def test_null_means_not_set() -> None:
    found = points({"revision": "v1"}, {"revision": [None, "v2"]})
    assert [point.data for point in found] == [{}, {"revision": "v2"}]


@pytest.mark.parametrize("shared", [{"prompts": {"count": 1}}, {}], ids=["shared", "not shared"])
def test_null_of_a_dotted_key_means_not_set(shared: dict[str, Any]) -> None:
    (point,) = points(shared, {"prompts.count": [None]})
    assert point.data.get("prompts", {}) == {}


def test_a_study_without_grid_and_list_is_one_experiment() -> None:
    (point,) = points({"model": "m"})
    assert (point.data, point.own) == ({"model": "m"}, {})


def test_listed_experiments_follow_the_grid_and_are_merged_with_the_shared_fields() -> None:
    shared = {"model": "m", "prompts": {"count": 1, "input_tokens": 2}, "seed": 3}
    listed: list[dict[str, Any]] = [
        {"id": "b", "prompts": {"count": 9}, "seed": None},
        {"model": "n"},
    ]
    found = points(shared, {"batch_size": [1]}, listed)
    assert [point.data for point in found] == [
        {**shared, "batch_size": 1},
        {"id": "b", "model": "m", "prompts": {"count": 9, "input_tokens": 2}},
        {**shared, "model": "n"},
    ]
    assert [point.own for point in found] == [{"batch_size": 1}, *listed]


def test_a_list_without_a_grid_is_all_there_is() -> None:
    assert [point.own for point in points({"model": "m"}, {}, [{"id": "a"}])] == [{"id": "a"}]


def test_fields_are_located_where_they_were_written() -> None:
    sweep: dict[str, list[Any]] = {
        "batch_size": [1],
        "prompts": [{"count": 2}],
        "warmup.prompts": [3],
    }
    shared = {"model": "m", "expect": {"energy_j": {"max": 1}}}
    grid, listed = points(shared, sweep, [{"id": "b", "expect": {"load_s": {}}}])
    assert grid.locate(("batch_size",)) == ("sweep", "batch_size", 0)
    assert grid.locate(("prompts", "count")) == ("sweep", "prompts", 0, "count")
    assert grid.locate(("warmup", "prompts")) == ("sweep", "warmup.prompts", 0)
    assert grid.locate(("model",)) == ("model",)
    assert grid.locate(("expect", "energy_j", "max")) == ("expect", "energy_j", "max")
    assert grid.locate(("dtype",)) == ("sweep", "batch_size", 0)
    assert listed.locate(("id",)) == ("experiments", 0, "id")
    assert listed.locate(("expect", "load_s")) == ("experiments", 0, "expect", "load_s")
    assert listed.locate(("expect", "energy_j")) == ("expect", "energy_j")
    assert listed.locate(("dtype",)) == ("experiments", 0)


def test_an_element_of_a_list_is_located() -> None:
    (point,) = points({"meters": ["a", "b"]})
    assert point.locate(("meters", 1)) == ("meters", 1)


@UNHURRIED
@given(
    st.dictionaries(
        st.sampled_from(["batch_size", "seed", "prompts.count", "warmup.prompts", "x"]),
        st.lists(st.integers(0, 99), min_size=1, max_size=4),
    )
)
def test_a_grid_has_the_product_of_the_numbers_of_different_values(
    sweep: dict[str, list[int]],
) -> None:
    sizes = [len(set(values)) for values in sweep.values()]
    assert len(points({"model": "m"}, dict(sweep))) == math.prod(sizes)


PLAIN = st.integers(0, 999) | st.text("abcxyz", min_size=1, max_size=4)


@UNHURRIED
@given(
    st.dictionaries(
        st.sampled_from(["model", "dtype", "batch_size", "prompts.count", "pytorch.attention"]),
        st.lists(PLAIN, min_size=1, max_size=3),
        min_size=1,
    )
)
def test_points_of_plain_values_have_different_and_valid_names(sweep: dict[str, list[Any]]) -> None:
    names = [name_of(point, "stem") for point in points({"model": "m"}, sweep)]
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) for name in names)


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
        ({}, {"a": None}, {}),
    ],
)
def test_mappings_are_merged_and_all_else_is_replaced(
    base: dict[str, Any], over: dict[str, Any], merged: dict[str, Any]
) -> None:
    before = repr(base)
    assert merge(base, over) == merged
    assert repr(base) == before


# --- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "name"),
    [
        ({}, "stem"),
        ({"batch_size": 4}, "batch_size-4"),
        ({"dtype": "float32", "batch_size": 4}, "batch_size-4-dtype-float32"),
        ({"prompts.count": 4}, "prompts_count-4"),
        ({"prompts": {"count": 4, "input_tokens": 2}}, "prompts_count-4-prompts_input_tokens-2"),
        ({"model": "org/Some-Model_1.5B"}, "model-Some-Model_1.5B"),
        ({"model": "models/tiny/"}, "model-tiny"),
        ({"model": "a b[c]"}, "model-a_b_c_"),
        ({"idle": 0.5}, "idle-0.5"),
        ({"pytorch": {"compile": True}}, "pytorch_compile-True"),
        ({"seed": 1, "expect": {"energy_j": {"max": 1}}}, "seed-1"),
        ({"seed": 1, "expect.energy_j.max": 1}, "seed-1"),
        ({"expect": {"energy_j": {"max": 1}}}, "stem"),
    ],
)
def test_a_name_is_made_of_the_experiments_own_fields(own: dict[str, Any], name: str) -> None:
    assert name_of(Point({}, own, (((), (), {}),)), "stem") == name


def test_a_file_of_any_name_gives_a_name() -> None:
    assert name_of(Point({}, {}, (((), (), {}),)), "my study!") == "my_study_"


@pytest.mark.parametrize("name", ["a", "a-1", "Qwen2.5+x_y", "1"])
def test_names_of_plain_characters_are_valid(name: str) -> None:
    assert NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "-a", "a b", "a[1]", "a::b", "a/b", "é", "a\n"])
def test_names_of_other_characters_are_not(name: str) -> None:
    assert not NAME.fullmatch(name)


# --- digests -------------------------------------------------------------------------------

DIFFERENT = {
    "model": "org/other",
    "backend": "other",
    "revision": "v1",
    "weights": "random",
    "dtype": "float16",
    "device": "cpu",
    "batch_size": 7,
    "prompts": Prompts(count=2, input_tokens=5),
    "output_tokens": 9,
    "seed": 1,
    "options": {"attention": "eager"},
    "id": "b",
    "warmup": Warmup(prompts=9),
    "idle": 1.0,
    "meters": ("estimate",),
    "timeout_s": 1.0,
    "load_timeout_s": 1.0,
}
NOT_COUNTED = {"id", "warmup", "idle", "meters", "timeout_s", "load_timeout_s"}


def test_equal_experiments_have_equal_digests() -> None:
    assert digest(experiment()) == digest(experiment())
    assert len(digest(experiment())) == 64


def test_the_order_of_options_does_not_count() -> None:
    one, other = experiment(options={"a": 1, "b": 2}), experiment(options={"b": 2, "a": 1})
    assert digest(one) == digest(other)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Experiment)])
def test_a_digest_differs_for_all_that_makes_an_experiment(field: str) -> None:
    changed = experiment(**{field: DIFFERENT[field]})
    assert (digest(changed) == digest(experiment())) == (field in NOT_COUNTED)


def test_all_different_experiments_have_different_digests() -> None:
    counted = [{key: DIFFERENT[key]} for key in DIFFERENT if key not in NOT_COUNTED]
    pairs = [a | b for a, b in itertools.combinations(counted, 2)]
    found = {digest(experiment(**fields)) for fields in [{}, *counted, *pairs]}
    assert len(found) == 1 + len(counted) + len(pairs)


def model_directory(path: Path, config: str = "{}", weights: dict[str, int] | None = None) -> str:
    path.mkdir(parents=True)
    (path / "config.json").write_text(config)
    for name, size in (weights or {"model.safetensors": 5}).items():
        (path / name).write_bytes(b"x" * size)
    return str(path)


def test_the_path_of_a_model_directory_does_not_count(tmp_path: Path) -> None:
    one, other = model_directory(tmp_path / "a"), model_directory(tmp_path / "deep" / "b")
    assert digest(experiment(model=one)) == digest(experiment(model=other))


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ('{"layers": 2}', {"model.safetensors": 5}),
        ("{}", {"model.safetensors": 6}),
        ("{}", {"other.safetensors": 5}),
        ("{}", {"pytorch_model.bin": 5}),
        ("{}", {"model.safetensors": 5, "more.safetensors": 1}),
    ],
)
def test_the_content_of_a_model_directory_counts(
    tmp_path: Path, config: str, weights: dict[str, int]
) -> None:
    one, other = model_directory(tmp_path / "a"), model_directory(tmp_path / "b", config, weights)
    assert digest(experiment(model=one)) != digest(experiment(model=other))


def test_other_files_of_a_model_directory_do_not_count(tmp_path: Path) -> None:
    one, other = model_directory(tmp_path / "a"), model_directory(tmp_path / "b")
    (Path(other) / "README.md").write_text("hello")
    assert digest(experiment(model=one)) == digest(experiment(model=other))


def test_a_model_directory_that_is_not_there_has_a_digest(tmp_path: Path) -> None:
    assert len(digest(experiment(model=str(tmp_path / "none")))) == 64


# --- models --------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["org/m", "m", "gpt2"])
def test_a_hub_id_stays_as_it_is(tmp_path: Path, model: str) -> None:
    assert resolve_model(model, tmp_path) == model


@pytest.mark.parametrize("model", ["org/m", "./org/m", "org/../org/m"])
def test_a_directory_next_to_the_study_becomes_absolute(tmp_path: Path, model: str) -> None:
    (tmp_path / "org" / "m").mkdir(parents=True)
    assert resolve_model(model, tmp_path) == str(tmp_path.resolve() / "org" / "m")


@pytest.mark.parametrize("model", ["./none", "../none", "/none", "."])
def test_what_looks_like_a_path_is_one(tmp_path: Path, model: str) -> None:
    assert resolve_model(model, tmp_path) == str((tmp_path / model).resolve())


def test_the_home_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_model("~/m", tmp_path / "x") == str(tmp_path.resolve() / "m")


def test_a_file_of_a_hub_ids_name_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("x")
    assert resolve_model("m", tmp_path) == "m"
