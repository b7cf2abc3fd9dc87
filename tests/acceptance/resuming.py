"""A user's project whose sessions are killed and resumed, and cost next to nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.results.journal import Journal, read
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.sessions import sessions
from tests.acceptance.conftest import Project

INSTANT = Path(__file__).parents[1] / "third_party_instant"
HEADER = """\
    model: some/model
    backend: instant
    runners: {instant: instant}
    weights: random
    prompts: {count: 1, input_tokens: 4}
    warmup: none
    idle: none
    meters: []
"""

# Kills the session like a power cut, when so many of its measurements are behind it.
DIE = """
    import os, signal

    behind = 0

    def pytest_runtest_setup(item):
        global behind
        if behind >= int(os.environ.get("DIE_AFTER", "1000")):
            if os.environ.get("DIE_HOW") == "politely":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGKILL)
        behind += item.name != "gate"
"""


class Resuming:
    """A project whose measurements are there at once, and noted in a diary."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        self.project = project
        self.path = project.pytester.path
        self.results = self.path / "results"
        self._diary = self.path / "diary"
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("PYTHONPATH", str(INSTANT))
        monkeypatch.setenv("LLEM_INSTANT_DIARY", str(self._diary))
        project.pytester.makeconftest(DIE)

    def study(self, body: str, **fields: Any) -> Path:
        return self.project.study(body, header=HEADER, **fields)

    def run(self, *arguments: str) -> pytest.RunResult:
        given = ("benchmarks", "-v", "--llem-json=report.json", *arguments)
        return self.project.run(*given, gaps=None)

    def cut_short(self, *arguments: str, after: int) -> None:
        """Run a session that is killed when so many measurements are in its journal."""
        self._monkeypatch.setenv("DIE_AFTER", str(after))
        assert self.run(*arguments).ret == -signal.SIGKILL
        self._monkeypatch.delenv("DIE_AFTER")

    def made(self) -> list[str]:
        """What was measured since this was last asked, in order: ``a1`` for the first cycle."""
        lines = self._diary.read_text().splitlines() if self._diary.exists() else []
        self._diary.unlink(missing_ok=True)
        return [line.replace(" ", "") for line in lines]

    def reported(self) -> list[tuple[str, str | None]]:
        """The report's measurements, and whose they are."""
        rows = self.project.report()["measurements"]
        return [(f"{row['experiment']}{row['cycle']}", row["resumed"]) for row in rows]

    def session(self) -> Path:
        """The newest one."""
        return sessions(self.results)[0]


def rewritten(folder: Path, name: str, change: Callable[[Outcome], Outcome]) -> Path:
    """A session beside another, whose outcomes differ in something."""
    outcomes, _ = read(folder)
    journal = Journal(folder.with_name(name), "main")
    for outcome in outcomes:
        journal.append(change(outcome))
    journal.close()
    return journal.folder
