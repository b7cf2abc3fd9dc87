"""The studies in docs/examples do what their page says, and the schema of studies is printed."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pytest_llem.extensions import WELL_KNOWN
from pytest_llem.study.load import Study, load
from pytest_llem.study.schedule import balance
from tests.acceptance.conftest import Project
from tests.documents import EXAMPLES, ROOT

FILES = sorted(EXAMPLES.glob("*.study.yaml"))
COMMANDS = [
    line
    for line in (EXAMPLES / "README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("pytest ")
]

# Where there is no Docker, whatever there is on the host that runs this.
BARE_HOST = """
from pytest_llem.runners.detect import detect

def pytest_llem_detect(config):
    return detect(config.rootpath / "nothing", {"PATH": "/usr/bin"})
"""

engine = pytest.mark.engine
needs_engine = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)


@pytest.fixture
def repository(project: Project) -> Project:
    """A project with the examples and the model of the benchmarks where they are here."""
    path = project.pytester.path
    shutil.copytree(EXAMPLES, path / "docs" / "examples")
    shutil.copytree(ROOT / "benchmarks" / "models", path / "benchmarks" / "models")
    project.pytester.makeconftest(BARE_HOST)
    return project


def example(name: str) -> Study:
    path = EXAMPLES / f"{name}.study.yaml"
    return load(path, path.name)


def run(project: Project, name: str, *arguments: str) -> pytest.RunResult:
    return project.run(f"docs/examples/{name}.study.yaml", *arguments)


# --- all three -----------------------------------------------------------------------------


def test_each_example_has_a_section_with_its_command() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(FILES) == 3
    for path in FILES:
        assert text.count(f"[{path.name}]({path.name})") == 2
        assert any(path.name in command for command in COMMANDS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_example_names_the_schema_for_editors(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    schema = path.parent / first.removeprefix("# yaml-language-server: $schema=")
    assert schema.is_file()
    assert schema.suffix == ".json"


# --- engines -------------------------------------------------------------------------------


def test_engines_are_compared_in_a_balanced_order() -> None:
    study = example("engines")
    assert len(study.experiments) == 4
    assert not balance(4, study.execution.cycles, study.execution.order)
    assert not balance(2, study.execution.cycles, study.execution.order)


def test_engines_as_a_whole_need_isolation(repository: Project) -> None:
    result = run(repository, "engines", "--llem-cycles=1")
    result.assert_outcomes(errors=4)
    result.stdout.fnmatch_lines(["Multi-backend study requires Docker isolation. Found *"])


@pytest.mark.parametrize("selection", [("-k", "pytorch"), ("-m", "llem(backend='pytorch')")])
def test_one_engine_is_selected_by_its_name_or_its_mark(
    repository: Project, selection: tuple[str, str]
) -> None:
    result = run(repository, "engines", *selection, "--llem-plan")
    result.stdout.fnmatch_lines(
        [
            "  2 of 4 experiments x 4 cycles = 8 measurements",
            "  order        latin_square, balanced",
            "  runner       pytorch  local (default)",
        ]
    )


@engine
@needs_engine
def test_the_half_of_one_engine_is_measured(
    repository: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Threads of a model this small wait for each other, and keep all cores busy with it.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments = ("-k", "pytorch", "--llem-cycles=1", "--llem-json=report.json")
    run(repository, "engines", *arguments).assert_outcomes(passed=2, deselected=2)
    measured = [outcome["measurement"] for outcome in repository.report()["measurements"]]
    dtypes = [measurement["subject"]["engine"]["dtype"] for measurement in measured]
    assert dtypes == ["float32", "bfloat16"]
    assert all(not measurement["integrity"] for measurement in measured)


# --- ci ------------------------------------------------------------------------------------


def test_limits_of_the_study_for_ci_differ_by_batch_size() -> None:
    limits = {
        p.experiment.batch_size: {x.metric for x in p.limits} for p in example("ci").experiments
    }
    assert limits == {
        1: {"peak_memory_bytes", "ttft_p95_s", "output_tokens_per_s"},
        8: {"peak_memory_bytes", "output_tokens_per_s"},
    }


@engine
@needs_engine
def test_the_study_for_ci_passes(repository: Project) -> None:
    result = run(repository, "ci", "--llem-cycles=1", "--llem-strict", "--llem-json=report.json")
    result.assert_outcomes(passed=4)
    report = repository.report()
    assert [gate["outcome"] for gate in report["gates"]] == ["passed", "passed"]
    engines = [o["measurement"]["subject"]["engine"] for o in report["measurements"]]
    assert {engine["threads"] for engine in engines} == {1}


# --- load ----------------------------------------------------------------------------------


def test_the_load_study_doubles_the_rate_on_one_and_two_gpus() -> None:
    found = {
        (p.experiment.devices, p.experiment.scenario.poisson)  # type: ignore[union-attr]
        for p in example("load").experiments
    }
    assert found == {(gpus, rate) for gpus in (1, 2) for rate in (1, 2, 4, 8, 16)}


def test_the_load_study_requires_as_many_gpus_as_it_computes_on() -> None:
    for planned in example("load").experiments:
        assert planned.requires is not None
        assert planned.requires.gpus == planned.experiment.devices


def test_the_load_study_is_collected(repository: Project) -> None:
    result = run(repository, "load", "--collect-only", "-q")
    assert result.ret == 0
    names = [line.split("::")[1] for line in result.outlines if line.endswith("::gate")]
    assert len(names) == 7
    assert not any("-16" in name for name in names)


def test_the_load_study_is_planned(repository: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    result = run(repository, "load", "--llem-plan")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["load (docs/examples/load.study.yaml)", "*requires 1 GPU, 0 found*", "*requires 2 GPUs*"]
    )
    assert not (repository.pytester.path / "results").exists()


# --- the schema ----------------------------------------------------------------------------


def test_the_schema_of_all_backends_that_are_found_is_printed(repository: Project) -> None:
    result = repository.run("--llem-schema")
    assert result.ret == 0
    schema = json.loads(result.stdout.str())
    Draft202012Validator.check_schema(schema)
    backends = set(schema["properties"]["runners"]["properties"])
    assert backends == {*WELL_KNOWN, "fake", "other"}


def test_the_schema_is_printed_whatever_else_is_asked_for(repository: Project) -> None:
    result = repository.run("--llem-schema", "-q", "docs", "-n2")
    assert result.ret == 0
    assert json.loads(result.stdout.str())["title"] == "pytest-llem study"
    assert not (repository.pytester.path / "results").exists()
