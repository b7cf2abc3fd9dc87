"""Daemons of tests: side by side, far away, full, hung, killed; and nothing is left of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import requests
from docker.types import Mount

from tests.rig.docker.asking import output, running
from tests.rig.docker.daemon import Daemon, DockerUnavailable
from tests.rig.docker.fixtures import MakeDaemon
from tests.rig.docker.images import BASE, image
from tests.rig.docker.registry import WHOLE, Registry

pytestmark = [pytest.mark.docker, pytest.mark.once]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """As ``tmp_path``, whose path may be too long for the sockets of a daemon."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_two_daemons_have_nothing_in_common(docker_daemon: Daemon, plain_daemon: Daemon) -> None:
    one, other = docker_daemon.client(), plain_daemon.client()
    image(one, "llem/only-here:1")
    container = running(one, "sleep", "60")
    assert [found.id for found in one.containers.list()] == [container.id]
    assert other.containers.list() == []
    assert not other.images.list(name="llem/only-here:1")
    assert docker_daemon.name != plain_daemon.name


def test_a_killed_daemon_leaves_nothing_and_starts_again(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(gpus=False)
    container = running(daemon.client(), "sleep", "60", network_mode="bridge")
    assert not daemon.is_gone()
    daemon.kill()
    assert daemon.is_gone()
    assert not daemon.answers()
    daemon.start()
    (found,) = daemon.client().containers.list(all=True)
    assert (found.id, found.status) == (container.id, "exited")
    found.start()
    daemon.stop()
    assert daemon.is_gone()
    daemon.close()
    assert not daemon.folder.exists()


def test_nothing_is_left_when_the_test_session_is_killed(short_folder: Path) -> None:
    program = """if True:
        import os, signal, sys
        from pathlib import Path
        from tests.rig.docker.daemon import Daemon
        Daemon(Path(sys.argv[1]), gpus=False).start()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    folder = short_folder / "d"
    root = Path(__file__).parents[3]
    ended = subprocess.run([sys.executable, "-c", program, str(folder)], cwd=root)
    assert ended.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while not Daemon(folder, gpus=False).is_gone() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert Daemon(folder, gpus=False).is_gone()


def test_a_hung_daemon_keeps_its_callers_waiting(docker_daemon: Daemon) -> None:
    client = docker_daemon.client(timeout_s=3)
    with docker_daemon.paused(), pytest.raises(requests.ReadTimeout, match="read timeout=3"):
        client.ping()
    assert client.ping()


def test_a_daemon_elsewhere_has_none_of_our_files(remote_daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    client = remote_daemon.client()
    assert remote_daemon.url.startswith("tcp://127.0.0.1:")
    assert output(client, "ls", "/mnt", volumes=[f"{tmp_path}:/mnt"]) == ""
    mount = Mount("/mnt/config.json", str(tmp_path / "config.json"), type="bind")
    with pytest.raises(docker.errors.APIError, match="bind source path does not exist"):
        client.containers.create(BASE, mounts=[mount])


def test_a_daemon_here_has_our_files(docker_daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    client = docker_daemon.client()
    assert output(client, "ls", "/mnt", volumes=[f"{tmp_path}:/mnt"]) == "config.json\n"


def test_a_full_disk_is_told_by_the_stream_of_a_pull(
    make_daemon: MakeDaemon, registry: Registry
) -> None:
    daemon = make_daemon(gpus=False, disk_bytes=40 * 2**20, base=False)
    api = daemon.client().api
    events = api.pull(registry.repository(WHOLE), tag="1", stream=True, decode=True)
    (error,) = [event["error"] for event in events if "error" in event]
    assert "no space left on device" in error


def test_a_folder_that_is_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DockerUnavailable, match="use a shorter folder"):
        Daemon(tmp_path / ("x" * 100))


def test_a_daemon_that_ends_at_once_shows_its_log(short_folder: Path) -> None:
    daemon = Daemon(short_folder / "d", gpus=False)
    (daemon.folder / "daemon.json").write_text('{"no-such-key": 1}')
    with pytest.raises(DockerUnavailable, match=r"ended at once.*\n.*no-such-key"):
        daemon.start()
    assert daemon.is_gone()
