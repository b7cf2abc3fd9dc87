"""The studies in benchmarks/: those for GPUs are valid and skipped here, their twins are run."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_llem.study.load import Study, load
from tests.acceptance.conftest import Project
from tests.documents import ROOT

BENCHMARKS = ROOT / "benchmarks"
GPU = sorted((BENCHMARKS / "gpu").glob("*.study.yaml"))
TWINS = sorted(path for path in (BENCHMARKS / "cpu").glob("*.yaml") if path.stem != "tiny")

needs_engine = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)

# A host without GPUs: with nothing of Docker, or with all of it but NVIDIA's toolkit.
HOST = """
import dataclasses
from pathlib import Path

from pytest_llem.runners.detect import detect

def pytest_llem_detect(config):
    found = detect(Path("/no/such/root"), {{"PATH": "/usr/bin"}})
    if {docker}:
        socket = Path("/run/docker.sock")
        found = dataclasses.replace(found, cli=Path("/usr/bin/docker"), socket=socket,
                                    accessible=True)
    return found
"""


def study(path: Path) -> Study:
    return load(path, path.name)


def text(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return data


@pytest.fixture
def repository(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The benchmarks in a project of their own, on a host without GPUs."""
    shutil.rmtree(project.folder)
    shutil.copytree(BENCHMARKS, project.folder)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    project.pytester.makeconftest(HOST.format(docker=False))
    return project


# --- the files -----------------------------------------------------------------------------


def test_there_are_five_studies_for_gpus_each_with_a_twin() -> None:
    names = [path.name.removesuffix(".study.yaml") for path in GPU]
    assert names == [
        "batch_size_sweep",
        "engine_comparison",
        "load_sweep",
        "precision_sweep",
        "tensor_parallel_scaling",
    ]
    assert [path.stem for path in TWINS] == names


@pytest.mark.parametrize("path", GPU, ids=lambda path: path.name)
def test_each_study_for_gpus_is_valid_and_requires_what_it_needs(path: Path) -> None:
    found = study(path)
    assert found.experiments
    assert not found.skipped
    for planned in found.experiments:
        assert planned.experiment.device == "cuda"
        assert planned.requires is not None
        assert planned.requires.gpus == planned.experiment.devices
        assert planned.requires.gpu_memory_bytes
        assert planned.requires.backends == (planned.experiment.backend,)


@pytest.mark.parametrize("path", TWINS, ids=lambda path: path.name)
def test_a_twin_varies_what_its_study_varies(path: Path) -> None:
    twin, study = text(path), text(BENCHMARKS / "gpu" / f"{path.stem}.study.yaml")
    assert twin.get("sweep", {}).keys() == study.get("sweep", {}).keys()
    assert twin.get("variants", {}).keys() == study.get("variants", {}).keys()
    assert twin["name"] == f"{study['name']}-cpu"


@pytest.mark.parametrize("path", [*GPU, *TWINS], ids=lambda path: path.name)
def test_each_says_how_it_is_run_and_names_the_schema(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    schema = lines[0].removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / schema).is_file()
    assert f"#     pytest {path.relative_to(ROOT)}" in lines


# --- what pytest makes of them -------------------------------------------------------------


def test_all_are_planned(repository: Project) -> None:
    result = repository.run("--llem-plan", "benchmarks", *map(str, twins()))
    assert result.ret == 0
    said = " ".join(result.stdout.str().split())
    for path in (*GPU, *TWINS):
        assert f"(benchmarks/{path.relative_to(BENCHMARKS)})" in said
    assert "requires 8 GPUs, 0 found" in said


@pytest.mark.once
@pytest.mark.engine
@needs_engine
@pytest.mark.parametrize("docker", [False, True], ids=["bare", "docker"])
def test_the_folder_ends_green_without_gpus(repository: Project, docker: bool) -> None:
    repository.pytester.makeconftest(HOST.format(docker=docker))
    quickstart = repository.folder / "quickstart.study.yaml"
    quickstart.write_text(quickstart.read_text().replace("[1, 4, 16]", "[16]"))
    result = repository.run("benchmarks/", "--llem-cycles=1")
    gpu = sum(len(study(path).experiments) for path in GPU)
    result.assert_outcomes(passed=2, skipped=gpu)
    assert result.ret == 0


@pytest.mark.once
@pytest.mark.engine
@needs_engine
def test_the_twins_are_measured(repository: Project) -> None:
    # Torch is imported once, and not for each of a dozen measurements.
    shared = repository.folder / "cpu" / "tiny.yaml"
    shared.write_text(f"{shared.read_text()}worker: forked\n")
    result = repository.run(*map(str, twins()), "--llem-json=report.json")
    assert result.ret == 0
    measured = repository.report()["measurements"]
    studies = {"precision_sweep", "batch_size_sweep", "engine_comparison"}
    found = {Path(outcome["file"]).stem for outcome in measured if outcome["measurement"]}
    assert studies <= found
    assert all(not o["measurement"]["integrity"] for o in measured if o["measurement"])


def twins() -> list[Path]:
    return [Path("benchmarks") / path.relative_to(BENCHMARKS) for path in TWINS]
