"""Experiments: their fields, their defaults, and the way over the wire."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem import experiment as module
from pytest_llem.experiment import (
    NOT_IN_DIGEST,
    Concurrency,
    Decoding,
    Experiment,
    Lognormal,
    LognormalShape,
    Poisson,
    Prompts,
    Slo,
    Uniform,
    Warmup,
)
from pytest_llem.study import keys
from pytest_llem.study.keys import UserConfig
from pytest_llem.wire import checksum, from_dict, to_dict
from tests.builders import UNHURRIED, experiment

FIELDS = {field.name: field for field in dataclasses.fields(Experiment)}


def records() -> list[type[Any]]:
    """Every record of the two modules that a study's keys are described by."""
    found = [getattr(source, name) for source in (module, keys) for name in source.__all__]
    return [cls for cls in found if isinstance(cls, type) and dataclasses.is_dataclass(cls)]


# --- what a field is -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        pytest.param(cls, field.name, id=f"{cls.__name__}.{field.name}")
        for cls in records()
        for field in dataclasses.fields(cls)
        # In a study they stand under the backend's name: there is no such key to describe.
        if (cls, field.name) != (Experiment, "options")
    ],
)
def test_every_field_has_a_line_of_help(cls: type[Any], name: str) -> None:
    field = next(field for field in dataclasses.fields(cls) if field.name == name)
    description = field.metadata["description"]
    assert description == description.strip()
    assert 4 <= len(description) <= 200
    assert not description.endswith(".")
    assert "\n" not in description


def test_all_records_of_a_study_are_looked_at() -> None:
    assert {Experiment, Prompts, LognormalShape, Slo, UserConfig} <= set(records())
    assert len(records()) >= 17


@pytest.mark.parametrize("cls", records(), ids=lambda cls: cls.__name__)
def test_records_of_a_study_are_frozen_and_take_no_unknown_key(cls: type[Any]) -> None:
    assert cls.__dataclass_params__.frozen
    assert cls.__pydantic_config__["extra"] == "forbid"
    assert "__dict__" not in dir(cls)


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("backend", "pytorch"),
        ("revision", None),
        ("weights", "pretrained"),
        ("dtype", "auto"),
        ("device", "auto"),
        ("gpus", None),
        ("tensor_parallel", 1),
        ("pipeline_parallel", 1),
        ("batch_size", 1),
        ("prompts", Prompts(source="synthetic", count=100, input_tokens=512)),
        ("output_tokens", 128),
        (
            "decoding",
            Decoding(temperature=None, top_k=None, top_p=None, min_p=None, repetition_penalty=None),
        ),
        ("seed", 42),
        ("scenario", "offline"),
        ("slo", Slo(ttft_s=None, tpot_s=None, e2e_s=None)),
        ("warmup", Warmup(prompts=5, timeout_s=30.0, until_stable=False)),
        ("idle", 30.0),
        ("precision", None),
        ("phases", False),
        ("meters", "auto"),
        ("power_trace_hz", 10.0),
        ("worker", "fresh"),
        ("timeout_s", 600.0),
        ("load_timeout_s", 1800.0),
        ("env", {}),
        ("image", None),
        ("marks", ()),
        ("skip", None),
        ("xfail", None),
        ("options", {}),
    ],
)
def test_a_field_that_is_not_given_has_its_published_default(name: str, default: Any) -> None:
    found = getattr(Experiment(model="m"), name)
    assert found == default
    assert type(found) is type(default)


def test_only_the_model_must_be_given() -> None:
    required = {
        name
        for name, field in FIELDS.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    assert required == {"model"}


def test_two_experiments_share_no_mapping() -> None:
    one, other = Experiment(model="m"), Experiment(model="m")
    assert one.env is not other.env
    assert one.options is not other.options


@pytest.mark.parametrize(
    ("fields", "devices"),
    [
        ({}, 1),
        ({"tensor_parallel": 4}, 4),
        ({"tensor_parallel": 2, "pipeline_parallel": 3}, 6),
        ({"gpus": 8}, 8),
        ({"gpus": 8, "tensor_parallel": 4}, 8),
    ],
)
def test_devices_are_those_asked_for_or_those_needed(fields: dict[str, Any], devices: int) -> None:
    assert experiment(**fields).devices == devices


# --- what makes it the same ----------------------------------------------------------------


def test_what_is_left_out_of_the_digest_are_real_fields() -> None:
    assert set(FIELDS) >= NOT_IN_DIGEST


def test_the_digest_is_of_what_an_experiment_is() -> None:
    assert set(FIELDS) - NOT_IN_DIGEST == {
        "backend",
        "model",
        "revision",
        "weights",
        "dtype",
        "device",
        "gpus",
        "tensor_parallel",
        "pipeline_parallel",
        "batch_size",
        "prompts",
        "output_tokens",
        "decoding",
        "seed",
        "scenario",
        "env",
        "options",
    }


# --- over the wire -------------------------------------------------------------------------

COUNTS = st.integers(1, 10**9)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)
FRACTIONS = st.floats(0, 1, exclude_min=True, exclude_max=True)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)
TEXTS = st.text(min_size=1)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)

UNIFORM = st.builds(Uniform, uniform=st.tuples(COUNTS, COUNTS))
LOGNORMAL = st.builds(
    Lognormal,
    lognormal=st.builds(LognormalShape, median=COUNTS, sigma=POSITIVE, max=COUNTS),
)
PROMPTS = st.builds(Prompts, source=TEXTS, count=COUNTS, input_tokens=COUNTS | UNIFORM | LOGNORMAL)
WARMUP = st.builds(Warmup, prompts=COUNTS, timeout_s=POSITIVE, until_stable=st.booleans())
DECODING = st.builds(
    Decoding,
    temperature=st.none() | POSITIVE,
    top_k=st.none() | COUNTS,
    top_p=st.none() | FRACTIONS,
    min_p=st.none() | FRACTIONS,
    repetition_penalty=st.none() | POSITIVE,
)
POISSON = st.builds(Poisson, poisson=POSITIVE)
CONCURRENCY = st.builds(Concurrency, concurrency=COUNTS)
MAYBE_S = st.none() | POSITIVE
SLO = st.builds(Slo, ttft_s=MAYBE_S, tpot_s=MAYBE_S, e2e_s=MAYBE_S)
MARKS = st.lists(NAMES | st.dictionaries(NAMES, JSON, min_size=1, max_size=1), max_size=3)
EXPERIMENTS = st.builds(
    Experiment,
    id=st.text(),
    model=TEXTS,
    backend=NAMES,
    revision=st.none() | TEXTS,
    weights=st.sampled_from(["pretrained", "random"]),
    dtype=st.sampled_from(["auto", "float32", "float16", "bfloat16"]),
    device=st.sampled_from(["auto", "cuda", "cpu", "mps"]),
    gpus=st.none() | COUNTS,
    tensor_parallel=COUNTS,
    prompts=PROMPTS,
    decoding=DECODING,
    seed=st.integers(0),
    scenario=st.just("offline") | POISSON | CONCURRENCY,
    slo=SLO,
    warmup=st.just("none") | WARMUP,
    idle=st.just("none") | POSITIVE,
    precision=st.none() | FRACTIONS,
    meters=st.just("auto") | st.lists(TEXTS, max_size=3).map(tuple),
    worker=st.sampled_from(["fresh", "forked", "reuse"]),
    env=st.dictionaries(NAMES, st.text(), max_size=3),
    image=st.none() | TEXTS,
    marks=MARKS.map(tuple),
    skip=st.none() | TEXTS,
    options=st.dictionaries(st.text(), JSON, max_size=3),
)


def sent(record: Any) -> Any:
    """What arrives when a record is sent."""
    wire = json.dumps(to_dict(record), allow_nan=False)
    return from_dict(type(record), json.loads(wire))


@UNHURRIED
@given(
    st.one_of(UNIFORM, LOGNORMAL, PROMPTS, WARMUP, DECODING, POISSON, CONCURRENCY, SLO),
)
def test_any_part_of_an_experiment_survives_the_wire(record: Any) -> None:
    found = sent(record)
    assert found == record
    assert type(found) is type(record)


@UNHURRIED
@given(EXPERIMENTS)
def test_any_experiment_survives_the_wire(record: Experiment) -> None:
    found = sent(record)
    assert found == record
    for name in ("scenario", "warmup", "idle", "meters"):
        assert type(getattr(found, name)) is type(getattr(record, name))
    lengths = record.prompts.input_tokens
    assert type(found.prompts.input_tokens) is type(lengths)
    assert checksum(to_dict(found)) == checksum(to_dict(record))


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ({"scenario": Poisson(poisson=2.5)}, {"scenario": {"poisson": 2.5}}),
        ({"scenario": Concurrency(concurrency=8)}, {"scenario": {"concurrency": 8}}),
        ({"slo": Slo(ttft_s=0.2)}, {"slo": {"ttft_s": 0.2, "tpot_s": None, "e2e_s": None}}),
        ({"env": {"A": "1"}}, {"env": {"A": "1"}}),
        ({"marks": ("slow", {"flaky": {"n": 2}})}, {"marks": ["slow", {"flaky": {"n": 2}}]}),
        (
            {"prompts": Prompts(count=1, input_tokens=Uniform(uniform=(2, 9)))},
            {
                "prompts": {
                    "source": "synthetic",
                    "count": 1,
                    "input_tokens": {"uniform": [2, 9]},
                }
            },
        ),
    ],
)
def test_on_the_wire_an_experiment_reads_like_its_study(
    fields: dict[str, Any], data: dict[str, Any]
) -> None:
    assert data.items() <= to_dict(experiment(**fields)).items()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scenario", "burst"),
        ("scenario", {}),
        ("scenario", {"poisson": "2"}),
        ("scenario", {"poisson": True}),
        ("scenario", {"concurrency": 1.5}),
        ("scenario", {"poisson": 1.0, "concurrency": 1}),
        ("slo", None),
        ("slo", {"ttft_s": "1"}),
        ("slo", {"tfft_s": 1.0}),
        ("decoding", {"top_k": 1.0}),
        ("decoding", {"temperature": False}),
        ("prompts", {"input_tokens": "9"}),
        ("prompts", {"input_tokens": [1, 2]}),
        ("prompts", {"input_tokens": {"uniform": 3}}),
        ("prompts", {"input_tokens": {"uniform": [1, 2.5]}}),
        ("prompts", {"input_tokens": {"lognormal": {"median": 2, "sigma": 1.0}}}),
        ("env", {"A": 1}),
        ("env", ["A"]),
        ("marks", "slow"),
        ("marks", [1]),
        ("worker", "new"),
        ("gpus", 1.0),
    ],
)
def test_an_experiment_of_another_shape_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"expected|unknown|missing"):
        from_dict(Experiment, {"model": "m", field: value})


@pytest.mark.parametrize("value", [[], [1], [1, 2, 3]])
def test_a_range_of_other_than_two_ends_is_refused(value: list[int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        from_dict(Uniform, {"uniform": value})
