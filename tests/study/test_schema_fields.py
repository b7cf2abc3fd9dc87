"""Every field of an experiment: its default, what it takes, and what it refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pytest_llem.experiment import (
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
from pytest_llem.study.schema import validate
from pytest_llem.study.yaml_lines import Key

DEFAULTS: dict[str, Any] = {
    "id": "",
    "model": "m",
    "backend": "pytorch",
    "revision": None,
    "weights": "pretrained",
    "dtype": "auto",
    "device": "auto",
    "gpus": None,
    "tensor_parallel": 1,
    "pipeline_parallel": 1,
    "batch_size": 1,
    "prompts": Prompts(source="synthetic", count=100, input_tokens=512),
    "output_tokens": 128,
    "decoding": Decoding(),
    "seed": 42,
    "scenario": "offline",
    "slo": Slo(),
    "warmup": Warmup(prompts=5, timeout_s=30.0, until_stable=False),
    "idle": 30.0,
    "precision": None,
    "phases": False,
    "meters": "auto",
    "power_trace_hz": 10.0,
    "worker": "fresh",
    "timeout_s": 600.0,
    "load_timeout_s": 1800.0,
    "env": {},
    "image": None,
    "marks": (),
    "skip": None,
    "xfail": None,
    "options": {},
}


def test_a_model_alone_is_an_experiment_with_every_default() -> None:
    record, problems = validate(Experiment, {"model": "m"})
    assert problems == []
    assert record is not None
    assert {f.name: getattr(record, f.name) for f in dataclasses.fields(record)} == DEFAULTS


def test_an_experiment_computes_on_as_many_devices_as_its_parallel_parts_need() -> None:
    assert Experiment(model="m", tensor_parallel=2, pipeline_parallel=3).devices == 6
    assert Experiment(model="m", tensor_parallel=2, gpus=4).devices == 4


SHAPE = {"median": 256, "sigma": 0.8, "max": 2048}
TAKEN: list[tuple[str, Any, Any]] = [
    ("id", "a", "a"),
    ("backend", "vllm", "vllm"),
    ("revision", "v1", "v1"),
    ("weights", "random", "random"),
    *(("dtype", value, value) for value in ("float32", "float16", "bfloat16")),
    *(("device", value, value) for value in ("cuda", "cpu", "mps")),
    ("gpus", 8, 8),
    ("tensor_parallel", 2, 2),
    ("pipeline_parallel", 2, 2),
    ("batch_size", 4, 4),
    ("prompts", {"count": 3}, Prompts(count=3)),
    ("prompts", {"source": "p.jsonl"}, Prompts(source="p.jsonl")),
    (
        "prompts",
        {"input_tokens": {"uniform": [8, 16]}},
        Prompts(input_tokens=Uniform(uniform=(8, 16))),
    ),
    (
        "prompts",
        {"input_tokens": {"lognormal": SHAPE}},
        Prompts(input_tokens=Lognormal(lognormal=LognormalShape(median=256, sigma=0.8, max=2048))),
    ),
    ("output_tokens", 1, 1),
    ("decoding", {"temperature": 0.7, "top_k": 40}, Decoding(temperature=0.7, top_k=40)),
    ("decoding", {"top_p": 1, "min_p": 0}, Decoding(top_p=1.0, min_p=0.0)),
    ("decoding", {"repetition_penalty": 1.1}, Decoding(repetition_penalty=1.1)),
    ("decoding", {}, Decoding()),
    ("seed", 0, 0),
    ("scenario", {"poisson": 2}, Poisson(poisson=2.0)),
    ("scenario", {"poisson": 0.25}, Poisson(poisson=0.25)),
    ("scenario", {"concurrency": 16}, Concurrency(concurrency=16)),
    ("slo", {"ttft_s": 0.2, "tpot_s": 0.05, "e2e_s": 3}, Slo(ttft_s=0.2, tpot_s=0.05, e2e_s=3.0)),
    ("warmup", "none", "none"),
    ("warmup", {"prompts": 1, "timeout_s": 2}, Warmup(prompts=1, timeout_s=2.0)),
    ("warmup", {"until_stable": True}, Warmup(until_stable=True)),
    ("idle", "none", "none"),
    ("idle", 0.005, 0.005),
    ("idle", 5, 5.0),
    ("precision", 0.02, 0.02),
    ("phases", True, True),
    ("meters", ["nvml", "rapl"], ("nvml", "rapl")),
    ("power_trace_hz", "none", "none"),
    ("power_trace_hz", 2, 2.0),
    ("power_trace_hz", 100, 100.0),
    *(("worker", value, value) for value in ("fresh", "forked", "reuse")),
    ("timeout_s", 60, 60.0),
    ("load_timeout_s", 0.5, 0.5),
    ("env", {"OMP_NUM_THREADS": 4}, {"OMP_NUM_THREADS": "4"}),
    ("env", {"A": 0.5, "_b1": "x", "C": ""}, {"A": "0.5", "_b1": "x", "C": ""}),
    ("image", "host:5000/a/b:tag", "host:5000/a/b:tag"),
    ("marks", ["slow"], ("slow",)),
    ("marks", [{"timeout": 30}, "gpu"], ({"timeout": 30}, "gpu")),
    ("skip", "broken", "broken"),
    ("xfail", "known", "known"),
    ("options", {"a": {"b": [1]}}, {"a": {"b": [1]}}),
]


@pytest.mark.parametrize(("field", "value", "record"), TAKEN)
def test_a_field_takes_its_values(field: str, value: Any, record: Any) -> None:
    found, problems = validate(Experiment, {"model": "m", field: value})
    assert problems == []
    assert getattr(found, field) == record
    assert type(getattr(found, field)) is type(record)


def test_every_field_has_a_value_here_that_is_not_its_default() -> None:
    fields = {field.name for field in dataclasses.fields(Experiment)}
    assert {field for field, _, record in TAKEN if record != DEFAULTS[field]} | {"model"} == fields


COUNTS = ("gpus", "tensor_parallel", "pipeline_parallel", "batch_size", "output_tokens")
SECONDS = ("idle", "timeout_s", "load_timeout_s")
TEXTS = ("model", "backend", "revision", "image", "skip", "xfail")
REFUSED: list[tuple[str, Any, Key]] = [
    *((field, value, ()) for field in COUNTS for value in (0, -1, 1.5, "4", True, [4], {"a": 1})),
    *(("power_trace_hz", value, ()) for value in (0, -1, 101, "10", "off", True, None)),
    *((field, value, ()) for field in ("seed",) for value in (-1, 1.5, "4", True)),
    *(
        (field, value, ())
        for field in SECONDS
        for value in (0, -1, True, "5", float("nan"), float("inf"), [1])
    ),
    *((field, value, ()) for field in TEXTS for value in ("", 5, True, ["a"], {"a": "b"})),
    ("weights", "trained", ()),
    ("dtype", "int8", ()),
    ("dtype", 16, ()),
    ("device", "gpu", ()),
    ("worker", "new", ()),
    ("prompts", 5, ()),
    ("prompts", {"source": ""}, ("source",)),
    ("prompts", {"count": 0}, ("count",)),
    ("prompts", {"input_tokens": 0}, ("input_tokens",)),
    ("prompts", {"input_tokens": {"uniform": [0, 4]}}, ("input_tokens", "uniform", 0)),
    ("prompts", {"input_tokens": {"uniform": "4-8"}}, ("input_tokens", "uniform")),
    (
        "prompts",
        {"input_tokens": {"lognormal": {**SHAPE, "sigma": 0}}},
        ("input_tokens", "lognormal", "sigma"),
    ),
    (
        "prompts",
        {"input_tokens": {"lognormal": {**SHAPE, "mean": 1}}},
        ("input_tokens", "lognormal", "mean"),
    ),
    ("decoding", {"temperature": -0.5}, ("temperature",)),
    ("decoding", {"top_k": 0}, ("top_k",)),
    ("decoding", {"top_p": 0}, ("top_p",)),
    ("decoding", {"top_p": 1.5}, ("top_p",)),
    ("decoding", {"min_p": -0.1}, ("min_p",)),
    ("decoding", {"repetition_penalty": 0}, ("repetition_penalty",)),
    ("decoding", {"temprature": 1}, ("temprature",)),
    ("scenario", {"poisson": 0}, ("poisson",)),
    ("scenario", {"poisson": True}, ("poisson",)),
    ("scenario", {"concurrency": 0.5}, ("concurrency",)),
    ("scenario", "poisson", ()),
    ("slo", {"ttft_s": 0}, ("ttft_s",)),
    ("slo", {"ttft": 1}, ("ttft",)),
    ("warmup", "non", ()),
    ("warmup", {"prompts": 0}, ("prompts",)),
    ("warmup", {"timeout_s": 0}, ("timeout_s",)),
    ("warmup", {"until_stable": "often"}, ("until_stable",)),
    *(("precision", value, ()) for value in (0, 1, 5, "2%", -0.1)),
    ("phases", "some", ()),
    ("meters", "nvml", ()),
    ("meters", ["nvml", 1], (1,)),
    ("env", {"A": True}, ("A",)),
    ("env", {"A": [1]}, ("A",)),
    ("env", {"A B": "x"}, ("A B",)),
    ("env", {"1A": "x"}, ("1A",)),
    ("env", {"A=B": "x"}, ("A=B",)),
    ("env", {"A": "x\0y"}, ("A",)),
    ("env", ["A=1"], ()),
    ("marks", "slow", ()),
    ("marks", ["not slow"], (0,)),
    ("marks", [5], (0,)),
    ("marks", {"slow": 1}, ()),
]


@pytest.mark.parametrize(("field", "value", "inner"), REFUSED)
def test_a_field_refuses_what_it_can_not_mean_and_says_where(
    field: str, value: Any, inner: Key
) -> None:
    found, problems = validate(Experiment, {"model": "m"} | {field: value})
    assert found is None
    assert [key for key, _ in problems] == [(field, *inner)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("phases", "yes"),
        ("phases", 1),
        ("warmup", {"until_stable": "no"}),
        ("warmup", {"until_stable": 0}),
    ],
)
def test_a_number_or_a_text_is_no_truth_value(field: str, value: Any) -> None:
    found, _ = validate(Experiment, {"model": "m", field: value})
    assert found is None
