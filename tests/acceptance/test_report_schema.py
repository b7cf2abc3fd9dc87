"""A report with everything in it: its schema holds every field, and it is read and exported."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pytest_llem import read_report
from pytest_llem.reports.document import Report
from pytest_llem.wire import to_dict
from tests.acceptance.conftest import HEADER, Project
from tests.documents import ROOT
from tests.report_schema import validator
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import H100

pytestmark = pytest.mark.once

CPU = """\
execution: {cycles: 1, gaps: 0.01}
sweep: {seed: [1, -1]}
experiments:
  - {id: precise, phases: true, precision: 0.5, meters: [edges], fake: {token_s: 0.02},
     warmup: {prompts: 1, until_stable: true, timeout_s: 1}}
  - {id: closed, scenario: {concurrency: 2}, prompts: {count: 30}, slo: {e2e_s: 60}}
  - {id: own, model: models/tiny-llama, prompts: {source: own.jsonl, input_tokens: null}}
  - {id: breaks, fake: {raise_in: run}}
  - {id: later, skip: another day}
expect:
  - {energy_j: {max: 1000}, energy_per_output_token_j: {max_regression: 5%}}
"""
GPU = "id: onboard\nexecution: {cycles: 1}\nfake: {token_s: 0.2, computes_on: cuda}\n"

# Mappings whose keys are data, so that one more or less is no mistake.
OPEN = {"comparisons", "env", "options", "versions", "meters", "engine", "place", "unread", "extra"}


def rich(project: Project, nvml_rig: NvmlRig, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The report of a session with a GPU, two scenarios, failures, gates and an earlier session."""
    rig = nvml_rig(H100, settings={"throttle": 4}, opened=False)
    for name, value in rig.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    project.pytester.makeini("[pytest]\nllem_runners = fake = local\n")
    shutil.copytree(ROOT / "benchmarks" / "models", project.folder / "models")
    (project.folder / "own.jsonl").write_text('{"prompt": "a"}\n{"prompt_token_ids": [1, 2]}\n')
    project.study(CPU, "cpu.study.yaml")
    gpu = HEADER.replace("meters: [fixed]", "device: cuda").replace("idle: 0.01", "idle: none")
    project.study(GPU, "gpu.study.yaml", header=gpu)
    first = ("-k", "seed", "--llem-save=first")
    project.run("benchmarks/cpu.study.yaml", *first)
    project.run("benchmarks", "--llem-compare=first", "--llem-json=report.json", gaps=None)
    return project.report()


def fields(value: Any, schema: Mapping[str, Any]) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Every field with a name of its own, once for each shape: path, a copy without it, schema."""
    seen: set[tuple[int, frozenset[str]]] = set()
    check = validator()
    defs: dict[str, Any] = schema["$defs"]

    def below(path: str, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
        if "$ref" in schema:
            yield from below(path, value, defs[schema["$ref"].split("/")[-1]])
        elif "anyOf" in schema:
            (fits,) = (s for s in schema["anyOf"] if check.evolve(schema=s).is_valid(value))
            if isinstance(value, dict):
                yield from without(path, value, schema, fits)
            yield from below(path, value, {**fits, "whole": schema})
        elif isinstance(value, list):
            for number, item in enumerate(value):
                yield from below(f"{path}[{number}]", item, schema.get("items") or {})
        elif isinstance(value, dict) and schema.get("type") == "object":
            if "whole" not in schema:
                yield from without(path, value, schema, schema)
            for name, item in value.items():
                inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
                if isinstance(inner, dict):
                    yield from below(f"{path}.{name}", item, inner)

    def without(
        path: str, value: dict[str, Any], whole: Mapping[str, Any], fits: Mapping[str, Any]
    ) -> Iterator[Any]:
        if "$ref" in fits:
            fits = defs[fits["$ref"].split("/")[-1]]
        shape = (id(fits), frozenset(value))
        if fits.get("additionalProperties") is not False or shape in seen:
            assert shape in seen or path.rpartition(".")[2] in OPEN or not value, path
            return
        seen.add(shape)
        yield f"{path}.new", {**value, "new": 1}, whole
        for name in value:
            yield f"{path}.{name}", {n: v for n, v in value.items() if n != name}, whole

    yield from below("report", value, schema)


def test_a_rich_report_keeps_to_its_schema_and_lacks_no_field(
    project: Project, nvml_rig: NvmlRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = rich(project, nvml_rig, monkeypatch)
    check = validator()
    schema = check.schema
    assert isinstance(schema, dict)
    Draft202012Validator.check_schema(schema)
    assert list(check.iter_errors(report)) == []
    tried = 0
    for path, changed, inner in fields(report, schema):
        assert not check.evolve(schema=inner).is_valid(changed), path
        tried += 1
    assert tried > 300
    read = read_report(project.pytester.path / "report.json")
    assert isinstance(read, Report)
    assert to_dict(read) == report
