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


def hold(project: Project, mark: Path, phase: str, worker: str = "fresh") -> None:
    """Write a study: one measurement that is made, one whose worker stays in a phase."""
    options = OPTIONS[phase].replace("MARK", str(mark))
    body = f"execution: {{cycles: 1}}\nworker: {worker}\nfake: {options}\n"
    project.study(body, name="b.study.yaml", header=HEADERS.get(phase, HEADER))


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize("phase", OPTIONS)
def test_a_killed_session_leaves_no_process(
    project: Project, tmp_path: Path, phase: str, number: signal.Signals, again: int
) -> None:
    mark, token = tmp_path / "mark", f"{secrets.token_hex(8)}-{again}"
    hold(project, mark, phase)
    # pytest, the watch process, the worker and the engine's own process
    kill(project, token, mark, phase, number, 4)


# A forked worker's template is one more; a kept worker may also be waiting for its next request.
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize(
    ("worker", "phase", "processes"),
    [("forked", "load", 5), ("forked", "measure", 5), ("reuse", "measure", 4)],
)
def test_a_killed_session_leaves_no_worker_of_any_kind(
    project: Project,
    tmp_path: Path,
    worker: str,
    phase: str,
    processes: int,
    number: signal.Signals,
) -> None:
    mark, token = tmp_path / "mark", secrets.token_hex(8)
    hold(project, mark, phase, worker)
    kill(project, token, mark, phase, number, processes)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda n: n.name)
def test_a_session_that_ends_between_measurements_leaves_no_kept_engine(
    project: Project, tmp_path: Path, number: signal.Signals
) -> None:
    mark, token = tmp_path / "mark", secrets.token_hex(8)
    body = f"worker: reuse\nexecution: {{cycles: 2}}\nfake: {{mark: {mark}, grandchild: true}}\n"
    project.study(body, header=HEADER)
    ready = tmp_path / "ready"
    project.pytester.makeconftest(
        f"""
        import pathlib, time

        def pytest_runtest_setup(item):
            if item.name == "c2":
                pathlib.Path({str(ready)!r}).touch()
                time.sleep(600)
        """
    )
    process = start(project, token)
    entered = wait_for(ready.exists, 60)
    before = len(marked(token))
    process.send_signal(number)
    gone = wait_for(lambda: process.poll() is not None and not marked(token), 5 * patience_s())
    left = marked(token)
    for leftover in left:
        leftover.kill()
    process.wait()
    assert entered
    assert before == 4
    assert gone, left


def kill(
    project: Project, token: str, mark: Path, phase: str, number: signal.Signals, processes: int
) -> None:
    """Have a session end in a phase, and see that nothing of it is left in time."""
    process = start(project, token)
    entered = wait_for(lambda: mark.exists() and mark.read_text() == MARKED[phase], 60)
    time.sleep(1.0 if phase == "idle" else 0.3)
    wait_for(lambda: len(marked(token)) == processes, 30)
    before = len(marked(token))
    limit_s = patience_s()
    process.send_signal(number)
    gone = wait_for(lambda: process.poll() is not None and not marked(token), limit_s)
    left = marked(token)
    for leftover in left:
        leftover.kill()
    process.wait()
    assert entered
    assert before == processes
    assert gone, left


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize(
    ("phase", "worker"),
    [*((phase, "fresh") for phase in OPTIONS), ("measure", "forked"), ("measure", "reuse")],
)
def test_one_ctrl_c_ends_tidily(
    project: Project, tmp_path: Path, phase: str, worker: str, again: int
) -> None:
    mark, token = tmp_path / "mark", f"{secrets.token_hex(8)}-{again}"
    project.study("id: a\nexecution: {cycles: 1}\n", name="a.study.yaml")
    hold(project, mark, phase, worker)
    process = start(project, token, "--llem-json=report.json", "--junitxml=junit.xml")
    entered = wait_for(lambda: mark.exists() and mark.read_text() == MARKED[phase], 60)
    time.sleep(1.0 if phase == "idle" else 0.3)
    limit_s = patience_s()
    process.send_signal(signal.SIGINT)
    # Beside pytest, which writes its reports, may be what its workers are forked from.
    others = 1 + (worker == "forked")
    gone = wait_for(lambda: len(marked(token)) <= others, limit_s)
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
