"""kill -9 of pytest leaves nothing behind, whatever the worker is doing."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project, marked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process adoption is Linux's")

# What a study says so that its worker stays in a phase.
STAY = {
    "load": "{hang_in: load, mark: MARK, grandchild: true}",
    "idle": "{mark: MARK, grandchild: true}",
    "warmup": "{hang_in: run, mark: MARK, grandchild: true}",
    "measure": "{hold_gil_in: run, mark: MARK, grandchild: true}",
    "close": "{hang_in: close, mark: MARK, grandchild: true}",
}
MARKED_IN = {"load": "load", "idle": "load", "warmup": "run", "measure": "run", "close": "close"}


def wait_for(condition: object, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def patience_s() -> float:
    """One second; more where this machine is so busy that a bare interpreter takes long."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return max(1.0, 10 * (time.monotonic() - start))


@pytest.mark.parametrize("phase", STAY)
def test_kill_9_leaves_no_process(project: Project, tmp_path: Path, phase: str) -> None:
    mark, token = tmp_path / "mark", secrets.token_hex(8)
    options = STAY[phase].replace("MARK", str(mark))
    project.study(f"fake: {options}\nexecution: {{cycles: 1}}\n")
    if phase in {"idle", "warmup"}:
        path = project.folder / "s.study.yaml"
        text = path.read_text()
        text = text.replace("idle: 0.01", "idle: 600") if phase == "idle" else text
        path.write_text(text.replace("warmup: none", "warmup: {prompts: 1}"))
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "benchmarks", "-q"],
        cwd=project.pytester.path,
        env={**os.environ, "LLEM_TEST_TOKEN": token},
        stdout=subprocess.DEVNULL,
    )
    entered = wait_for(lambda: mark.exists() and mark.read_text() == MARKED_IN[phase], 60)
    time.sleep(0.3)
    # pytest, the watch process, the worker and the engine's own process
    before = len(marked(token))
    process.send_signal(signal.SIGKILL)
    process.wait()
    gone = wait_for(lambda: not marked(token), patience_s())
    left = marked(token)
    for leftover in left:
        leftover.kill()
    assert entered
    assert before == 4
    assert gone, left
