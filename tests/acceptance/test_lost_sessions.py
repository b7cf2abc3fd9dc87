"""However pytest ends, nothing is left behind, whatever the worker is doing."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.conftest import HEADER, Project, marked

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(sys.platform != "linux", reason="process adoption is Linux's"),
]

# What a study says so that its worker stays in a phase: in a C call that holds the interpreter
# wherever the engine is called, with a process of the engine's own in another process group.
OPTIONS = {
    "load": "{hold_gil_in: load, mark: MARK, grandchild: true}",
    "idle": "{gil_thread: true, mark: MARK, grandchild: true}",
    "warmup": "{hold_gil_in: run, mark: MARK, grandchild: true}",
    "measure": "{hold_gil_in: run, mark: MARK, grandchild: true}",
    "close": "{hold_gil_in: close, mark: MARK, grandchild: true}",
}
MARKED = {"load": "load", "idle": "load", "warmup": "run", "measure": "run", "close": "close"}
HEADERS = {
    "idle": HEADER.replace("idle: 0.01", "idle: 600"),
    "warmup": HEADER.replace("warmup: none", "warmup: {prompts: 1}"),
}

# Three times each; the second and third don't depend on pytest's version, so one lane is enough.
AGAIN = (1, pytest.param(2, marks=pytest.mark.engine), pytest.param(3, marks=pytest.mark.engine))


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition comes true in time; what this process was kept waiting is extra."""
    spent, last = 0.0, time.monotonic()
    while not condition():
        if spent > seconds:
            return False
        time.sleep(0.01)
        now = time.monotonic()
        spent, last = spent + min(now - last, 0.1), now
    return True


def patience_s() -> float:
    """One second; more where this machine is so busy that a bare interpreter takes long."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return max(1.0, 20 * (time.monotonic() - start))


def start(project: Project, token: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "benchmarks", "-q", *arguments],
        cwd=project.pytester.path,
        env={**os.environ, "LLEM_TEST_TOKEN": token},
        stdout=subprocess.DEVNULL,
    )


def hold(project: Project, mark: Path, phase: str) -> None:
    """Write a study: one measurement that is made, one whose worker stays in a phase."""
    options = OPTIONS[phase].replace("MARK", str(mark))
    body = f"execution: {{cycles: 1}}\nfake: {options}\n"
    project.study(body, name="b.study.yaml", header=HEADERS.get(phase, HEADER))


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize("phase", OPTIONS)
def test_a_killed_session_leaves_no_process(
    project: Project, tmp_path: Path, phase: str, number: signal.Signals, again: int
) -> None:
    mark, token = tmp_path / "mark", f"{secrets.token_hex(8)}-{again}"
    hold(project, mark, phase)
    process = start(project, token)
    entered = wait_for(lambda: mark.exists() and mark.read_text() == MARKED[phase], 60)
    time.sleep(1.0 if phase == "idle" else 0.3)
    # pytest, the watch process, the worker and the engine's own process
    wait_for(lambda: len(marked(token)) == 4, 30)
    before = len(marked(token))
    limit_s = patience_s()
    process.send_signal(number)
    gone = wait_for(lambda: process.poll() is not None and not marked(token), limit_s)
    left = marked(token)
    for leftover in left:
        leftover.kill()
    process.wait()
    assert entered
    assert before == 4
    assert gone, left


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("phase", OPTIONS)
def test_one_ctrl_c_ends_tidily(project: Project, tmp_path: Path, phase: str, again: int) -> None:
    mark, token = tmp_path / "mark", f"{secrets.token_hex(8)}-{again}"
    project.study("id: a\nexecution: {cycles: 1}\n", name="a.study.yaml")
    hold(project, mark, phase)
    process = start(project, token, "--llem-json=report.json", "--junitxml=junit.xml")
    entered = wait_for(lambda: mark.exists() and mark.read_text() == MARKED[phase], 60)
    time.sleep(1.0 if phase == "idle" else 0.3)
    limit_s = patience_s()
    process.send_signal(signal.SIGINT)
    gone = wait_for(lambda: len(marked(token)) <= 1, limit_s)
    status = process.wait(30)
    left = marked(token)
    assert entered
    assert gone
    assert status == pytest.ExitCode.INTERRUPTED
    assert left == []
    report = json.loads((project.pytester.path / "report.json").read_text())
    assert [m["experiment"] for m in report["measurements"]] == ["a"]
    assert report["exit_status"] == pytest.ExitCode.INTERRUPTED
    assert [line["experiment"] for line in project.journal()] == ["a"]
    assert (project.pytester.path / "junit.xml").exists()


def test_a_second_ctrl_c_ends_at_once(project: Project, tmp_path: Path) -> None:
    mark, token = tmp_path / "mark", secrets.token_hex(8)
    hold(project, mark, "measure")
    # Something of the user's that takes its time when the session ends.
    project.pytester.makeconftest(
        f"""
        import pathlib, time

        def pytest_sessionfinish():
            pathlib.Path({str(tmp_path / "ending")!r}).touch()
            time.sleep(600)
        """
    )
    process = start(project, token)
    assert wait_for(lambda: mark.exists() and mark.read_text() == "run", 60)
    process.send_signal(signal.SIGINT)
    assert wait_for((tmp_path / "ending").exists, 30)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    assert marked(token) == []
