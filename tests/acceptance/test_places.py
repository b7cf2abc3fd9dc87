"""Where measurements run when nobody says: detection, isolation, requirements; and the lines."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pytest_llem.runners import resolve
from pytest_llem.runners.docker.preflight import NO_SMI
from tests.acceptance.conftest import Project

pytestmark = pytest.mark.once

ONE = "id: a\nexecution: {cycles: 1}\n"
# An engine that isn't installed, with a model that needn't be looked for.
ABSENT = "backend: vllm, model: tiny, weights: random"
TWO = f"""\
execution: {{cycles: 1}}
experiments:
  - {{id: a}}
  - {{id: b, {ABSENT}}}
"""
CONFTEST = """\
from pytest_llem.runners.detect import detect

def pytest_llem_detect(config):
    return detect(config.rootpath / "host", {"PATH": "/usr/bin"})
"""


class Host:
    """A host as files tell of it, beside the project."""

    def __init__(self, project: Project, root: Path) -> None:
        self.root = root
        project.pytester.makeconftest(CONFTEST)
        model = project.folder / "tiny"
        model.mkdir()
        (model / "config.json").write_text("{}")

    def program(self, name: str) -> None:
        path = self.root / "usr/bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)

    def daemon(self) -> None:
        self.program("docker")
        path = self.root / "var/run/docker.sock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as bound, pytest.MonkeyPatch.context() as patch:
            # Paths of sockets are short; the directory's may be long.
            patch.chdir(path.parent)
            bound.bind(path.name)

    def gpu(self) -> None:
        (self.root / "proc/driver/nvidia/gpus/0000:01:00.0").mkdir(parents=True)


@pytest.fixture
def host(project: Project) -> Host:
    """A host with nothing on it."""
    return Host(project, project.pytester.path / "host")


def lines(result: pytest.RunResult, text: str) -> int:
    """How often a line was printed, word for word and by itself."""
    return result.outlines.count(text)


# --- detection -----------------------------------------------------------------------------


def test_docker_that_was_found_is_used_and_said_once(project: Project, host: Host) -> None:
    host.daemon()
    host.program("nvidia-ctk")
    project.study(ONE + "images: {fake: img:1}\n")
    result = project.run("benchmarks", "--llem-json=report.json")
    assert lines(result, resolve.DETECTED) == 1
    (measurement,) = project.report()["measurements"]
    assert measurement["runner"]["source"] == "auto_detected"
    assert measurement["runner"]["mode"] == "docker"
    assert project.report()["notices"] == [resolve.DETECTED, NO_SMI]


def test_a_named_local_runner_beats_detection(project: Project, host: Host) -> None:
    host.daemon()
    host.program("nvidia-ctk")
    project.study(ONE)
    result = project.run("benchmarks", "--llem-runner=fake=local")
    result.assert_outcomes(passed=1)
    assert lines(result, resolve.DETECTED) == 0


def test_a_detected_docker_is_no_use_to_a_backend_without_an_image(
    project: Project, host: Host
) -> None:
    host.daemon()
    host.program("nvidia-ctk")
    project.study(ONE)
    project.run("benchmarks").assert_outcomes(passed=1)


def test_a_host_with_a_gpu_and_no_docker_is_told_so_once(project: Project, host: Host) -> None:
    host.gpu()
    project.study(ONE)
    result = project.run("benchmarks")
    result.assert_outcomes(passed=1)
    assert lines(result, resolve.NOT_DETECTED) == 1


def test_a_host_without_a_gpu_is_told_nothing(project: Project, host: Host) -> None:
    project.study(ONE)
    result = project.run("benchmarks", "--llem-json=report.json")
    result.assert_outcomes(passed=1)
    assert lines(result, resolve.NOT_DETECTED) == 0
    assert project.report()["notices"] == []


def test_detected_runners_can_be_selected_by_the_marker(project: Project, host: Host) -> None:
    host.daemon()
    host.program("nvidia-ctk")
    project.study(ONE + "images: {fake: img:1}\n")
    result = project.run("benchmarks", "--collect-only", "-q", "-m", "llem(runner='docker')")
    assert "benchmarks/s.study.yaml::a::c1" in result.outlines
    assert lines(result, resolve.DETECTED) == 0


# --- several backends ----------------------------------------------------------------------


def test_a_study_of_two_backends_is_moved_to_containers(project: Project, host: Host) -> None:
    host.daemon()  # for experiments on a CPU a daemon is all that is needed
    project.study("device: cpu\n" + TWO)
    result = project.run("benchmarks", "--llem-json=report.json")
    assert lines(result, resolve.elevated(["fake", "vllm"])) == 1
    result.assert_outcomes(errors=2)
    runners = {m["experiment"]: m["runner"] for m in project.report()["measurements"]}
    assert runners["b"]["source"] == "auto_elevated"
    assert runners["b"]["image"].startswith("vllm/vllm-openai:")
    assert runners["b"]["image_source"] == "default"


def test_a_study_of_two_backends_without_docker_is_refused(project: Project, host: Host) -> None:
    project.study(TWO)
    result = project.run("benchmarks")
    result.assert_outcomes(errors=2)
    assert lines(result, resolve.refused(["vllm", "fake"])) == 2


def test_only_selected_backends_count(project: Project, host: Host) -> None:
    project.study(TWO)
    project.run("benchmarks", "-m", "llem(backend='fake')").assert_outcomes(passed=1, deselected=1)


def test_runners_that_somebody_chose_are_obeyed(project: Project, host: Host) -> None:
    project.study(TWO + "runners: {fake: local, vllm: local}\n")
    result = project.run("benchmarks")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["E   backend vllm: vllm not installed", 'E   fix: pip install "pytest-llem[[]vllm[]]"']
    )


def test_an_absent_backend_that_nobody_chose_a_runner_for_is_skipped(
    project: Project, host: Host
) -> None:
    project.study(f"execution: {{cycles: 1}}\nexperiments: [{{id: a, {ABSENT}}}]\n")
    result = project.run("benchmarks", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED*benchmarks/s.study.yaml:*: backend vllm: vllm not installed*"]
    )


def test_local_and_docker_side_by_side_are_mixed(project: Project, host: Host) -> None:
    project.study(TWO + "runners: {fake: local, vllm: docker}\n")
    result = project.run("benchmarks")
    result.assert_outcomes(passed=1, errors=1)
    assert lines(result, resolve.MIXED) == 1


def test_an_elevated_backend_without_an_image_says_which_option_names_one(
    project: Project, host: Host
) -> None:
    host.daemon()
    project.study("device: cpu\n" + TWO)
    result = project.run("benchmarks")
    result.stdout.fnmatch_lines(["*no image for backend fake; name one, *fake=docker:<image>"])


def test_a_gate_selected_alone_is_refused_like_its_cycles(project: Project, host: Host) -> None:
    project.study(TWO + "runners: {vllm: docker}\nexpect: {energy_j: {max: 1000}}\n")
    result = project.run("benchmarks", "-k", "gate")
    result.assert_outcomes(errors=2, deselected=2)


def test_under_xdist_the_lines_come_once_from_the_controller(project: Project, host: Host) -> None:
    project.study(TWO + "runners: {fake: local, vllm: docker}\n")
    result = project.run("benchmarks", "-n2", "--llem-json=report.json")
    assert lines(result, resolve.MIXED) == 1
    assert project.report()["notices"] == [resolve.MIXED, NO_SMI]


# --- images --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "arguments", "variable", "ini", "image", "source"),
    [
        (
            "image: own:1\nimages: {fake: s:1}\n",
            ["docker:v:1"],
            "e:1",
            "i:1",
            "own:1",
            "experiment",
        ),
        ("images: {fake: s:1}\n", ["docker:h:5000/v:1"], "e:1", "i:1", "h:5000/v:1", "runner"),
        ("images: {fake: s:1}\n", ["docker"], "e:1", "i:1", "e:1", "env"),
        ("images: {fake: s:1}\n", ["docker"], "", "i:1", "s:1", "study"),
        ("", ["docker"], "", "i:1", "i:1", "ini"),
        ("", ["docker"], "", "", "u:1", "user_config"),
    ],
)
def test_the_image_comes_from_the_highest_source(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    arguments: list[str],
    variable: str,
    ini: str,
    image: str,
    source: str,
) -> None:
    monkeypatch.setenv("LLEM_IMAGE_FAKE", variable)
    project.pytester.makeini(f"[pytest]\nllem_images =\n  {f'fake = {ini}' if ini else ''}\n")
    (project.pytester.path / ".lem-config.yaml").write_text("images: {fake: u:1}\n")
    project.study(ONE + body)
    project.run("benchmarks", f"--llem-runner=fake={arguments[0]}", "--llem-json=report.json")
    (measurement,) = project.report()["measurements"]
    runner = measurement["runner"]
    assert (runner["image"], runner["image_source"]) == (image, source)


# --- other runners -------------------------------------------------------------------------


def test_a_runner_of_another_package_is_used_by_name(project: Project) -> None:
    project.study(ONE)
    result = project.run("benchmarks", "--llem-runner=fake=nice:7", "--llem-json=report.json")
    result.assert_outcomes(passed=1)
    (measurement,) = project.report()["measurements"]
    assert measurement["runner"]["mode"] == "nice"
    assert measurement["runner"]["argument"] == "7"
    assert measurement["measurement"]["subject"]["engine"]["nice"] == 7


# --- requirements --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("{gpus: 64}", "requires 64 GPUs, 0 found*"),
        ("{gpu_name: H9000}", "requires 1 GPU, 0 found*"),
        ("{backends: [vllm]}", "requires backend vllm: vllm not installed; pip install*"),
        ("{docker: true}", "requires docker, and no daemon of this host was found"),
        ("{docker: true, backends: [vllm]}", "requires docker, *; requires backend vllm: *"),
    ],
)
def test_what_a_study_requires_and_the_host_lacks_skips_it(
    project: Project, host: Host, monkeypatch: pytest.MonkeyPatch, asked: str, reason: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    project.study(ONE + f"requires: {asked}\nexpect: {{energy_j: {{max: 1000}}}}\n")
    result = project.run("benchmarks", "-rs")
    result.assert_outcomes(skipped=2)
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"SKIPPED*: {reason}"])


def test_what_is_there_is_no_reason_to_skip(project: Project, host: Host) -> None:
    project.study(ONE + "requires: {backends: [fake]}\n")
    project.run("benchmarks").assert_outcomes(passed=1)


def test_a_skipped_requirement_fails_where_strict(project: Project, host: Host) -> None:
    project.study(ONE + "requires: {backends: [vllm]}\n")
    result = project.run("benchmarks", "--llem-strict")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*skipped, and strict: requires backend vllm*"])


def test_requirements_are_looked_at_before_a_study_is_moved(project: Project, host: Host) -> None:
    project.study(
        """\
        execution: {cycles: 1}
        experiments:
          - {id: a}
          - {id: b, backend: vllm, requires: {backends: [vllm]}}
        """
    )
    project.run("benchmarks").assert_outcomes(passed=1, skipped=1)


def test_experiments_that_are_skipped_need_no_isolation(project: Project, host: Host) -> None:
    project.study(
        "execution: {cycles: 1}\nexperiments:\n  - {id: a}\n"
        "  - {id: b, backend: vllm, skip: not today}\n"
    )
    project.run("benchmarks").assert_outcomes(passed=1, skipped=1)


def test_collection_looks_at_no_gpu_and_at_no_container(project: Project, host: Host) -> None:
    host.daemon()
    project.study("device: cpu\nrequires: {gpus: 64}\n" + TWO)
    result = project.run("benchmarks", "--collect-only", "-q")
    assert result.ret == 0
    assert not any("GPU" in line or "Docker" in line for line in result.outlines)
