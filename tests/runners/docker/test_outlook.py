"""What a plan is told of a daemon."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pytest_llem.runners.docker.daemon import connect
from pytest_llem.runners.docker.models import Models
from pytest_llem.runners.docker.outlook import Outlook
from tests.builders import experiment
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.images import BASE
from tests.runners.docker.test_contents import cached, fill


def test_a_daemon_that_is_not_there_is_named_and_costs_no_time(tmp_path: Path) -> None:
    outlook = Outlook({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    started_s = time.monotonic()
    found = outlook.image("a:1")
    assert found.here is None
    assert found.reason
    assert outlook.copies([experiment(model=str(tmp_path))]) == []
    assert time.monotonic() - started_s < 10
    outlook.close()


def test_nobody_is_asked_before_the_first_question() -> None:
    outlook = Outlook({"DOCKER_HOST": "nonsense://"})
    outlook.close()
    assert outlook.image("a:1").here is None


@pytest.mark.docker
def test_an_image_that_is_there_has_a_size(docker_daemon: Daemon) -> None:
    outlook = Outlook({"DOCKER_HOST": docker_daemon.url})
    here, missing = outlook.image(BASE), outlook.image("llem/none:7")
    outlook.close()
    assert here.here is True
    assert here.size_bytes is not None
    assert here.size_bytes > 1e6
    assert (missing.here, missing.size_bytes, missing.reason) == (False, None, "")


@pytest.mark.docker
def test_nothing_is_copied_on_this_host(docker_daemon: Daemon, tmp_path: Path) -> None:
    outlook = Outlook({"DOCKER_HOST": docker_daemon.url})
    assert outlook.copies([experiment(model=str(fill(tmp_path, "config.json")))]) == []
    outlook.close()


@pytest.mark.docker
def test_what_is_copied_elsewhere_and_what_was(remote_daemon: Daemon, tmp_path: Path) -> None:
    fill(tmp_path / "m", "config.json", "model.safetensors")
    cached(tmp_path / "hub")
    environ = {"DOCKER_HOST": remote_daemon.url, "HF_HOME": str(tmp_path)}
    wanted = [
        experiment(model=str(tmp_path / "m")),
        experiment(model=str(tmp_path / "m"), weights="random"),
        experiment(model="org/tiny"),
        experiment(model="org/not-here"),
    ]
    outlook = Outlook(environ)
    before = outlook.copies(wanted)
    sizes = {copy.model: (copy.size_bytes, copy.done) for copy in before}
    small = len("config.json" + "model.safetensors")
    assert sizes[str(tmp_path / "m")] == (small, False)
    assert sizes["org/tiny"] == (small + len("0123abcd"), False)
    assert "org/not-here" not in sizes

    daemon = connect(environ)
    Models(daemon, labels={}, environ=environ).provide(wanted[0], BASE)
    daemon.close()
    done = {copy.model: copy.done for copy in outlook.copies(wanted)}
    assert done == {str(tmp_path / "m"): True, "org/tiny": False}
    outlook.close()
