"""The live line: on a terminal while measuring, and nothing of it anywhere else."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

from pytest_llem.experiment import Experiment
from pytest_llem.plugin.live import describe
from pytest_llem.runners.conversation import Progress
from tests.acceptance.conftest import HEADER, Project

SLOW = HEADER.replace("count: 2", "count: 20").replace("idle: 0.01", "idle: 1.2")
STUDY = "id: a\nexecution: {cycles: 1}\nfake: {token_s: 0.05, print_in: run}\n"


def run_on_terminal(project: Project, *arguments: str) -> str:
    """All that a run writes to a terminal of 100 columns."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "benchmarks", *arguments],
        cwd=project.pytester.path,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    output = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        ready, _, _ = select.select([master], [], [], 1.0)
        if not ready:
            continue
        try:
            data = os.read(master, 4096)
        except OSError:  # Linux' way to say that the other end is closed
            break
        if not data:
            break
        output += data
    os.close(master)
    assert process.wait(30) == 0
    return output.decode()


@pytest.mark.parametrize("arguments", [(), ("-v",), ("-s",)], ids=" ".join)
def test_a_terminal_shows_phase_progress_and_time_left(
    project: Project, arguments: tuple[str, ...]
) -> None:
    project.study(STUDY, header=SLOW)
    text = run_on_terminal(project, *arguments)
    live = re.findall(r"\x1b7\x1b\[K  ([^\x1b]*)\x1b8", text)
    assert any(re.fullmatch(r"a c1  idle  \d s  \d s left", line) for line in live), live
    assert any(re.fullmatch(r"a c1  measure  \d+/20  \d s  \d s left", line) for line in live), live
    assert "engine chatter" not in text
    # Nothing of it stays: without the live lines the text is what pytest writes anyway.
    rest = re.sub(r"\x1b7\x1b\[K[^\x1b]*\x1b8|\x1b\[K", "", text)
    assert "a c1  " not in rest
    assert "1 passed" in re.sub(r"\x1b\[[0-9;]*m", "", rest)


def test_a_terminal_counts_a_gap_down(project: Project) -> None:
    project.study("id: a\nexecution: {cycles: 2, gaps: 2.6}\n")
    text = run_on_terminal(project)
    gaps = re.findall(r"\x1b7\x1b\[K  a c2  gap  (\d) s left\x1b8", text)
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] == "3"
    # A busy machine may miss one.
    assert len(set(gaps)) > 1


def test_nothing_of_it_without_a_terminal(project: Project) -> None:
    project.study(STUDY, header=SLOW)
    result = project.run("benchmarks", "--color=yes")
    assert "\x1b7" not in result.stdout.str()
    assert result.ret == 0


@pytest.mark.parametrize("variable", [("TERM", "dumb")])
def test_nothing_of_it_on_a_dumb_terminal(
    project: Project, monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]
) -> None:
    monkeypatch.setenv(*variable)
    project.study(STUDY, header=SLOW)
    result = project.run("benchmarks")
    assert "\x1b" not in result.stdout.str()


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(phase="load", elapsed_s=3.4), "x c2  load  3 s"),
        (Progress(phase="idle", elapsed_s=10), "x c2  idle  10 s  20 s left"),
        (Progress(phase="measure", elapsed_s=5), "x c2  measure  5 s"),
        (Progress(phase="measure", elapsed_s=5, power_w=312.4), "x c2  measure  5 s  312 W"),
        (
            Progress(phase="measure", elapsed_s=5, done=10, total=30),
            "x c2  measure  10/30  5 s  10 s left",
        ),
    ],
)
def test_the_line_says_where_a_measurement_is(progress: Progress, text: str) -> None:
    assert describe(Experiment(id="x", model="m"), "c2", progress) == text
