"""Pre-flight as a user sees it: its texts word for word, once, and who may skip it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.runners.docker.preflight import NO_SMI
from tests.acceptance.conftest import Project
from tests.rig.docker import images
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.registry import WHOLE, Registry

pytestmark = pytest.mark.once

BOTH_MISSING = """\
Docker pre-flight failed: 2 issue(s) found
  1. Docker not found
     Fix: Install Docker Engine — https://docs.docker.com/engine/install/
  2. NVIDIA Container Toolkit not found
     Fix: Install NVIDIA Container Toolkit — https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/install-guide.html
"""
ONE = "id: a\nexecution: {cycles: 1}\n"
CPU = f"device: cpu\n{ONE}"
CONFTEST = """\
import dataclasses
from pathlib import Path

from pytest_llem.runners.detect import detect

def pytest_llem_detect(config):
    found = detect(Path("/no/such/root"), {"PATH": "/usr/bin"})
    toolkit = Path("/usr/bin/nvidia-ctk") if (config.rootpath / "toolkit").exists() else None
    return dataclasses.replace(found, toolkit=toolkit)
"""


@pytest.fixture
def host(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A host with neither Docker, nor a toolkit, nor a driver."""
    project.pytester.makeconftest(CONFTEST)
    monkeypatch.setenv("PATH", str(bin_folder(project)), prepend=":")
    return project


def bin_folder(project: Project) -> Path:
    folder = project.pytester.path / "bin"
    folder.mkdir(exist_ok=True)
    return folder


def program(project: Project, name: str, script: str) -> None:
    path = bin_folder(project) / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def with_daemon(host: Project, docker_daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A host with Docker, a toolkit and a driver that works."""
    monkeypatch.setenv("DOCKER_HOST", docker_daemon.url)
    (host.pytester.path / "toolkit").touch()
    program(host, "nvidia-smi", "echo GPU 0")
    return host


def on(image: str) -> str:
    return f"--llem-runner=fake=docker:{image}"


# --- texts, and how often ------------------------------------------------------------------


def test_all_that_is_missing_is_one_list(host: Project) -> None:
    host.study(ONE)
    result = host.run("benchmarks", on("some/image:1"))
    result.assert_outcomes(errors=1)
    found = "\n".join(line for line in result.outlines if "     Why: " not in line)
    assert BOTH_MISSING in f"{found}\n"
    result.stdout.fnmatch_lines([NO_SMI])


def test_the_text_is_shown_once_and_local_items_go_on(host: Project) -> None:
    host.study("id: d\nexecution: {cycles: 3}\nrunners: {fake: 'docker:some/image:1'}\n")
    host.study("id: l\nexecution: {cycles: 2}\n", name="t.study.yaml")
    result = host.run("benchmarks", "-v", "-rE")
    result.assert_outcomes(errors=3, passed=2)
    lines = [line.strip() for line in result.outlines]
    assert lines.count("1. Docker not found") == 1
    first = "benchmarks/s.study.yaml::d::c1"
    assert lines.count(f"Docker pre-flight failed: see {first}") == 2


def test_an_experiment_on_the_cpu_needs_no_toolkit(host: Project) -> None:
    host.study(CPU)
    result = host.run("benchmarks", on("some/image:1"))
    result.stdout.fnmatch_lines(["Docker pre-flight failed: 1 issue(s) found"])
    assert not any("NVIDIA" in line or NO_SMI in line for line in result.outlines)


def test_a_driver_that_fails_is_named(with_daemon: Project) -> None:
    program(with_daemon, "nvidia-smi", "echo NVIDIA-SMI has failed because; exit 9")
    with_daemon.study(ONE)
    result = with_daemon.run("benchmarks", on("no/such:1"))
    result.stdout.fnmatch_lines(
        [
            "Docker pre-flight failed: 1 issue(s) found",
            "  1. nvidia-smi fails on this host",
            "     Why: NVIDIA-SMI has failed because",
        ]
    )


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_workers_of_xdist_share_one_verdict(host: Project, workers: tuple[str, ...]) -> None:
    host.study("execution: {cycles: 2}\nexperiments: [{id: a}, {id: b}, {id: c}]\n")
    result = host.run("benchmarks", on("some/image:1"), *workers)
    result.assert_outcomes(errors=6)
    lines = [line.strip() for line in result.outlines]
    assert lines.count("1. Docker not found") == 1
    assert sum(line.startswith("Docker pre-flight failed: see ") for line in lines) == 5
    assert lines.count(NO_SMI) == 1


# --- with a daemon -------------------------------------------------------------------------


@pytest.mark.docker
def test_all_images_that_can_not_be_had_are_one_list(with_daemon: Project) -> None:
    with_daemon.study(
        "execution: {cycles: 1}\nexperiments: [{id: a}, {id: b, image: 'other/image:2'}]\n"
    )
    result = with_daemon.run("benchmarks", on("some/image:1"), "--llem-pull=never")
    result.stdout.fnmatch_lines(
        [
            "Docker pre-flight failed: 2 issue(s) found",
            "  1. there is no image some/image:1 here, and none is to be fetched",
            "     Fix: docker pull some/image:1  *",
            "  2. there is no image other/image:2 here, and none is to be fetched",
        ]
    )
    assert not any("GPU not accessible" in line for line in result.outlines)


@pytest.mark.docker
def test_a_gpu_that_containers_do_not_get(with_daemon: Project, docker_daemon: Daemon) -> None:
    docker_daemon.hook_fails("initialization error: nvml error: driver not loaded")
    with_daemon.study(ONE)
    result = with_daemon.run("benchmarks", on(images.BASE))
    result.stdout.fnmatch_lines(
        [
            "Docker pre-flight failed: 1 issue(s) found",
            "  1. GPU not accessible inside Docker container",
            f"     Why: {images.BASE}: the NVIDIA driver doesn't work on *",
            "     Fix: run nvidia-smi on the host of the Docker daemon*",
        ]
    )


@pytest.mark.docker
def test_a_driver_that_is_too_old_for_an_image(with_daemon: Project, docker_daemon: Daemon) -> None:
    docker_daemon.driver.set(cuda="12.4", version="550.54.14")
    env = {"NVIDIA_REQUIRE_CUDA": "cuda>=12.9"}
    name = images.image(docker_daemon.client(), "llem/cuda:12.9", env=env)
    with_daemon.study(ONE)
    result = with_daemon.run("benchmarks", on(name))
    assert (
        "  1. Host driver 550.54.14 may be incompatible with container CUDA requirements"
        " (cuda>=12.9). See https://docs.nvidia.com/deploy/cuda-compatibility/"
    ) in result.outlines


@pytest.mark.docker
def test_an_image_without_python(with_daemon: Project, docker_daemon: Daemon) -> None:
    name = images.shell_image(docker_daemon.client())
    with_daemon.study(CPU)
    result = with_daemon.run("benchmarks", on(name))
    result.stdout.fnmatch_lines([f"  1. {name} has no Python: python3 isn't on its PATH*"])


@pytest.mark.docker
@pytest.mark.parametrize("body", [ONE, CPU], ids=["gpu", "cpu"])
def test_nothing_is_said_and_nothing_left_where_all_is_well(
    with_daemon: Project, docker_daemon: Daemon, body: str
) -> None:
    with_daemon.study(body)
    result = with_daemon.run("benchmarks", on(images.BASE))
    assert not any("pre-flight" in line.lower() for line in result.outlines)
    assert docker_daemon.client().containers.list(all=True, ignore_removed=True) == []


@pytest.mark.docker
def test_an_image_is_fetched_and_said_in_plain_lines(
    with_daemon: Project, docker_daemon: Daemon, registry: Registry
) -> None:
    name = f"{registry.repository(WHOLE)}:1"
    with_daemon.study(CPU + "docker: {pull: never}\n")
    refused = with_daemon.run("benchmarks", on(name))
    refused.stdout.fnmatch_lines(["  1. there is no image *"])
    result = with_daemon.run("benchmarks", on(name), "--llem-pull=missing")
    result.stdout.fnmatch_lines([f"llem: fetching {name}", f"llem: fetched {name}, * MB, * s"])
    again = with_daemon.run("benchmarks", on(name), "--llem-pull=missing")
    assert not any(line.startswith("llem: fetch") for line in again.outlines)


# --- skipping ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "execution", "docker", "user", "skipped_by"),
    [
        ("", "", "", "", None),
        ("--skip-preflight", "false", "false", "false", "command line"),
        ("--llem-skip-preflight", "", "", "", "command line"),
        ("", "true", "false", "false", "execution.skip_preflight"),
        ("", "false", "true", "true", None),
        ("", "", "true", "false", "docker.skip_preflight"),
        ("", "", "false", "true", None),
        ("", "", "", "true", ".lem-config.yaml"),
    ],
)
def test_the_first_that_says_so_decides_about_skipping(
    host: Project,
    option: str,
    execution: str,
    docker: str,
    user: str,
    skipped_by: str | None,
) -> None:
    inner = f", skip_preflight: {execution}" if execution else ""
    body = f"device: cpu\nid: a\nexecution: {{cycles: 1{inner}}}\n"
    host.study(body + (f"docker: {{skip_preflight: {docker}}}\n" if docker else ""))
    if user:
        config = f"docker: {{skip_preflight: {user}}}\n"
        (host.pytester.path / ".lem-config.yaml").write_text(config)
    result = host.run("benchmarks", on("some/image:1"), *([option] if option else []))
    failed = "Docker pre-flight failed: 1 issue(s) found" in "\n".join(result.outlines)
    said = [line for line in result.outlines if line.startswith("Docker pre-flight skipped")]
    assert failed == (skipped_by is None)
    assert said == ([f"Docker pre-flight skipped ({skipped_by})."] if skipped_by else [])


def test_a_study_that_skips_does_not_decide_for_another(host: Project) -> None:
    host.study("device: cpu\nid: a\nexecution: {cycles: 1, skip_preflight: true}\n")
    host.study(CPU, name="t.study.yaml")
    result = host.run("benchmarks", on("some/image:1"), "-v")
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["Docker pre-flight skipped (execution.skip_preflight)."])
