"""docs/ci.md: its workflows are well-formed, and their shell steps do what the page says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance.conftest import HEADER, THIRD_PARTY, addopts
from tests.acceptance.workflows import Finished, Runner, script_of, steps_of
from tests.documents import ROOT

pytestmark = pytest.mark.once

PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
BLOCKS: dict[str, str] = dict(
    re.findall(r"^`([\w./-]+\.yml)`.*?^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
)
SPEED = ".github/workflows/speed.yml"
ENERGY = ".github/workflows/energy.yml"
GITLAB = ".gitlab-ci.yml"
SCHEMAS = {SPEED: "github-workflows", ENERGY: "github-workflows", GITLAB: "gitlab-ci"}
STUDY = textwrap.dedent(HEADER) + "worker: forked\nexecution: {cycles: 3, gaps: none}\n"
BUDGET = "peak_memory_bytes:5%"
"""Of a figure that is the same on the busiest machine; version 2.0 of the fake is over it."""


def block(name: str) -> Any:
    return yaml.safe_load(BLOCKS[name])


@pytest.fixture
def runner(tmp_path: Path, request: pytest.FixtureRequest) -> Runner:
    environment = {
        "PYTEST_ADDOPTS": " ".join([addopts(), getattr(request, "param", "")]),
        "PYTHONPATH": str(THIRD_PARTY),
        "LLEM_LOCK_DIR": str(tmp_path / "locks"),
        "DOCKER_HOST": f"unix://{tmp_path}/no-docker.sock",
        "BUDGET": BUDGET,
    }
    return Runner(tmp_path, environment)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A repository whose studies are of the fake engine."""
    folder = tmp_path / "repository"
    (folder / "benchmarks").mkdir(parents=True)
    for name in ("ci", "gpu"):
        (folder / "benchmarks" / f"{name}.study.yaml").write_text(STUDY)
    return folder


# --- their form ----------------------------------------------------------------------------


def test_the_page_has_these_files() -> None:
    assert list(BLOCKS) == list(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_file_keeps_to_the_published_schema(name: str, tmp_path: Path) -> None:
    pytest.importorskip("check_jsonschema")
    path = tmp_path / "file.yml"
    path.write_text(BLOCKS[name])
    # The schemas are part of that package: nothing is fetched.
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    command += [f"vendor.{SCHEMAS[name]}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def scripts() -> list[str]:
    shells = [
        step["run"] for name in (SPEED, ENERGY) for step in steps_of(block(name)) if "run" in step
    ]
    return [*shells, *(script_of(block(GITLAB), name)[1] for name in ("speed", "energy"))]


def test_no_shell_has_a_mistake_in_its_form_or_a_value_put_into_its_text() -> None:
    for script in scripts():
        done = subprocess.run(
            ["bash", "-n"], input=script, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), script
        # A branch's name may hold commands of a stranger's.
        assert "${{" not in script


# --- what they do --------------------------------------------------------------------------


def test_speed_on_github(runner: Runner, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = block(SPEED)
    first = runner.github(workflow, files, ref="refs/heads/main")
    assert first.failed == [], first.output
    assert "Requirement already satisfied: pytest-llem[pytorch] in" in first.output
    assert "does not provide the extra" not in first.output
    assert "::notice::no references of level 1 yet" in first.output
    assert len(list(first.artefacts["references"].iterdir())) == 1
    # One more, and one of another level, which doesn't count.
    (kept,) = (runner.store / "1" / "references").iterdir()
    for name in ("level-0-20250101T000000Z", "level-1-20250101T000000Z"):
        shutil.copy(kept, kept.with_name(f"{name}.json"))
    monkeypatch.setenv("LLEM_FAKE_VERSION", "2.0")
    second = runner.github(workflow, files, ref="refs/pull/7/merge")
    assert second.failed == ["Measure"]
    check_slower(second, "1.00 MB (median of 2 references)")
    assert "::error file=benchmarks/ci.study.yaml,line=1,title=gate of ci failed::" in second.output
    assert "peak_memory_bytes: 1.10 MB, 10.0 % worse than" in second.summary
    assert list(second.artefacts) == ["measured"]
    report = json.loads((second.artefacts["measured"] / "report.json").read_text())
    assert report["exit_status"] == 1


def test_the_five_newest_references_are_left(runner: Runner, files: Path) -> None:
    for day in range(1, 8):
        path = files / "results" / "references" / f"level-1-2025010{day}T000000Z.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    steps = [step for step in steps_of(block(SPEED)) if "five newest" in step.get("name", "")]
    shells = [steps[0]["run"], script_of(block(GITLAB), "speed")[0]["script"][-1]]
    for number, shell in enumerate(shells, 1):
        assert runner.shell(shell, files, {}) == (0, "")
        left = (runner.checkout(number) / "results" / "references").iterdir()
        assert sorted(path.name[14:16] for path in left) == ["03", "04", "05", "06", "07"]


def check_slower(finished: Finished, reference: str) -> None:
    wanted = f"peak_memory_bytes: 1.10 MB, 10.0 % worse than {re.escape(reference)}.* 1.0 → 2.0"
    assert re.search(wanted, finished.output), finished.output


def test_speed_on_gitlab(runner: Runner, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = block(GITLAB)
    first = runner.gitlab(pipeline, "speed", files)
    assert first.failed == [], first.output
    assert "no references of level 1 yet" in first.output
    monkeypatch.setenv("LLEM_FAKE_VERSION", "2.0")
    second = runner.gitlab(pipeline, "speed", files)
    assert second.failed == ["script"]
    check_slower(second, "1.00 MB, noise")


@pytest.mark.parametrize("runner", ["--llem-plan", "--collect-only"], indirect=True)
def test_energy_is_planned_and_collected(runner: Runner, files: Path) -> None:
    # What needs a GPU goes on until it would need one.
    workflow = block(ENERGY)
    (measure,) = [step["run"] for step in steps_of(workflow) if step.get("name") == "Measure"]
    assert "--llem-strict" in measure
    job, _ = script_of(block(GITLAB), "energy")
    assert job["variables"]["STRICT"] == "--llem-strict"
    for script, given in ((measure, workflow["env"]), (job["script"][2], job["variables"])):
        own = {key: str(value) for key, value in given.items()}
        status, output = runner.shell(script, files, own)
        assert status == 0, output
        assert "gpu.study.yaml" in output
