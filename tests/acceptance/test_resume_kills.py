"""``--llem-resume`` with several processes at once, and after many a power cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_llem.results.journal import read, written_to
from pytest_llem.results.sessions import sessions
from tests.acceptance.conftest import Project
from tests.acceptance.resuming import Resuming

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(sys.platform != "linux", reason="sessions are killed by Linux's signals"),
]


@pytest.fixture
def resuming(project: Project, monkeypatch: pytest.MonkeyPatch) -> Resuming:
    return Resuming(project, monkeypatch)


# --- several at once -----------------------------------------------------------------------

MANY = """\
execution: {cycles: 4, gaps: none}
experiments:
  - {id: a, expect: {energy_j: {max: 1000}}}
  - {id: b}
  - {id: c}
  - {id: d}
"""


def start(resuming: Resuming, *arguments: str) -> subprocess.Popen[bytes]:
    """A session in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "benchmarks", "-q", *arguments],
        cwd=resuming.path,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def lines(folder: Path) -> int:
    """Of all journals below a folder."""
    files = folder.glob("*/journal.*.jsonl")
    return sum(file.read_bytes().count(b"\n") for file in files)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for what is sure to come, on however busy a machine."""
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_what_xdist_workers_measured_is_taken_over_by_however_many(resuming: Resuming) -> None:
    resuming.study(MANY)
    process = start(resuming, "-n2")
    wait_for(lambda: lines(resuming.results) >= 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = resuming.session()
    wait_for(lambda: written_to(first) is None)
    known = {f"{o.experiment}{o.cycle}" for o in read(first)[0]}
    resuming.made()
    result = resuming.run("--llem-resume", "-n2")
    result.assert_outcomes(passed=17)
    count = 16 - len(known)
    result.stdout.fnmatch_lines(
        [f"resuming {first.name}: {len(known)} of 16 measurements taken over"]
    )
    assert len(resuming.made()) == count
    reported = dict(resuming.reported())
    assert len(reported) == len(resuming.reported()) == 16
    assert {name for name, session in reported.items() if session == first.name} == known
    # Nothing but taking over is left, whoever does it, and in whatever order.
    assert resuming.run("--llem-resume", "-n2", "--llem-dist=off").ret == 0
    assert resuming.made() == []
    assert {name for name, session in resuming.reported() if session == first.name} == known
    assert len(resuming.reported()) == 16


def test_two_sessions_at_once_each_have_all_that_they_measured(resuming: Resuming) -> None:
    resuming.study(MANY)
    both = [start(resuming), start(resuming, "-n2")]
    assert [process.wait() for process in both] == [0, 0]
    found = sessions(resuming.results)
    assert len(found) == 2
    everything = Counter(f"{name}{cycle}" for name in "abcd" for cycle in range(1, 5))
    for folder in found:
        outcomes, problems = read(folder)
        assert problems == []
        assert Counter(f"{o.experiment}{o.cycle}" for o in outcomes) == everything
        assert written_to(folder) is None
    assert Counter(resuming.made()) == everything + everything


# --- a hundred power cuts ------------------------------------------------------------------


def test_whenever_sessions_are_killed_each_measurement_is_made_and_reported_once(
    resuming: Resuming,
) -> None:
    resuming.study("execution: {cycles: 4, gaps: none}\nsweep: {output_tokens: [1, 2, 3]}\n")
    (resuming.path / "conftest.py").unlink()
    kills = int(os.environ.get("LLEM_KILLS", "20"))  # .ci/run has a hundred
    program = Path(__file__).with_name("killing.py")
    command = [sys.executable, str(program), str(kills), "1"]
    done = subprocess.run(command, cwd=resuming.path, capture_output=True, text=True, check=False)
    counts, *problems = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert not any(problems)
    assert json.loads(counts)["killed"] == kills
    # Most began with something to take over, and more than one lived to tell.
    assert json.loads(counts)["resumed"] > kills / 4
    assert json.loads(counts)["finished"] >= 1
