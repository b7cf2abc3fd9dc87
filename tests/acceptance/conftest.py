"""Studies over the fake backend, run by pytester in a project of their own."""

from __future__ import annotations

import json
import os
import re
import textwrap
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from jsonschema.exceptions import best_match

from pytest_llem.results.sessions import sessions
from tests.acceptance.template import Template
from tests.report_schema import validator

THIRD_PARTY = Path(__file__).parents[1] / "third_party"

HEADER = """\
    model: some/model
    backend: fake
    weights: random
    prompts: {count: 2, input_tokens: 4}
    output_tokens: 3
    warmup: none
    idle: 0.01
    meters: [fixed]
"""
"""Nine lines short: what a study adds begins on line 9."""

PLUGINS = {
    # Not for what these do, but for what they take: half of a short session's time.
    "annotate": ["pytest_github_actions_annotate_failures"],
    "anyio": ["anyio"],
    "asyncio": ["asyncio"],
    "hypothesis": ["hypothesispytest"],
    "html": ["html", "html_fixtures", "metadata"],
    "json-report": ["pytest_jsonreport", "metadata"],
    "randomly": ["randomly"],
    "rerunfailures": ["rerunfailures"],
    "timeout": ["timeout"],
}
"""Plugins that some of the tests are about, to all the names that block them."""


def addopts(*wanted: str) -> str:
    """``PYTEST_ADDOPTS`` that keeps the ``PLUGINS`` out, installed or not, but the wanted ones."""
    blocked = {name for plugin in PLUGINS for name in PLUGINS[plugin]}
    names = blocked.difference(*(PLUGINS[plugin] for plugin in wanted))
    return " ".join(f"-p no:{name}" for name in sorted(names))


def ids(result: pytest.RunResult) -> list[str]:
    """Node ids without the file, as ``--collect-only -q`` lists them."""
    lines = [line for line in result.outlines if "::" in line]
    return [line.split()[0].partition("::")[2] for line in lines]


def ran(result: pytest.RunResult) -> list[str]:
    """Node ids without the file, each with its outcome, in the order that ``-v`` prints them."""
    found = []
    for line in result.outlines:
        if match := re.match(r"\S+?::(\S+) ([A-Z]+)\b", line):
            found.append(f"{match[1]} {match[2]}")
        elif match := re.match(r"\[gw\d+\].* ([A-Z]+) \S+?::(\S+)", line):
            found.append(f"{match[2]} {match[1]}")  # as pytest-xdist has it
    return found


def environment_with(folder: Path, **variables: str) -> Path:
    """A virtual environment without any package, whose processes have variables of its own.

    By them the fake engine is of another version there, or missing.
    """
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    lines = [f"import os; os.environ[{name!r}] = {text!r}" for name, text in variables.items()]
    (site / "variables.pth").write_text("\n".join(lines) + "\n")
    return folder


class Project:
    """A user's project: a folder ``benchmarks`` with studies, and pytest to run there."""

    def __init__(
        self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, template: Template
    ) -> None:
        self.pytester = pytester
        self._template = template
        self.folder = pytester.mkdir("benchmarks")
        self._monkeypatch = monkeypatch
        self.switch_on()

    def switch_on(self, *plugins: str) -> None:
        """Let these of the ``PLUGINS`` take part, and none of the others."""
        self._monkeypatch.setenv("PYTEST_ADDOPTS", addopts(*plugins))

    def study(self, body: str, name: str = "s.study.yaml", header: str = HEADER) -> Path:
        """Write a study of the common fields and a body that begins on line 9."""
        path = self.folder / name
        path.write_text(textwrap.dedent(header) + textwrap.dedent(body))
        return path

    def run(self, *arguments: str, gaps: str | None = "none") -> pytest.RunResult:
        """Run pytest in a process of its own, as a user would; nothing of other runs is in it.

        The process is forked from one that has imported pytest and the plugin. What is about
        importing is for ``pytester.runpytest_subprocess``.

        No gaps unless the test is about them: a host with a sensor would wait to cool down.
        """
        if gaps is not None and "no:llem" not in arguments:
            arguments = (*arguments, f"--llem-gaps={gaps}")
        number = len(list(self.pytester.path.glob("session-*.out")))
        out, err = (self.pytester.path / f"session-{number}.{name}" for name in ("out", "err"))
        arguments = (f"--basetemp={self.pytester.path / f'session-{number}.tmp'}", *arguments)
        path = os.pathsep.join([str(self.pytester.path), os.environ.get("PYTHONPATH", "")])
        began = time.monotonic()
        status = self._template.run(arguments, out, err, {**os.environ, "PYTHONPATH": path})
        took_s = time.monotonic() - began
        said, complained = (file.read_text("utf-8") for file in (out, err))
        # For whoever reads why the test failed.
        print("running: pytest", *arguments, said, complained, sep="\n")  # noqa: T201
        known = pytest.ExitCode(status) if status in list(pytest.ExitCode) else status
        return pytest.RunResult(known, said.splitlines(), complained.splitlines(), took_s)

    def report(self, name: str = "report.json") -> dict[str, Any]:
        """A report, which keeps to the schema: whatever a test is about, that is promised."""
        data: dict[str, Any] = json.loads((self.pytester.path / name).read_text())
        if wrong := best_match(validator().iter_errors(data)):
            raise AssertionError(f"{name}: {wrong.json_path}: {wrong.message:.300}")
        return data

    def journal(self) -> list[dict[str, Any]]:
        """All lines of all journals, in the order of the sessions; without their checksums."""
        # Two that began in the same second have names that don't tell which was first.
        folders = reversed(sessions(self.pytester.path / "results"))
        files = [file for folder in folders for file in sorted(folder.glob("journal.*.jsonl"))]
        found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [{key: value for key, value in one.items() if key != "crc32"} for one in found]


def marked(token: str) -> list[psutil.Process]:
    """Processes, not zombies, whose environment holds a token."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LLEM_TEST_TOKEN") == token:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


@pytest.fixture(scope="session")
def template() -> Iterator[Template]:
    """What the sessions of all tests are forked from."""
    started = Template()
    yield started
    started.close()


@pytest.fixture
def project(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, template: Template
) -> Project:
    """An empty project in which the backend ``fake`` is installed."""
    monkeypatch.setenv("PYTHONPATH", str(THIRD_PARTY))
    # Whether this host has a Docker of its own must make no difference.
    monkeypatch.setenv("DOCKER_HOST", f"unix://{pytester.path}/no-docker.sock")
    monkeypatch.setenv("LLEM_LOCK_DIR", str(pytester.path / "locks"))
    # On a CI host pytest says every failure's whole text again in its summary, and we annotate.
    for name in ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    return Project(pytester, monkeypatch, template)
