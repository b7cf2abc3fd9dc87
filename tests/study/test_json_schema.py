"""The JSON Schema of studies: it refuses what is plainly wrong, and nothing that is right."""

from __future__ import annotations

import importlib.resources
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pytest_llem.errors import StudyError
from pytest_llem.extensions import WELL_KNOWN
from pytest_llem.study.json_schema import SHIPPED, schema, text
from pytest_llem.study.load import load
from pytest_llem.study.yaml_lines import read
from tests.builders import UNHURRIED
from tests.documents import FILES, Written, written

SCHEMA = schema(WELL_KNOWN)
VALIDATOR = Draft202012Validator(SCHEMA)
MODEL = "model: org/m\n"


def wrong(data: Any) -> list[str]:
    """What the schema has against a study."""
    return [f"{'.'.join(map(str, e.path))}: {e.message}" for e in VALIDATOR.iter_errors(data)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to write one study after the other into."""
    return tmp_path_factory.mktemp("studies") / "a.study.yaml"


def data_of(path: Path, body: str) -> dict[str, Any]:
    """A study's text as plain data, read as a study is."""
    path.write_text(textwrap.dedent(body), encoding="utf-8")
    return read(path, path.name).data


# --- the schema itself ---------------------------------------------------------------------


def test_it_is_a_schema_of_its_draft() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].endswith("2020-12/schema")
    assert "//" not in SCHEMA["$id"]


def test_the_shipped_file_is_current() -> None:
    # Compared as data: some versions of pydantic write 0.0 where others write 0.
    current = json.loads(SHIPPED.read_text(encoding="utf-8")) == json.loads(text(WELL_KNOWN))
    assert current, "run: python docs/build_reference.py"


def test_the_shipped_file_is_part_of_the_package() -> None:
    assert importlib.resources.files("pytest_llem.study").joinpath(SHIPPED.name).is_file()


def objects(part: Any) -> Iterator[dict[str, Any]]:
    """Every part of a schema that lists properties."""
    if isinstance(part, dict):
        if "properties" in part and "type" in part:
            yield part
        for inner in part.values():
            yield from objects(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from objects(inner)


def test_every_object_of_ours_is_closed() -> None:
    found = list(objects(SCHEMA))
    assert len(found) > 15
    assert all(part["additionalProperties"] is False for part in found)


def test_every_field_is_explained() -> None:
    own = {name: part for name, part in SCHEMA["properties"].items() if "$ref" not in part}
    assert "sweep" in own
    for properties in (own, *(part["properties"] for part in objects(SCHEMA["$defs"]))):
        assert not [name for name, part in properties.items() if "description" not in part]


def test_a_backend_of_a_third_party_has_its_options() -> None:
    known = Draft202012Validator(schema([*WELL_KNOWN, "fake"]))
    study = {"model": "m", "backend": "fake", "fake": {"anything": [1]}, "sweep": {"fake.x": [1]}}
    assert known.is_valid(study)
    assert len(wrong(study)) == 3


# --- what it takes -------------------------------------------------------------------------


@pytest.mark.parametrize("study", written(), ids=str)
def test_every_study_in_the_documents_is_valid(study: Written, tmp_path: Path) -> None:
    path = study.lay_out(tmp_path)
    assert not wrong(read(path, path.name).data)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_study_that_ships_is_valid(path: Path) -> None:
    assert not wrong(read(path, path.name).data)


RIGHT = {
    "nulls count as not set": """
        model: org/m
        dtype: null
        sweep: null
        prompts: {count: null}
        execution: {gaps: {mode: null}, cycles: null}
        docker: {read_only: null}
        requires: null
        runners: {vllm: null}
        """,
    "ranges": """
        model: org/m
        backend: vllm
        sweep:
          vllm.block_size: {from: 8, to: 32, scale: pow2}
          vllm: {swap_space: {from: 0, to: 1, steps: 3}}
          decoding.temperature: {from: 0.1, to: 1.0, steps: 4, scale: log}
        """,
    "a part of a mapping in a variant": """
        model: org/m
        backend: vllm
        prompts: {input_tokens: {lognormal: {median: 100, sigma: 1, max: 500}}}
        scenario: {poisson: 4}
        variants:
          lengths:
            as-they-are:
            wider: {prompts: {input_tokens: {lognormal: {sigma: 2}}}}
            even: {prompts: {input_tokens: {lognormal: null, uniform: [1, 9]}}}
          load:
            steady: {scenario: {poisson: null, concurrency: 4}}
        """,
    "limits": """
        model: org/m
        expect:
          - {output_tokens_per_s: {min: 1}}
          - {where: {batch_size: [1, 2]}, energy_j: {max: 5e-3, max_regression: 5%}}
        experiments:
          - {id: free, expect: {output_tokens_per_s: null}}
        """,
    "marks and variables": """
        model: org/m
        marks: [slow, {timeout: 60}, {flaky: {reruns: 2}}]
        env: {OMP_NUM_THREADS: 4, MODE: fast, GONE: null}
        skip: later
        """,
}


@pytest.mark.parametrize("body", RIGHT.values(), ids=list(RIGHT))
def test_what_a_study_may_say_is_valid(body: str, path: Path) -> None:
    data = data_of(path, body)
    assert not wrong(data)
    assert load(path, path.name).experiments


WRONG = {
    "a misspelt key": f"{MODEL}experimets: []",
    "a misspelt field of a part": f"{MODEL}prompts: {{cuont: 5}}",
    "options by their name in Python": f"{MODEL}options: {{}}",
    "a backend nobody knows": f"{MODEL}backend: vlm",
    "no whole number": f"{MODEL}batch_size: 1.5",
    "a boolean for a number": f"{MODEL}output_tokens: true",
    "a number for a boolean": f"{MODEL}phases: 1",
    "zero": f"{MODEL}idle: 0",
    "a word that is none of the choices": f"{MODEL}dtype: int8",
    "three ends of a distribution": f"{MODEL}prompts: {{input_tokens: {{uniform: [1, 2, 3]}}}}",
    "a distribution nobody knows": f"{MODEL}prompts: {{input_tokens: {{gauss: [1, 2]}}}}",
    "both scenarios": f"{MODEL}scenario: {{poisson: 1, concurrency: 1}}",
    "an id that pytest can't take": f"{MODEL}id: 'a::b'",
    "a study's key in a variant": f"{MODEL}variants: {{a: {{b: {{name: x}}}}}}",
    "a group without variants": f"{MODEL}variants: {{a: {{}}}}",
    "a variant with a bad name": f"{MODEL}variants: {{a: {{'b c': {{seed: 1}}}}}}",
    "an experiment that is null": f"{MODEL}experiments: [null]",
    "an empty axis": f"{MODEL}sweep: {{batch_size: []}}",
    "a single value swept": f"{MODEL}sweep: {{batch_size: 1}}",
    "a misspelt swept field": f"{MODEL}sweep: {{prompts.cuont: [1]}}",
    "a swept name": f"{MODEL}sweep: {{id: [a, b]}}",
    "a range without an end": f"{MODEL}sweep: {{seed: {{from: 1, steps: 2}}}}",
    "a range without steps": f"{MODEL}sweep: {{seed: {{from: 1, to: 4, scale: log}}}}",
    "a scale nobody knows": f"{MODEL}sweep: {{seed: {{from: 1, to: 4, steps: 2, scale: ln}}}}",
    "an order nobody knows": f"{MODEL}execution: {{order: random}}",
    "a negative gap": f"{MODEL}execution: {{gaps: -1}}",
    "a mode of gaps nobody knows": f"{MODEL}execution: {{gaps: {{mode: cold}}}}",
    "a runner of an unknown backend": f"{MODEL}runners: {{vlm: local}}",
    "a metric nobody knows": f"{MODEL}expect: {{energy: {{max: 1}}}}",
    "a metric without a limit": f"{MODEL}expect: {{energy_j: {{}}}}",
    "a metric with nothing behind it": f"{MODEL}expect: {{energy_j: }}",
    "a regression that isn't percent": f"{MODEL}expect: {{energy_j: {{max_regression: 5}}}}",
    "a requirement nobody knows": f"{MODEL}requires: {{gpu: 1}}",
    "a size that is none": f"{MODEL}docker: {{shm_size: much}}",
    "a variable with a bad name": f"{MODEL}env: {{a-b: 1}}",
    "a variable that is on or off": f"{MODEL}env: {{A: true}}",
    "a mark with a bad name": f"{MODEL}marks: [a-b]",
}


TAKEN = {
    "a number for an id": f"{MODEL}id: 0",
    "a list for an id": f"{MODEL}id: []",
    "no mapping for the options of an engine that isn't used": f"{MODEL}vllm: 5",
    "a range for such options": f"{MODEL}sweep: {{vllm: {{from: 1, to: 4, steps: 2}}}}",
}
"""Wrong as well, and so far not refused when loaded."""


@pytest.mark.parametrize("body", [*WRONG.values(), *TAKEN.values()], ids=[*WRONG, *TAKEN])
def test_what_a_study_may_not_say_is_invalid(body: str, path: Path) -> None:
    assert wrong(data_of(path, body))


@pytest.mark.parametrize("body", WRONG.values(), ids=list(WRONG))
def test_what_is_invalid_is_refused_when_loaded_too(body: str, path: Path) -> None:
    path.write_text(body, encoding="utf-8")
    with pytest.raises(StudyError):
        load(path, path.name)


@pytest.mark.parametrize("body", TAKEN.values(), ids=list(TAKEN))
def test_a_wrong_type_is_refused_wherever_it_stands(body: str, path: Path) -> None:
    path.write_text(body, encoding="utf-8")
    with pytest.raises(StudyError):
        load(path, path.name)


# --- what load takes is valid --------------------------------------------------------------

COUNTS = st.integers(1, 9)
SECONDS = st.floats(0.5, 60)
TEXTS = st.sampled_from(["a", "org/m", "x.y", "none", "auto", "1"])
ODD = st.sampled_from([None, 0, -1, 2.5, 1e400, "", "b", [], [1], {}, {"a": 1}, {"from": 1}])
ENV = st.dictionaries(st.sampled_from(["A", "B_1"]), st.none() | COUNTS | SECONDS | TEXTS)
OPTIONS = st.dictionaries(st.sampled_from(["x", "y"]), ODD)
LENGTHS = COUNTS | st.fixed_dictionaries(
    {},
    optional={
        "uniform": st.lists(COUNTS, min_size=1, max_size=3) | st.none(),
        "lognormal": st.none()
        | st.fixed_dictionaries({"median": COUNTS, "sigma": SECONDS, "max": COUNTS}),
    },
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "id": TEXTS,
    "backend": st.sampled_from(WELL_KNOWN),
    "revision": TEXTS,
    "weights": st.sampled_from(["pretrained", "random"]),
    "dtype": st.sampled_from(["auto", "float32", "int8"]),
    "gpus": COUNTS,
    "tensor_parallel": COUNTS,
    "prompts": st.fixed_dictionaries({}, optional={"count": COUNTS, "input_tokens": LENGTHS}),
    "decoding": st.fixed_dictionaries({}, optional={"top_p": st.floats(0.1, 1.5), "top_k": COUNTS}),
    "scenario": st.just("offline")
    | st.fixed_dictionaries({}, optional={"poisson": SECONDS, "concurrency": COUNTS | st.none()}),
    "warmup": st.just("none") | st.fixed_dictionaries({}, optional={"prompts": COUNTS}),
    "idle": st.just("none") | SECONDS,
    "meters": st.just("auto") | st.lists(TEXTS),
    "env": ENV,
    "marks": st.lists(TEXTS | st.just({"timeout": 5})),
    "vllm": OPTIONS,
    "requires": st.fixed_dictionaries({}, optional={"gpus": COUNTS, "docker": st.booleans()}),
    "expect": st.fixed_dictionaries(
        {}, optional={"energy_j": st.just({"max": 1}) | ODD, "load_s": st.just({"min": 0})}
    ),
}


def some(of: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """A few of some keys, most with a value that fits."""
    pairs = st.sampled_from(sorted(of)).flatmap(
        lambda key: st.tuples(
            st.just(key), of[key] if key in {"id", "vllm"} else of[key] | of[key] | of[key] | ODD
        )
    )
    return st.lists(pairs, max_size=3).map(dict)


PARTS = some(FIELDS)
AXES = st.lists(ODD | COUNTS | TEXTS, max_size=3) | st.sampled_from(
    [
        {"from": 1, "to": 4, "steps": 2},
        {"from": 1, "to": 4, "scale": "pow2"},
        {"from": 1, "to": 4, "scale": "log", "steps": None},
        {"from": 1.5, "to": 4},
    ]
)
SWEPT = ["batch_size", "prompts.count", "vllm.x", "env.A", "decoding.top_p", "seed", "idle"]


def study_of(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A study whose shared fields are overridden nowhere: a wrong one would go unnoticed."""
    own = {"model": "org/m", **own}
    above = json.dumps(own)
    return own | {key: value for key, value in shared.items() if f'"{key}' not in above}


STUDIES = st.builds(
    study_of,
    PARTS,
    some(
        {
            "name": TEXTS,
            "sweep": st.dictionaries(st.sampled_from(SWEPT), AXES, max_size=2),
            "variants": st.dictionaries(
                TEXTS, st.dictionaries(TEXTS, PARTS | st.none(), max_size=2), max_size=2
            ),
            "experiments": st.lists(PARTS, max_size=2),
            "execution": some(
                {
                    "cycles": COUNTS,
                    "order": st.sampled_from(["interleaved", "latin_square", "random"]),
                    "gaps": st.sampled_from(["none", 5, {"mode": "fixed"}, {"between_cycles": 0}]),
                }
            ),
            "runners": st.dictionaries(
                st.sampled_from(WELL_KNOWN), st.sampled_from(["local", "docker:a:1", "x", None])
            ),
            "docker": some({"shm_size": st.sampled_from(["8g", "8x"]), "max_restarts": COUNTS}),
        }
    ),
)


@given(study=STUDIES)
@UNHURRIED
def test_what_load_takes_is_valid(path: Path, study: dict[str, Any]) -> None:
    path.write_text(json.dumps(study), encoding="utf-8")
    try:
        skipped = load(path, path.name).skipped
    except StudyError:
        return
    # A point that is left out is wrong, but its study goes on without it.
    assert skipped or not wrong(read(path, path.name).data)
