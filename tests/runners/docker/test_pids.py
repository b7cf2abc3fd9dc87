"""Pids of a container as its host calls them, or why they can't be told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest

from pytest_llem.runners.docker.container import ContainerTransport
from pytest_llem.runners.docker.daemon import Daemon as Reached
from pytest_llem.runners.docker.pids import told
from tests.rig.docker.daemon import Daemon
from tests.runners.docker.boxes import Box, runner_of

NAME = "ab" * 32
LOCAL = "unix:///var/run/docker.sock"


def daemon(answer: Any, url: str = LOCAL) -> Reached:
    def top(container: str, ps_args: str) -> Any:
        assert (container, ps_args) == (NAME, "-eo pid")
        if isinstance(answer, Exception):
            raise answer
        return {"Titles": ["PID"], "Processes": [[str(pid)] for pid in answer]}

    client: Any = SimpleNamespace(api=SimpleNamespace(top=top))
    return Reached(client, url)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for pid, group in ((7, f"0::/docker/{NAME}"), (8, f"0::/docker/{NAME}"), (9, "0::/user")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(f"{group}\n")
    return tmp_path


def test_all_of_them(proc: Path) -> None:
    assert told(daemon([7, 8]), NAME, proc) == ([7, 8], "")


def test_one_that_just_ended_is_no_objection(proc: Path) -> None:
    assert told(daemon([7, 500]), NAME, proc) == ([7, 500], "")


@pytest.mark.parametrize("pids", [[1, 2], [7, 9], []])
def test_pids_that_are_not_those_of_this_host(proc: Path, pids: list[int]) -> None:
    assert told(daemon(pids), NAME, proc) == (
        [],
        "the Docker daemon has pids of its own, and NVML tells those of the host",
    )


def test_a_daemon_elsewhere_is_not_asked() -> None:
    elsewhere = daemon(AssertionError("it was asked"), "tcp://there:2376")
    assert told(elsewhere, NAME) == ([], "the container isn't on this host")


def test_a_daemon_that_can_not_tell() -> None:
    pids, reason = told(daemon(docker.errors.APIError("ps: not found")), NAME)
    assert pids == []
    assert reason == "the Docker daemon can't tell the container's pids: ps: not found"


@pytest.mark.docker
def test_of_a_worker_that_runs(docker_daemon: Daemon, box: Box) -> None:
    runner = runner_of(docker_daemon)
    transport = runner.start(box.launch(environment=box.marked))
    assert isinstance(transport, ContainerTransport)
    try:
        transport.send(box.request({"hang_in": "run", "grandchild": True}))
        output = b""
        while b'"measure"' not in output:
            chunk = transport.receive(60)
            assert chunk, transport.log_tail(20)
            output += chunk
        found = told(runner.daemon, transport.id, docker_daemon.proc)
        from_here = transport.pids()
    finally:
        transport.stop(0.0)
        runner.close()
    pids, reason = found
    assert reason == ""
    # Init, the watch process, the worker and what its engine started.
    assert len(pids) >= 4
    # The rig's daemon numbers processes for itself, and isn't believed.
    assert from_here == (
        [],
        "the Docker daemon has pids of its own, and NVML tells those of the host",
    )
