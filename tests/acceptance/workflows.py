"""Runs jobs of GitHub workflows and GitLab pipelines as their runners do, as docs/ci.md needs.

Steps that run a shell run it for real, in a checkout, with what a runner sets. Instead of a server
there is a folder of artefacts, which stand-ins for ``gh`` and ``curl`` read. ``pip`` is the real
one, told to look nowhere and at no dependencies: it is content with what is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Finished", "Runner", "script_of", "steps_of"]

_GH = """
import os, shutil, sys
from pathlib import Path

store, (command, *rest) = Path(os.environ["ARTEFACTS"]), sys.argv[1:]
assert os.environ["GH_TOKEN"] and os.environ["GH_REPO"]
kept = sorted(store.iterdir())
if command == "api":
    number = rest[0].split("/")[-2]
    assert rest[0] == f"repos/{os.environ['GH_REPO']}/actions/runs/{number}/artifacts"
    print("77" if (store / number / "references").is_dir() else "")
elif rest[0] == "list":
    told = dict(zip(rest[1::2], rest[2::2]))
    assert (told["--event"], told["--branch"], told["--status"]) == ("push", "main", "success")
    print(kept[-1].name if kept else "")
else:
    action, number, _, name, _, folder = rest
    assert action == "download"
    shutil.copytree(store / number / name, folder, dirs_exist_ok=True)
"""
_CURL = """
import os, shutil, sys
from pathlib import Path

told = sys.argv[1:]
assert told[told.index("--header") + 1] == "JOB-TOKEN: secret"
assert told[-1] == "https://gitlab.example/api/v4/projects/7/jobs/artifacts/main/download?job=speed"
kept = sorted(Path(os.environ["ARTEFACTS"]).glob("*.zip"))
if kept:
    shutil.copy(kept[-1], told[told.index("--output") + 1])
print("200" if kept else "404", end="")
"""
_CONTEXT = {
    "github.token": "secret",
    "github.repository": "somebody/something",
}


@dataclass
class Finished:
    """What came of a job.

    Attributes:
        statuses: of each step that was run, by its name.
        output: of all of them, both streams.
        summary: what GitHub would show as the job's summary.
        artefacts: name to the folder with its files.
    """

    statuses: dict[str, int] = field(default_factory=dict)
    output: str = ""
    summary: str = ""
    artefacts: dict[str, Path] = field(default_factory=dict)

    @property
    def failed(self) -> list[str]:
        """Names of the steps that failed."""
        return [name for name, status in self.statuses.items() if status]


def steps_of(workflow: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Steps of a GitHub workflow's only job."""
    (job,) = workflow["jobs"].values()
    return list(job["steps"])


def script_of(pipeline: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], str]:
    """A GitLab job with what it extends, and its script as GitLab's runner gives it to bash."""
    own = pipeline[name]
    base = pipeline[own["extends"]]
    job = {**base, **own, "variables": {**base["variables"], **own["variables"]}}
    return job, "\n".join(["set -eo pipefail", *job["script"]])


class Runner:
    """A machine that runs jobs.

    Args:
        folder: for checkouts, artefacts and stand-ins.
        environment: of every step, whatever the job itself sets.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._jobs = 0
        self.store = folder / "artefacts"
        self.store.mkdir()
        self._bin = folder / "bin"
        self._bin.mkdir()
        for name, text in {"gh": _GH, "curl": _CURL}.items():
            self._program(name, f"#!{sys.executable}\n{text}")
        for name in ("pip", "pytest"):
            self._program(name, f'#!/bin/sh\nexec {sys.executable} -m {name} "$@"\n')
        self._program("python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')

    def _program(self, name: str, text: str) -> None:
        path = self._bin / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def github(self, workflow: Mapping[str, Any], files: Path, *, ref: str) -> Finished:
        """Run the only job of a workflow; what it uploads on main is kept for later runs."""
        checkout = self._checkout(files)
        finished = Finished()
        for number, step in enumerate(steps_of(workflow)):
            name = step.get("name", step.get("uses"))
            if not _wanted(step.get("if"), bool(finished.failed), ref):
                continue
            if "run" not in step:
                finished.statuses[name] = self._use(step, checkout, finished)
                continue
            summary = checkout.parent / f"summary{number}"
            summary.touch()
            given = {**workflow.get("env", {}), **step.get("env", {})}
            status, text = self._shell(
                f"set -e\n{step['run']}",
                checkout,
                {key: _filled(str(value)) for key, value in given.items()},
                GITHUB_ACTIONS="true",
                GITHUB_WORKSPACE=str(checkout),
                GITHUB_STEP_SUMMARY=str(summary),
            )
            finished.statuses[name] = status
            finished.output += text
            finished.summary += summary.read_text()
        if ref == "refs/heads/main" and not finished.failed:
            for name, folder in finished.artefacts.items():
                shutil.copytree(folder, self.store / str(self._jobs) / name)
        return finished

    def gitlab(self, pipeline: Mapping[str, Any], name: str, files: Path) -> Finished:
        """Run a job of a pipeline on main; its artefacts are kept if it succeeds."""
        checkout = self._checkout(files)
        job, script = script_of(pipeline, name)
        given = {
            "CI_JOB_NAME": name,
            "CI_JOB_TOKEN": "secret",
            "CI_DEFAULT_BRANCH": "main",
            "CI_PROJECT_ID": "7",
            "CI_API_V4_URL": "https://gitlab.example/api/v4",
            "GITLAB_CI": "true",
        }
        own = {
            key: re.sub(r"\$(\w+)", lambda found: given[found[1]], value)
            for key, value in job["variables"].items()
        }
        status, text = self._shell(script, checkout, {**given, **own})
        if status == 0:
            with zipfile.ZipFile(self.store / f"{self._jobs}.zip", "w") as archive:
                for path in _found(checkout, job["artifacts"]["paths"]):
                    archive.write(path, path.relative_to(checkout))
        return Finished({"script": status}, text)

    def shell(self, script: str, files: Path, given: Mapping[str, str]) -> tuple[int, str]:
        """Exit status and output of a script in a checkout of its own."""
        return self._shell(script, self._checkout(files), given)

    def checkout(self, job: int) -> Path:
        """Of a job, counted from 1."""
        return self._folder / f"job{job}" / "checkout"

    def _checkout(self, files: Path) -> Path:
        self._jobs += 1
        checkout = self.checkout(self._jobs)
        shutil.copytree(files, checkout)
        return checkout

    def _shell(
        self, script: str, checkout: Path, given: Mapping[str, str], **more: str
    ) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=checkout,
            env={
                **os.environ,
                "CI": "true",
                "PIP_NO_INDEX": "1",
                "PIP_NO_DEPS": "1",
                "ARTEFACTS": str(self.store),
                **given,
                **more,
                **self._environment,
                "PATH": f"{self._bin}:{os.environ['PATH']}",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def _use(self, step: Mapping[str, Any], checkout: Path, finished: Finished) -> int:
        """An action: those that this checkout makes up for, and uploads."""
        action = step["uses"].partition("@")[0]
        if action in {"actions/checkout", "actions/setup-python"}:
            return 0
        assert action == "actions/upload-artifact", action
        told = step["with"]
        folder = checkout.parent / "uploaded" / told["name"]
        folder.mkdir(parents=True)
        found = list(_found(checkout, told["path"].split()))
        for path in found:
            shutil.copy(path, folder)
        finished.artefacts[told["name"]] = folder
        return int(told["if-no-files-found"] == "error" and not found)


def _found(checkout: Path, patterns: list[str]) -> Iterator[Path]:
    for pattern in patterns:
        for path in sorted(checkout.glob(pattern.rstrip("/"))):
            yield from (each for each in [path, *path.rglob("*")] if each.is_file())


def _wanted(condition: str | None, failed: bool, ref: str) -> bool:
    """Whether a step is run; conditions that docs/ci.md doesn't have are an error."""
    return {
        None: not failed,
        "${{ !cancelled() }}": True,
        "github.ref == 'refs/heads/main'": not failed and ref == "refs/heads/main",
    }[condition]


def _filled(text: str) -> str:
    return re.sub(r"\$\{\{ *([\w.]+) *\}\}", lambda found: _CONTEXT[found[1]], text)
