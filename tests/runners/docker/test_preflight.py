"""Both tiers of the pre-flight, on daemons with and without GPUs, near and far."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.errors import ContainerError
from pytest_llem.runners.detect import Detected
from pytest_llem.runners.docker.daemon import connect
from pytest_llem.runners.docker.image import ensure
from pytest_llem.runners.docker.preflight import (
    NO_SMI,
    Host,
    Issue,
    Use,
    Verdict,
    examine,
    listed,
)
from pytest_llem.runners.docker.probe import Probe, probe
from tests.rig.docker import images
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.fixtures import MakeDaemon

pytestmark = [pytest.mark.docker, pytest.mark.once]

NO_ACCESS = "GPU not accessible inside Docker container"


def detected(**fields: Any) -> Detected:
    names = ("cli", "socket", "remote", "container", "toolkit", "cdi")
    return Detected(**{**dict.fromkeys(names), "accessible": False, **fields})


def smi(folder: Path, script: str = "exit 0") -> str:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(folder)


def look(daemon: Daemon, uses: Sequence[Use], *, path: str = "/no/such", **fields: Any) -> Verdict:
    environ = {"DOCKER_HOST": daemon.url, "PATH": path, "HOME": os.environ.get("HOME", "/")}
    return examine(uses, Host(detected=detected(**fields), environ=environ))


def titles(verdict: Verdict) -> list[str]:
    return [issue.title for issue in verdict.issues]


TOOLKIT = Path("/usr/bin/nvidia-ctk")
ON_GPU = Use(image=images.BASE, gpus=1)
ON_CPU = Use(image=images.BASE)


def test_all_is_well(docker_daemon: Daemon, tmp_path: Path) -> None:
    assert look(docker_daemon, [ON_GPU], path=smi(tmp_path), toolkit=TOOLKIT) == Verdict()
    assert docker_daemon.client().containers.list(all=True, ignore_removed=True) == []


def test_the_cpu_needs_neither_toolkit_nor_gpu(plain_daemon: Daemon) -> None:
    assert look(plain_daemon, [ON_CPU]) == Verdict()


def test_a_missing_toolkit_is_found_without_a_container(plain_daemon: Daemon) -> None:
    verdict = look(plain_daemon, [ON_GPU, Use(image="no/such:1", pull="never")])
    assert titles(verdict) == ["NVIDIA Container Toolkit not found"]
    assert verdict.notices == (NO_SMI,)


def test_a_toolkit_that_the_daemon_does_not_know_is_found_by_a_container(
    plain_daemon: Daemon, tmp_path: Path
) -> None:
    verdict = look(plain_daemon, [ON_GPU], path=smi(tmp_path), toolkit=TOOLKIT)
    assert titles(verdict) == [NO_ACCESS]
    assert "nvidia-ctk runtime configure" in verdict.issues[0].fix


def test_of_a_remote_daemon_s_host_nothing_here_tells(remote_daemon: Daemon) -> None:
    assert look(remote_daemon, [ON_GPU], remote=remote_daemon.url) == Verdict()


def test_a_remote_daemon_without_gpus_is_found_out_by_a_container(make_daemon: MakeDaemon) -> None:
    verdict = look(make_daemon(gpus=False, tcp=0), [ON_GPU])
    assert titles(verdict) == [NO_ACCESS]
    assert verdict.notices == ()


def test_a_driver_s_program_that_fails(docker_daemon: Daemon, tmp_path: Path) -> None:
    path = smi(tmp_path, "echo 'NVML: Driver/library version mismatch' >&2; exit 18")
    verdict = look(docker_daemon, [ON_GPU], path=path, toolkit=TOOLKIT)
    assert titles(verdict) == ["nvidia-smi fails on this host"]
    assert verdict.issues[0].why == "NVML: Driver/library version mismatch"


def test_both_tiers_have_lists_of_their_own(plain_daemon: Daemon) -> None:
    uses = [Use(image="a/b:1", pull="never"), Use(image="c/d:1", pull="never"), ON_CPU]
    verdict = look(plain_daemon, uses)
    assert [title.split()[4] for title in titles(verdict)] == ["a/b:1", "c/d:1"]


@pytest.mark.parametrize(("code", "words"), [(999, "see what nvidia-smi says"), (18, "restart")])
def test_an_nvml_that_does_not_work(
    docker_daemon: Daemon, tmp_path: Path, code: int, words: str
) -> None:
    docker_daemon.driver.fail(code)
    verdict = look(docker_daemon, [ON_GPU], path=smi(tmp_path), toolkit=TOOLKIT)
    assert titles(verdict) == [NO_ACCESS]
    assert words in verdict.issues[0].why


def test_a_machine_whose_gpus_are_gone(docker_daemon: Daemon, tmp_path: Path) -> None:
    docker_daemon.driver.set(gpus=0)
    verdict = look(docker_daemon, [ON_GPU], path=smi(tmp_path), toolkit=TOOLKIT)
    assert titles(verdict) == [NO_ACCESS]


def test_fewer_gpus_than_are_needed(docker_daemon: Daemon, tmp_path: Path) -> None:
    use = Use(image=images.BASE, gpus=4)
    verdict = look(docker_daemon, [use], path=smi(tmp_path), toolkit=TOOLKIT)
    assert titles(verdict) == ["4 GPUs are needed, and containers get 1"]


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12.9 brand=x,driver<9"}, "cuda>=12.9"),
        ({"CUDA_VERSION": "13.0.2"}, "cuda>=13.0"),
    ],
)
def test_a_driver_that_is_too_old(
    docker_daemon: Daemon, tmp_path: Path, env: dict[str, str], wanted: str
) -> None:
    docker_daemon.driver.set(cuda="12.4", version="550.54.14")
    name = images.image(docker_daemon.client(), f"llem/{wanted[6:]}:1", env=env)
    use = Use(image=name, gpus=1)
    verdict = look(docker_daemon, [use], path=smi(tmp_path), toolkit=TOOLKIT)
    assert titles(verdict) == [
        (
            "Host driver 550.54.14 may be incompatible with container CUDA requirements"
            f" ({wanted}). See https://docs.nvidia.com/deploy/cuda-compatibility/"
        )
    ]
    # Without GPUs the same image has nothing to ask for.
    assert look(docker_daemon, [Use(image=name)]) == Verdict()


def test_an_image_s_own_first_program_and_user_are_put_aside(docker_daemon: Daemon) -> None:
    name = images.image(docker_daemon.client(), "llem/odd:1", entrypoint=["/no/such"], user="65534")
    assert look(docker_daemon, [Use(image=name)]) == Verdict()


def test_a_probe_tells_what_nvml_says_inside(docker_daemon: Daemon) -> None:
    docker_daemon.driver.set(cuda="12.4", version="550.54.14", gpus=2)
    with contextlib.closing(connect({"DOCKER_HOST": docker_daemon.url})) as daemon:
        image = ensure(daemon, images.BASE, "never")
        found = probe(daemon, image, gpus=True, labels={"org.llem.session": "x"})
        without = probe(daemon, image, gpus=False)
    assert found.gpus == tuple(docker_daemon.driver.uuids)
    assert (found.driver, found.cuda, found.nvml) == ("550.54.14", (12, 4), 0)
    assert without == Probe(python=found.python)


def test_a_probe_that_does_not_answer_is_ended(docker_daemon: Daemon) -> None:
    with contextlib.closing(connect({"DOCKER_HOST": docker_daemon.url})) as daemon:
        image = ensure(daemon, images.BASE, "never")
        with pytest.raises(ContainerError) as caught:
            probe(daemon, image, gpus=True, limit_s=0.0)
    assert caught.value.cause == "no answer"
    assert docker_daemon.client().containers.list(all=True, ignore_removed=True) == []


def test_a_list_is_numbered_with_reasons_and_fixes() -> None:
    issues = [Issue(title="A", fix="do a"), Issue(title="B", fix="do b", why="it is so")]
    assert listed(issues) == (
        "Docker pre-flight failed: 2 issue(s) found\n"
        "  1. A\n     Fix: do a\n"
        "  2. B\n     Why: it is so\n     Fix: do b"
    )
