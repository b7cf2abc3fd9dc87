"""The page about many hosts does what it says: its scripts are run, a task each, and merged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance.conftest import Project
from tests.documents import ROOT

pytestmark = pytest.mark.once

PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
SHELL = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
MERGE = "python -m pytest_llem merge reports/ -o report.json"


def job() -> dict[str, Any]:
    """The job of Kubernetes."""
    (text,) = re.findall(r"^```yaml\n(apiVersion.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def pod() -> dict[str, Any]:
    (container,) = job()["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["bash", "-c"]
    return dict(container)


def scripts() -> list[str]:
    """All shell of the page."""
    return [*SHELL, *pod()["args"]]


@pytest.mark.parametrize("script", scripts(), ids=lambda text: text.splitlines()[-1][:40])
def test_shell_can_be_parsed(script: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_jobs_parts_fit_each_other() -> None:
    wanted = job()
    assert (wanted["kind"], wanted["spec"]["completionMode"]) == ("Job", "Indexed")
    spec = wanted["spec"]["template"]["spec"]
    assert spec["restartPolicy"] == "Never"
    volumes = {volume["name"] for volume in spec["volumes"]}
    mounts = pod()["volumeMounts"]
    assert {mount["name"] for mount in mounts} == volumes
    # Where the script writes, and where sessions do.
    paths = {Path(mount["mountPath"]).relative_to(pod()["workingDir"]) for mount in mounts}
    assert paths == {Path("reports"), Path("results")}


def test_every_merge_on_the_page_is_the_one_that_is_run_here() -> None:
    found = re.findall(r"python -m pytest_llem merge [^'\n`]*", PAGE)
    assert len(found) == 3
    assert set(found) == {MERGE}


@pytest.fixture
def environment(project: Project, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Two studies in a project with a virtual environment, whatever this one is."""
    for name in ("a", "b"):
        # The second one's gate fails: its pod must not.
        most = 1e12 if name == "a" else 1
        body = (
            f"id: {name}\nexecution: {{cycles: 1}}\nexpect: {{peak_memory_bytes: {{max: {most}}}}}"
        )
        project.study(f"{body}\n", name=f"{name}.study.yaml")
    programs = project.pytester.path / "venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f"PATH={programs}:$PATH\n")
    for name, arguments in (("python", ""), ("pytest", "-m pytest ")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments}"$@"\n')
        (programs / name).chmod(0o755)
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}


def test_an_array_task_and_a_pod_are_merged(project: Project, environment: dict[str, str]) -> None:
    folder = project.pytester.path

    def bash(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            env=environment | variables,
            capture_output=True,
            text=True,
        )

    (task,) = (text for text in SHELL if "#SBATCH" in text)
    slurm = {"SLURM_SUBMIT_DIR": str(folder), "SLURM_ARRAY_TASK_ID": "0"}
    done = [bash(task, **slurm), bash(pod()["args"][0], JOB_COMPLETION_INDEX="1")]
    assert [one.returncode for one in done] == [0, 0], [one.stdout for one in done]
    merged = bash(MERGE)
    assert merged.returncode == 1, merged.stderr
    assert "b: gate failed: peak_memory_bytes: 1.00 MB > 1.00 B" in merged.stdout
    report = project.report()
    assert [row["study"] for row in report["experiments"]] == ["a", "b"]
    assert [gate["outcome"] for gate in report["gates"]] == ["passed", "failed"]
    assert [one["exit_status"] for one in report["merged_from"]] == [0, 1]
    for made in report["measurements"]:
        assert (folder / "results" / made["raw"]).is_file()
