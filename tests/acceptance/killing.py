"""Kills sessions at random moments, and goes on with each: a program of its own.

    python killing.py KILLS SEED

It is run in a user's project. Sessions are forked from this process, which has imported what they
need: a kill costs a fraction of a session, and is as sudden. Whenever a session lives to its end,
its report is looked at, and the next one begins anew. What is wrong is printed, a line each.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pytest_llem.results.journal import read

Made = Counter[tuple[str, int]]
RESULTS, DIARY, REPORT = Path("results"), Path("diary"), Path("report.json")
PLUGINS = "xdist cacheprovider doctest faulthandler threadexception unraisableexception"
ARGUMENTS = ["benchmarks", "-qq", "--llem-resume", f"--llem-json={REPORT}"]
ARGUMENTS += [f"-pno:{name}" for name in PLUGINS.split()]  # not for what they do: for their time


def session(limit_s: float | None = None) -> bool:
    """Run pytest, and kill it after some time; whether it came to its end before."""
    pid = os.fork()
    if pid == 0:
        out = os.open("out.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os._exit(int(pytest.main(ARGUMENTS)))
    if limit_s is None:
        _, status = os.waitpid(pid, 0)
        return os.WIFEXITED(status)
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.WIFEXITED(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def journaled() -> set[tuple[str, int]]:
    """What any session has in its journal."""
    outcomes = [o for folder in RESULTS.glob("*") for o in read(folder)[0]]
    return {(o.experiment, o.cycle) for o in outcomes if o.measurement}


def measured() -> Made:
    """How often each was measured."""
    lines = DIARY.read_text().split("\n")[:-1] if DIARY.exists() else []
    return Counter((line.split()[0], int(line.split()[1])) for line in lines)


def wrong(before: set[tuple[str, int]], earlier: Made) -> list[str]:
    """What was measured again, though a journal had it."""
    return [f"{one} was measured again" for one in measured() - earlier if one in before]


def whole(expected: set[tuple[str, int]]) -> list[str]:
    """What is wrong with the report of a session that came to its end."""
    report = json.loads(REPORT.read_text())
    found = Counter((m["experiment"], m["cycle"]) for m in report["measurements"])
    folder = RESULTS / report["session"]
    lost = [m["node"] for m in report["measurements"] if not (folder / m["raw"]).exists()]
    problems = [f"no raw series of {node}" for node in lost]
    if found != Counter(expected):
        problems.append(f"reported: {sorted(found.items())}")
    if report["exit_status"]:
        problems.append(f"exit status {report['exit_status']}")
    return problems


def begin_anew() -> None:
    """Forget all sessions."""
    shutil.rmtree(RESULTS, ignore_errors=True)
    for path in (DIARY, REPORT):
        path.unlink(missing_ok=True)


def main(kills: int, seed: int) -> None:
    """Kill so many sessions, then let the last one be."""
    moments = random.Random(seed)
    # In this very process, so that those that are forked from it find everything imported.
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(ARGUMENTS)
    expected = journaled()
    problems = whole(expected)
    begin_anew()
    began_s = time.monotonic()
    session()
    session_s = time.monotonic() - began_s
    problems += whole(expected)
    begin_anew()
    killed = finished = resumed = 0
    while True:
        known, earlier = journaled(), measured()
        # Once all is measured there is only taking over left; half of those may come to their end.
        to_the_end = killed == kills or (known == expected and moments.random() < 0.5)
        done = session(None if to_the_end else moments.uniform(0.0, 1.2 * session_s))
        killed += not done
        resumed += bool(known)
        problems += wrong(known, earlier)
        if not done:
            continue
        finished += 1
        problems += whole(expected)
        if killed == kills:
            break
        begin_anew()
    counts = json.dumps({"killed": killed, "finished": finished, "resumed": resumed})
    sys.stdout.write("\n".join([counts, *problems, ""]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
