"""Sessions that are interrupted or killed leave nothing, whatever they were doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.conftest import THIRD_PARTY
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.images import BASE
from tests.runners.docker.boxes import Box, containers, eventually, processes, volumes

pytestmark = pytest.mark.docker

SESSION = """
import sys
from pathlib import Path
from pytest_llem.runners.conversation import Listener, converse
from tests.runners.docker.boxes import Box
from pytest_llem.runners.docker.runner import DockerRunner

folder, token, image = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
box = Box(folder, token)

class Telling(Listener):
    said = None
    def progress(self, progress):
        if progress.phase != self.said:
            self.said = progress.phase
            print(progress.phase, flush=True)

runner = DockerRunner()
try:
    runner.daemon
    print("begin", flush=True)
    options = {"hang_in": "run", "grandchild": True}
    transport = runner.start(box.launch(image, environment=box.marked))
    print("started", flush=True)
    converse(transport, box.experiment(options=options), "d", 1, Telling())
finally:
    runner.close()
"""


@pytest.fixture
def with_volume(docker_daemon: Daemon) -> str:
    """An image whose containers have an anonymous volume."""
    client = docker_daemon.client()
    made = client.containers.create(BASE, ["true"])
    made.commit("llem/volume", "1", changes="VOLUME /some/where")
    made.remove()
    return "llem/volume:1"


def states(daemon: Daemon) -> list[str]:
    return [container["State"] for container in daemon.client().api.containers(all=True)]


@pytest.mark.parametrize("phase", ["begin", "created", "started", "load", "measure"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left(
    docker_daemon: Daemon, with_volume: str, box: Box, phase: str, number: signal.Signals
) -> None:
    root = Path(__file__).parents[3]
    session = subprocess.Popen(
        [sys.executable, "-c", SESSION, str(box.folder), box.token, with_volume],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={
            **os.environ,
            "DOCKER_HOST": docker_daemon.url,
            "PYTHONPATH": os.pathsep.join([str(root), str(THIRD_PARTY)]),
        },
    )
    assert session.stdout is not None
    if phase == "created":
        # Between the daemon's two answers: whoever made it can't remove it any more.
        wait_for(lambda: "created" in states(docker_daemon))
    else:
        while (line := session.stdout.readline()) and line.strip() != phase:
            pass
        assert line, "the session ended by itself"
    session.send_signal(number)
    session.wait(60)
    session.stdout.close()
    left, took_s = eventually(
        lambda: [
            *containers(docker_daemon),
            *processes(box.token),
            *volumes(docker_daemon),
        ],
        20.0,
    )
    assert left == []
    # What a daemon was just asked for may come later.
    time.sleep(0.5)
    assert eventually(lambda: containers(docker_daemon), 10.0)[0] == []
    print(f"{phase} {number.name}: {took_s:.2f} s")  # noqa: T201


def wait_for(question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.002)
