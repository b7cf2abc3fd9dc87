"""Persistent containers in a whole session of pytest: nothing is left, whatever ends it."""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import Project
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.images import BASE
from tests.runners.docker.boxes import containers, eventually, volumes

pytestmark = pytest.mark.docker

STUDY = """
env: {{LLEM_TEST_WORD: {word}}}
device: cpu
docker: {{strategy: persistent, auto_teardown: {teardown}, volumes: ["{shared}:/shared"]}}
fake: {{{options}}}
execution: {{cycles: 2}}
"""

PHASES = {
    "created": "hang_in: load",
    "running": "hang_in: load",
    "load": "hang_in: load, mark: /shared/mark, grandchild: true",
    "measure": "hang_in: run, mark: /shared/mark, grandchild: true",
    "kept": "token_s: 0.2, grandchild: true",
}


class Kept:
    """A project whose studies run in containers that are kept."""

    def __init__(self, project: Project, daemon: Daemon) -> None:
        self.project = project
        self.daemon = daemon
        self.word = secrets.token_hex(8)
        self.log = project.pytester.path / "session.log"
        self.shared = project.pytester.mkdir("shared")
        (project.folder / "config.json").write_text("{}")

    def study(self, options: str, *, teardown: bool = True) -> None:
        said = {"word": self.word, "shared": self.shared, "options": options}
        body = STUDY.format(teardown=str(teardown).lower(), **said)
        path = self.project.study(body)
        path.write_text(path.read_text().replace("model: some/model", "model: ."))

    @property
    def arguments(self) -> list[str]:
        runner = f"--llem-runner=fake=docker:{BASE}"
        return ["benchmarks", runner, "--llem-skip-preflight", "--llem-gaps=none"]

    def begin(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "pytest", *self.arguments],
                cwd=self.project.pytester.path,
                stdout=log,
                stderr=log,
            )

    def left(self) -> list[object]:
        return [
            *containers(self.daemon),
            *self.processes(),
            *(name for name in volumes(self.daemon) if not name.startswith("llem-")),
        ]

    def processes(self) -> list[int]:
        """Of this session's workers and their engines, in containers too."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("LLEM_TEST_WORD") == self.word:
                    found.append(process.pid)
        return found

    def commands(self) -> list[str]:
        """What runs in the only container: the last words of each command but the last."""
        (name,) = containers(self.daemon)
        rows = self.daemon.client().api.top(name)["Processes"]
        return ["".join(row[-1].split()[-2:-1]) for row in rows]


@pytest.fixture
def kept(project: Project, docker_daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setenv("DOCKER_HOST", docker_daemon.url)
    return Kept(project, docker_daemon)


def wait_for(question: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def reached(kept: Kept, phase: str) -> bool:
    if phase in {"created", "running"}:
        # Whoever made it doesn't know its name yet, or has just begun to speak to it.
        states = [row["State"] for row in kept.daemon.client().api.containers(all=True)]
        return bool(states) if phase == "created" else "running" in states
    if phase == "kept":
        return bool(kept.project.journal())
    return (kept.shared / "mark").exists() and (kept.shared / "mark").read_text() != ""


def ended_in(kept: Kept, phase: str, number: signal.Signals) -> None:
    """End a session in a phase."""
    session = kept.begin()
    wait_for(lambda: session.poll() is not None or reached(kept, phase))
    if phase == "kept":
        time.sleep(0.4)
    assert session.poll() is None, kept.log.read_text()
    session.send_signal(number)
    session.wait(60)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left(kept: Kept, phase: str, number: signal.Signals) -> None:
    kept.study(PHASES[phase])
    ended_in(kept, phase, number)
    left, took_s = eventually(kept.left, 20.0)
    assert left == []
    print(f"{phase} {number.name}: {took_s:.2f} s")  # noqa: T201


@pytest.mark.parametrize(
    ("phase", "number"),
    [("measure", signal.SIGKILL), ("kept", signal.SIGTERM), ("kept", signal.SIGKILL)],
)
def test_without_teardown_the_container_is_left_and_no_engine(
    kept: Kept, phase: str, number: signal.Signals
) -> None:
    kept.study(PHASES[phase], teardown=False)
    ended_in(kept, phase, number)
    eventually(lambda: [c for c in kept.commands() if c != "hold"], 20.0)
    assert kept.commands() == ["hold"]
    assert kept.processes() == []
    # Another session doesn't take it for the rest of a dead one: it goes on in it.
    before = containers(kept.daemon)
    kept.study("token_s: 0.001", teardown=False)
    kept.project.run(*kept.arguments).assert_outcomes(passed=2)
    assert containers(kept.daemon) == before
    assert kept.commands() == ["hold"]


def test_a_session_keeps_an_engine_and_tells_of_the_place(kept: Kept) -> None:
    kept.study("token_s: 0.001")
    kept.project.run(*kept.arguments, "--llem-json=report.json").assert_outcomes(passed=2)
    assert kept.left() == []
    rows = kept.project.report()["measurements"]
    assert [row["place"]["attempts"] for row in rows] == [1, 1]
    assert {row["place"]["strategy"] for row in rows} == {"persistent"}
    assert len({row["place"]["container"] for row in rows}) == 1
    phases = [[window["phase"] for window in row["measurement"]["windows"]] for row in rows]
    assert ["load" in row for row in phases] == [True, False]


@pytest.mark.parametrize("mode", ["load", "loadfile"])
def test_xdist_workers_load_their_engines_one_after_the_other(kept: Kept, mode: str) -> None:
    pytest.importorskip("xdist")
    kept.study("token_s: 0.001, diary: /shared/diary")
    path = Path(kept.project.folder / "s.study.yaml")
    (kept.project.folder / "t.study.yaml").write_text(path.read_text())
    # Files are dealt to two workers by the mode loadfile, and their lease alone keeps them apart.
    result = kept.project.run(*kept.arguments, "-n2", f"--dist={mode}")
    result.assert_outcomes(passed=4)
    assert kept.left() == []
    told = [line.split()[0] for line in (kept.shared / "diary").read_text().splitlines()]
    engines = {"load": 1, "loadfile": 2}[mode]
    assert told == ["load", *["run"] * (4 // engines), "close"] * engines
