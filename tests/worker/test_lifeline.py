"""The watch process, with real workers: heartbeats, cancelling, and what isn't the worker's."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.extensions import Launch
from pytest_llem.runners.archive import bootstrap, build, opening
from pytest_llem.worker.lifeline import LOST
from tests.acceptance.conftest import THIRD_PARTY
from tests.builders import experiment, request

HEARTBEAT = b'{"frame": "heartbeat"}\n'
CANCEL = b'{"frame": "cancel"}\n'


class Watched:
    """A worker, and the watch over it."""

    def __init__(self, heartbeat_s: float | None, role: str = "engine") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", bootstrap()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(THIRD_PARTY)},
            bufsize=0,
        )
        launch = Launch(backend="fake", log=Path("unused"), role=role)
        self.send(opening(launch, build(), heartbeat_s))

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def frame(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def load(self, mark: Path, **options: object) -> None:
        """Have it load, and stay there."""
        asked = experiment(
            backend="fake", meters=("fixed",), options={"mark": str(mark), **options}
        )
        self.send(request(asked))

    def beat(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.send(HEARTBEAT)
            time.sleep(0.1)


@pytest.fixture
def watched() -> Iterator[list[Watched]]:
    started: list[Watched] = []
    yield started
    for each in started:
        each.process.kill()
        each.process.communicate()


def test_heartbeats_keep_it_alive_and_their_absence_ends_it(watched: list[Watched]) -> None:
    watched.append(Watched(heartbeat_s=0.25))
    (worker,) = watched
    assert worker.frame()["frame"] == "hello"
    worker.beat(3.0)
    assert worker.process.poll() is None
    begun = time.monotonic()
    assert worker.process.wait(60) == LOST
    assert time.monotonic() - begun > 0.5


def test_nothing_is_missed_where_none_were_promised(watched: list[Watched]) -> None:
    watched.append(Watched(heartbeat_s=None))
    (worker,) = watched
    assert worker.frame()["frame"] == "hello"
    time.sleep(2.0)
    assert worker.process.poll() is None


def test_a_stuck_worker_ends_too(watched: list[Watched], tmp_path: Path) -> None:
    watched.append(Watched(heartbeat_s=0.5))
    (worker,) = watched
    mark = tmp_path / "mark"
    worker.load(mark, hold_gil_in="load", ignore_term=True)
    while not mark.exists():
        worker.beat(0.2)
    assert worker.process.wait(60) == LOST


def test_the_worker_sees_none_of_it(watched: list[Watched]) -> None:
    watched.append(Watched(heartbeat_s=5.0, role="meter"))
    (worker,) = watched
    assert worker.frame()["frame"] == "hello"
    # One frame in pieces, between others: what the worker doesn't know ends it with an error.
    worker.send(HEARTBEAT + b'{"frame": "meter_requ')
    time.sleep(0.3)
    question = b'est", "meter": "fixed", "device": "cpu", "count": 1}\n'
    worker.send(question + HEARTBEAT + HEARTBEAT)
    ready = worker.frame()
    assert (ready["frame"], ready["domains"]) == ("meter_ready", ["cpu:0"])
    worker.send(b'{"frame": "close"}\n')
    assert worker.process.wait(60) == 0


def test_cancelling_ends_it_politely(watched: list[Watched], tmp_path: Path) -> None:
    watched.append(Watched(heartbeat_s=5.0))
    (worker,) = watched
    mark = tmp_path / "mark"
    worker.load(mark, hang_in="load")
    while not mark.exists():
        time.sleep(0.02)
    worker.send(CANCEL)
    assert worker.process.wait(60) == 128 + 15


def test_a_request_larger_than_a_pipe_does_not_keep_it_from_watching(
    watched: list[Watched], tmp_path: Path
) -> None:
    watched.append(Watched(heartbeat_s=0.5))
    (worker,) = watched
    mark = tmp_path / "mark"
    worker.load(mark, hold_gil_in="load")
    while not mark.exists():
        worker.beat(0.2)
    # Nobody reads that any more.
    worker.send(b'{"frame": "more", "text": "' + b"x" * 1_000_000 + b'"}\n')
    worker.beat(1.5)
    assert worker.process.poll() is None
    assert worker.process.wait(60) == LOST
