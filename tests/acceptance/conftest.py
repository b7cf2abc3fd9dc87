"""Studies over the fake backend, run by pytester in a project of their own."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest

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


class Project:
    """A user's project: a folder ``benchmarks`` with studies, and pytest to run there."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.folder = pytester.mkdir("benchmarks")

    def study(self, body: str, name: str = "s.study.yaml", header: str = HEADER) -> Path:
        """Write a study of the common fields and a body that begins on line 9."""
        path = self.folder / name
        path.write_text(textwrap.dedent(header) + textwrap.dedent(body))
        return path

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest in a process of its own, as a user would; no cache of other runs."""
        return self.pytester.runpytest_subprocess(*arguments)

    def report(self, name: str = "report.json") -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.pytester.path / name).read_text())
        return data

    def journal(self) -> list[dict[str, Any]]:
        """All lines of all journals, in the order of the sessions."""
        files = sorted((self.pytester.path / "results").glob("*/journal.*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


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


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project in which the backend ``fake`` is installed."""
    monkeypatch.setenv("PYTHONPATH", str(THIRD_PARTY))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return Project(pytester)
