"""The sweep removes what dead sessions left, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

import pytest

from pytest_llem.runners.docker import reaper
from pytest_llem.runners.docker.daemon import Daemon as Reached
from pytest_llem.runners.docker.daemon import connect
from pytest_llem.runners.docker.guardian import Guardian
from pytest_llem.runners.docker.reaper import KEPT, SESSION, Owner
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.images import BASE
from tests.runners.docker.boxes import containers, eventually, volumes

ELSEWHERE = {"org.llem.owner-place": "another boot"}


@pytest.fixture
def reached(docker_daemon: Daemon) -> Iterator[Reached]:
    found = connect({"DOCKER_HOST": docker_daemon.url})
    yield found
    found.close()


@pytest.fixture
def dead() -> dict[str, str]:
    """Labels of a process that is gone."""
    code = "import json; from pytest_llem.runners.docker.reaper import labels;"
    code += " print(json.dumps(labels('dead')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def create(daemon: Reached, labels: Mapping[str, str], *, running: bool = False) -> str:
    made = daemon.client.containers.create(
        BASE, ["sleep", "600"], labels=dict(labels), network_mode="none", init=True
    )
    if running:
        made.start()
    return str(made.id)[:12]


@pytest.mark.docker
@pytest.mark.parametrize("running", [False, True])
def test_what_a_dead_owner_left_is_removed(
    docker_daemon: Daemon, reached: Reached, dead: dict[str, str], running: bool
) -> None:
    left = create(reached, dead, running=running)
    reached.api.create_volume("llem-left", labels=dead)
    assert reaper.sweep(reached) == [left, "llem-left"]
    assert containers(docker_daemon) == []
    assert volumes(docker_daemon) == []
    assert reaper.sweep(reached) == []


@pytest.mark.docker
def test_what_a_living_owner_has_stays(docker_daemon: Daemon, reached: Reached) -> None:
    create(reached, reaper.labels("mine"), running=True)
    create(reached, reaper.labels("mine"))
    reached.api.create_volume("llem-mine", labels=reaper.labels("mine"))
    assert reaper.sweep(reached) == []
    assert len(containers(docker_daemon)) == 2
    assert reaper.sweep_session(reached, "another") == []
    assert len(reaper.sweep_session(reached, "mine")) == 3
    assert containers(docker_daemon) == []


@pytest.mark.docker
def test_what_is_somebody_elses_or_kept_stays(
    docker_daemon: Daemon, reached: Reached, dead: dict[str, str]
) -> None:
    create(reached, {"com.example": "x"})
    create(reached, {**dead, KEPT: "true"}, running=True)
    create(reached, {**dead, **ELSEWHERE}, running=True)
    create(reached, {**dead, **ELSEWHERE})
    assert reaper.sweep(reached) == []
    assert len(containers(docker_daemon)) == 4


@pytest.mark.docker
def test_what_was_to_be_kept_and_never_ran_is_removed(
    docker_daemon: Daemon, reached: Reached, dead: dict[str, str]
) -> None:
    left = create(reached, {**dead, KEPT: "true"})
    create(reached, {**reaper.labels("mine"), KEPT: "true"})
    stays = create(reached, {**reaper.labels("mine"), KEPT: "true"}, running=True)
    assert reaper.sweep(reached) == [left]
    assert len(reaper.sweep_session(reached, "mine")) == 1
    assert [str(c.id)[:12] for c in docker_daemon.client().containers.list()] == [stays]


@pytest.mark.parametrize(
    ("labels", "age_s", "runs", "left"),
    [
        ({}, 10.0, False, False),
        ({}, 4000.0, False, True),
        (ELSEWHERE, 10.0, False, False),
        (ELSEWHERE, 4000.0, False, True),
        (ELSEWHERE, 90_000.0, True, False),
        ({KEPT: "true"}, 90_000.0, False, False),
        ({"org.llem.owner-pid": "no number"}, 10.0, True, False),
    ],
)
def test_owners_elsewhere_are_judged_by_age_and_by_whether_it_runs(
    labels: dict[str, str], age_s: float, runs: bool, left: bool
) -> None:
    known = reaper.labels("s") if labels else {SESSION: "s"}
    assert reaper._is_left({**known, **labels}, age_s, runs=runs) is left


def test_a_process_of_the_same_number_is_not_the_owner() -> None:
    here = Owner.here()
    assert here.is_dead() is False
    assert dataclasses.replace(here, start="1").is_dead() is True
    assert dataclasses.replace(here, place="elsewhere").is_dead() is None


def test_without_a_time_of_start_the_number_has_to_do() -> None:
    here = Owner.here()
    assert dataclasses.replace(here, start="").is_dead() is False
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert dataclasses.replace(here, start="", pid=gone.pid).is_dead() is True


@pytest.mark.docker
def test_a_guardian_that_is_dismissed_does_nothing(docker_daemon: Daemon, reached: Reached) -> None:
    guardian = Guardian("mine", {"DOCKER_HOST": docker_daemon.url})
    create(reached, reaper.labels("mine"))
    guardian.dismiss()
    time.sleep(0.5)
    assert len(containers(docker_daemon)) == 1


@pytest.mark.docker
def test_a_guardian_removes_what_its_session_alone_leaves(
    docker_daemon: Daemon, reached: Reached
) -> None:
    create(reached, reaper.labels("another"))
    create(reached, reaper.labels("mine"))
    code = (
        "import os, time; from pytest_llem.runners.docker.guardian import Guardian;"
        f" Guardian('mine', dict(os.environ, DOCKER_HOST={docker_daemon.url!r}));"
        " os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    left, _ = eventually(lambda: containers(docker_daemon)[1:], 20.0)
    assert left == []
    assert len(containers(docker_daemon)) == 1
