"""Names, model paths and digests of experiments."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.demands import RunnerSpec
from pytest_llem.experiment import (
    NOT_IN_DIGEST,
    Concurrency,
    Decoding,
    Experiment,
    Poisson,
    Prompts,
    Slo,
    Uniform,
    Warmup,
)
from pytest_llem.study.identity import NAME, digest, engine_key, name_of, resolve_path, same_as
from tests.builders import UNHURRIED, experiment

# --- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "name"),
    [
        ([], "stem"),
        ([("batch_size", 4)], "batch_size-4"),
        ([("dtype", "float32"), ("batch_size", 4)], "batch_size-4-dtype-float32"),
        ([("prompts.count", 4)], "prompts_count-4"),
        (
            [("prompts", {"input_tokens": 2, "count": 4})],
            "prompts_count-4-prompts_input_tokens-2",
        ),
        ([("model", "org/Some-Model_1.5B")], "model-Some-Model_1.5B"),
        ([("model", "models/tiny/")], "model-tiny"),
        ([("model", "a b[c]")], "model-a_b_c_"),
        ([("idle", 0.5)], "idle-0.5"),
        ([("vllm", {"compile": True})], "vllm_compile-True"),
        ([("meters", ["nvml", "rapl"])], "meters-nvml_rapl"),
        ([("vllm.quantization", None)], "vllm_quantization-None"),
        ([("quant", "fp8"), ("batch_size", 4)], "batch_size-4-quant-fp8"),
        ([("prompts", {})], "stem"),
    ],
)
def test_a_name_is_made_of_what_is_the_experiments_own(
    own: list[tuple[str, Any]], name: str
) -> None:
    assert name_of(own, "stem") == name
    assert name_of(reversed(own), "stem") == name


def test_a_file_of_any_name_gives_a_name() -> None:
    assert name_of([], "my study!") == "my_study_"


@pytest.mark.parametrize("stem", ["_smoke", "-x", "研究", ""])
def test_a_file_gives_a_valid_name_whatever_it_begins_with(stem: str) -> None:
    assert NAME.fullmatch(name_of([], stem))


@pytest.mark.parametrize("name", ["a", "a-1", "Qwen2.5+x_y", "1"])
def test_names_of_plain_characters_are_valid(name: str) -> None:
    assert NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "-a", "a b", "a[1]", "a::b", "a/b", "a@b", "é", "a\n", ".."])
def test_names_of_other_characters_are_not(name: str) -> None:
    assert not NAME.fullmatch(name)


WORDS = st.text("abcxyz019", min_size=1, max_size=4)
OWN = st.dictionaries(
    st.sampled_from(["model", "dtype", "batch_size", "prompts.count", "vllm.attention", "quant"]),
    st.integers(0, 999) | WORDS,
    min_size=1,
)


@UNHURRIED
@given(st.lists(OWN, min_size=2, max_size=5))
def test_names_of_plain_values_are_valid_and_differ_where_the_values_do(
    many: list[dict[str, Any]],
) -> None:
    written = [{key: str(value) for key, value in own.items()} for own in many]
    names = [name_of(own.items(), "stem") for own in many]
    assert all(NAME.fullmatch(name) for name in names)
    for (own, name), (other, another) in itertools.combinations(
        zip(written, names, strict=True), 2
    ):
        assert (own == other) == (name == another)


@UNHURRIED
@given(st.dictionaries(st.sampled_from(["model", "env.A"]), st.text(), min_size=1))
def test_a_name_of_any_text_is_valid(own: dict[str, str]) -> None:
    assert NAME.fullmatch(name_of(own.items(), "stem"))


# --- models --------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["org/m", "m", "gpt2"])
def test_a_hub_id_stays_as_it_is(tmp_path: Path, model: str) -> None:
    assert resolve_path(model, tmp_path) == model


@pytest.mark.parametrize("model", ["org/m", "./org/m", "org/../org/m", "org/m/"])
def test_a_directory_next_to_the_study_becomes_absolute(tmp_path: Path, model: str) -> None:
    (tmp_path / "org" / "m").mkdir(parents=True)
    assert resolve_path(model, tmp_path) == str(tmp_path / "org" / "m")


@pytest.mark.parametrize("model", ["./none", "../none", "/none", "."])
def test_what_looks_like_a_path_is_one(tmp_path: Path, model: str) -> None:
    assert resolve_path(model, tmp_path) == str((tmp_path / model).resolve())


def test_the_home_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_path("~/m", tmp_path / "x") == str(tmp_path / "m")


def test_a_file_of_a_hub_ids_name_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("x")
    assert resolve_path("m", tmp_path) == "m"


@pytest.mark.parametrize(
    "model",
    [
        "~no_such_user_of_this_host/m",
        "x" * 300,
        "/a\0b",
        "a\0b",
        "~a\0b/m",
    ],
    ids=["unknown user", "too long", "absolute with NUL", "with NUL", "user with NUL"],
)
def test_what_no_path_can_be_is_no_crash(tmp_path: Path, model: str) -> None:
    assert isinstance(resolve_path(model, tmp_path), str)


# --- digests -------------------------------------------------------------------------------

DIFFERENT: dict[str, Any] = {
    "model": "org/other",
    "backend": "other",
    "revision": "v1",
    "weights": "random",
    "dtype": "float16",
    "device": "cpu",
    "gpus": 4,
    "tensor_parallel": 2,
    "pipeline_parallel": 3,
    "batch_size": 7,
    "prompts": Prompts(count=2, input_tokens=Uniform(uniform=(1, 5))),
    "output_tokens": 9,
    "decoding": Decoding(top_k=5),
    "seed": 1,
    "scenario": Poisson(poisson=2.0),
    "env": {"OMP_NUM_THREADS": "4"},
    "options": {"attention": "eager"},
    "id": "b",
    "slo": Slo(ttft_s=0.5),
    "warmup": Warmup(prompts=9),
    "idle": 1.0,
    "precision": 0.02,
    "phases": True,
    "meters": ("estimate",),
    "power_trace_hz": 5.0,
    "worker": "reuse",
    "timeout_s": 1.0,
    "load_timeout_s": 1.0,
    "image": "img:1",
    "marks": ("slow",),
    "skip": "later",
    "xfail": "known",
}
COUNTED = [name for name in DIFFERENT if name not in NOT_IN_DIGEST]


def test_every_field_has_another_value_here() -> None:
    assert set(DIFFERENT) == {field.name for field in dataclasses.fields(Experiment)}


def test_the_digest_counts_what_the_specification_says() -> None:
    fields = "model backend revision weights dtype device gpus tensor_parallel pipeline_parallel"
    more = "batch_size prompts output_tokens decoding seed scenario env options"
    assert [*fields.split(), *more.split()] == COUNTED


def test_equal_experiments_have_equal_digests() -> None:
    assert digest(experiment()) == digest(experiment())
    assert len(digest(experiment())) == 64


@pytest.mark.parametrize("field", DIFFERENT)
def test_a_digest_differs_for_all_that_makes_an_experiment(field: str) -> None:
    changed = experiment(**{field: DIFFERENT[field]})
    assert (digest(changed) == digest(experiment())) == (field in NOT_IN_DIGEST)


def test_all_different_experiments_have_different_digests() -> None:
    counted = [{key: DIFFERENT[key]} for key in COUNTED]
    pairs = [a | b for a, b in itertools.combinations(counted, 2)]
    found = {digest(experiment(**fields)) for fields in [{}, *counted, *pairs]}
    assert len(found) == 1 + len(counted) + len(pairs)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            {"options": {"a": 1, "b": {"c": 1, "d": 2}}},
            {"options": {"b": {"d": 2, "c": 1}, "a": 1}},
        ),
        ({"env": {"A": "1", "B": "2"}}, {"env": {"B": "2", "A": "1"}}),
        ({"gpus": 2, "tensor_parallel": 2}, {"tensor_parallel": 2}),
        ({"gpus": 1}, {}),
    ],
    ids=["order of options", "order of variables", "devices", "device"],
)
def test_what_means_the_same_has_the_same_digest(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert digest(experiment(**one)) == digest(experiment(**other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"options": {"a": 1}}, {"options": {"a": True}}),
        ({"options": {"a": 1}}, {"options": {"a": "1"}}),
        ({"options": {"a": None}}, {"options": {}}),
        ({"options": {"a": [1, 2]}}, {"options": {"a": [2, 1]}}),
        ({"scenario": Poisson(poisson=4)}, {"scenario": Concurrency(concurrency=4)}),
        ({"tensor_parallel": 2}, {"pipeline_parallel": 2}),
    ],
)
def test_what_does_not_mean_the_same_has_another(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert digest(experiment(**one)) != digest(experiment(**other))


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


@pytest.mark.parametrize(
    "name",
    [
        "none",
        "x" * 300,
        "a\0b",
    ],
)
def test_a_model_directory_that_is_not_there_has_a_digest(tmp_path: Path, name: str) -> None:
    assert len(digest(experiment(model=f"{tmp_path}/{name}"))) == 64


def test_prompts_of_a_file_count_by_their_content(tmp_path: Path) -> None:
    for name, text in [("a.jsonl", "x"), ("b.jsonl", "x"), ("c.jsonl", "y")]:
        (tmp_path / name).write_text(text)
    made = [experiment(prompts=Prompts(source=str(tmp_path / f"{name}.jsonl"))) for name in "abc"]
    one, same, other = map(digest, made)
    assert one == same != other


# --- the same but for the name -------------------------------------------------------------


def test_experiments_that_differ_by_name_alone_are_the_same() -> None:
    assert same_as(experiment(id="a")) == same_as(experiment(id="b"))


@pytest.mark.parametrize("field", [name for name in DIFFERENT if name != "id"])
def test_experiments_that_differ_in_anything_else_are_not(field: str) -> None:
    assert same_as(experiment(**{field: DIFFERENT[field]})) != same_as(experiment())


def test_a_number_of_devices_that_is_the_default_is_the_same() -> None:
    assert same_as(experiment(gpus=1)) == same_as(experiment())


OPTIONS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 2) | st.booleans(), max_size=2)
DRAWN = st.fixed_dictionaries(
    {}, optional={"seed": st.integers(0, 2), "gpus": st.integers(1, 2), "options": OPTIONS}
)


@UNHURRIED
@given(DRAWN, DRAWN)
def test_the_same_experiments_have_the_same_digest_and_different_ones_another(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    a, b = experiment(**one), experiment(**other)
    assert (same_as(a) == same_as(b)) == (digest(a) == digest(b))


@UNHURRIED
@given(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3)), st.randoms())
def test_the_order_in_which_things_are_said_never_counts(
    said: dict[str, Any], random: Random
) -> None:
    keys = list(said)
    random.shuffle(keys)
    shuffled = {key: said[key] for key in keys}
    one, other = experiment(options=said), experiment(options=shuffled)
    assert digest(one) == digest(other)
    assert same_as(one) == same_as(other)


def test_a_backend_says_what_else_its_engines_are_built_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "third_party"))
    local = RunnerSpec(mode="local")

    def key(backend: str, **fields: Any) -> Hashable:
        return engine_key(experiment(backend=backend, **fields), local)

    # The third party's ``other`` builds its engines for a batch size; ``fake`` doesn't.
    assert key("fake", batch_size=2) == key("fake", batch_size=4)
    assert key("other", batch_size=2) != key("other", batch_size=4)
    assert key("other", output_tokens=2) == key("other", output_tokens=4)
