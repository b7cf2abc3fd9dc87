"""Studies in containers: the same worker, in a stock image, at a real daemon."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.runners import resolve
from tests.acceptance.conftest import HEADER, Project, addopts
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.images import BASE, TORCH
from tests.rig.fixtures import MakePowercap
from tests.rig.powercap import Zone

pytestmark = [pytest.mark.docker, pytest.mark.once]

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ONE = "id: a\ndevice: cpu\nexecution: {cycles: 1}\n"
FAKE = f"--llem-runner=fake=docker:{BASE}"
TWO = """\
execution: {cycles: 1}
device: cpu
experiments:
  - {id: a}
  - {id: b, backend: pytorch, model: ../models/tiny-llama, meters: auto}
"""
COUNTED = HEADER.replace("    meters: [fixed]\n", "")
FOUND = """\
import dataclasses
from pathlib import Path
from pytest_llem.runners.detect import detect

def pytest_llem_detect(config):
    here = Path("/")
    return dataclasses.replace(
        detect(), cli=here, socket=here, accessible=True, remote=None, container=None
    )
"""


def outcomes(project: Project) -> dict[str, Mapping[str, Any]]:
    """What became of each experiment, by its name."""
    return {one["experiment"]: one for one in project.report()["measurements"]}


@pytest.fixture
def contained(project: Project, docker_daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project on a host with a daemon that has the image ``BASE``."""
    monkeypatch.setenv("DOCKER_HOST", docker_daemon.url)
    return project


@pytest.fixture
def with_torch(project: Project, torch_daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a real model, on a host with a daemon that has torch in ``TORCH``."""
    monkeypatch.setenv("DOCKER_HOST", torch_daemon.url)
    shutil.copytree(BENCHMARKS / "models", project.pytester.path / "models")
    return project


# --- one container for each measurement ----------------------------------------------------


def test_a_measurement_in_a_container_is_that_of_this_host(
    contained: Project, docker_daemon: Daemon
) -> None:
    contained.study(ONE)
    contained.run("benchmarks", "--llem-json=report.json").assert_outcomes(passed=1)
    here = outcomes(contained)["a"]
    result = contained.run("benchmarks", "--llem-json=report.json", FAKE)
    result.assert_outcomes(passed=1)
    there = outcomes(contained)["a"]
    assert there["digest"] == here["digest"]
    assert there["measurement"]["tokens"] == here["measurement"]["tokens"]
    assert there["measurement"]["tokens_sha256"] == here["measurement"]["tokens_sha256"]
    assert there["measurement"]["integrity"] == []
    assert there["runner"]["mode"] == "docker"
    assert there["runner"]["image"] == BASE
    assert here["place"].keys() == {"lease"}
    assert there["place"]["image"] == BASE
    # What a third party's backend means by a model is its own affair: it may have to fetch it.
    assert there["place"]["network"] == "bridge"
    assert there["place"]["read_only"] is True
    assert there["place"]["gpus"] == []
    assert docker_daemon.client().containers.list(all=True) == []
    # Where all is well nothing is said of it.
    assert "reflight" not in result.stdout.str() + result.stderr.str()


def test_an_engine_that_fails_in_a_container_is_told_as_on_this_host(
    contained: Project, docker_daemon: Daemon
) -> None:
    contained.study(ONE + "fake: {raise_in: run}\n")
    result = contained.run("benchmarks", "--llem-json=report.json", FAKE)
    result.assert_outcomes(failed=1)
    failure = outcomes(contained)["a"]["failure"]
    assert failure["kind"] == "raised"
    assert "Traceback" in failure["log_tail"]
    assert outcomes(contained)["a"]["place"]["image"] == BASE
    assert docker_daemon.client().containers.list(all=True) == []


def test_an_image_without_the_engine_is_said_before_anything_is_loaded(
    contained: Project,
) -> None:
    shutil.copytree(BENCHMARKS / "models", contained.pytester.path / "models")
    header = "model: ../models/tiny-llama\nweights: random\n"
    contained.study("device: cpu\nexecution: {cycles: 1}\nid: a\n", header=header)
    runner = f"--llem-runner-pytorch=docker:{BASE}"
    result = contained.run("benchmarks", "--llem-json=report.json", runner)
    result.assert_outcomes(failed=1)
    failure = outcomes(contained)["a"]["failure"]
    assert failure["kind"] == "missing"
    assert BASE in failure["message"] + failure["fix"]
    assert "torch" in failure["message"]
    assert outcomes(contained)["a"]["place"]["network"] == "none"


def test_a_variable_of_an_experiment_reaches_its_worker(contained: Project) -> None:
    contained.study(ONE + "env: {LLEM_FAKE_MISSING: '1'}\n")
    result = contained.run("benchmarks", "--llem-json=report.json", FAKE)
    result.assert_outcomes(failed=1)
    assert "llem-fake-engine not installed" in outcomes(contained)["a"]["failure"]["message"]


def test_counters_of_the_host_are_read_for_a_container(
    contained: Project, powercap: MakePowercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = powercap([Zone(name="package-0", wave="const:110")])
    monkeypatch.setenv("LLEM_POWERCAP", str(tree.root))
    contained.study(ONE + "meters: [rapl]\nfake: {token_s: 0.05}\n", header=COUNTED)
    contained.run("benchmarks", "--llem-json=report.json", FAKE).assert_outcomes(passed=1)
    measurement = outcomes(contained)["a"]["measurement"]
    assert measurement["testbed"]["meters"] == {"rapl": ["cpu:0"]}
    (window,) = [window for window in measurement["windows"] if window["phase"] == "measure"]
    (reading,) = window["readings"]
    assert (reading["meter"], reading["method"]) == ("rapl", "counter")
    # On a machine that stands still the tree may have done so too.
    assert reading["energy_j"] is None or reading["energy_j"] > 0
    assert (reading["energy_j"] is None) == (reading["quality"] == "unmeasured")
    assert "another kernel" not in (reading["reason"] or "")


# --- where items really run ----------------------------------------------------------------


def test_a_study_of_two_backends_really_moves_to_containers(with_torch: Project) -> None:
    with_torch.pytester.makeconftest(FOUND)
    with_torch.study(TWO + f"images: {{fake: '{BASE}', pytorch: '{TORCH}'}}\n")
    result = with_torch.run("benchmarks", "--llem-json=report.json")
    result.assert_outcomes(passed=2)
    assert result.outlines.count(resolve.elevated(["fake", "pytorch"])) == 1
    found = outcomes(with_torch)
    assert {name: one["runner"]["source"] for name, one in found.items()} == dict.fromkeys(
        "ab", "auto_elevated"
    )
    images = {name: one["place"].get("image") for name, one in found.items()}
    assert images == {"a": BASE, "b": TORCH}


def test_mixed_runners_really_are(with_torch: Project) -> None:
    with_torch.pytester.makeconftest(FOUND)
    with_torch.study(TWO)
    runners = ("--llem-runner-pytorch=local", FAKE)
    result = with_torch.run("benchmarks", "--llem-json=report.json", *runners)
    result.assert_outcomes(passed=2)
    assert result.outlines.count(resolve.MIXED) == 1
    images = {name: one["place"].get("image") for name, one in outcomes(with_torch).items()}
    assert images == {"a": BASE, "b": None}


# --- the real engine -----------------------------------------------------------------------


def test_the_quickstart_in_a_container(
    pytester: pytest.Pytester, torch_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", addopts())
    monkeypatch.setenv("DOCKER_HOST", torch_daemon.url)
    shutil.copytree(BENCHMARKS, pytester.path / "benchmarks")
    path = pytester.path / "benchmarks" / "quickstart.study.yaml"
    path.write_text(path.read_text().replace("[1, 4, 16]", "[16]"))
    found = []
    for runner in ("local", f"docker:{TORCH}"):
        options = (f"--llem-runner-pytorch={runner}", "--llem-json=report.json", "--llem-cycles=1")
        result = pytester.runpytest_subprocess("benchmarks/quickstart.study.yaml", *options)
        result.assert_outcomes(passed=2)
        found.append(json.loads((pytester.path / "report.json").read_text())["measurements"])
    here, there = found
    assert [one["digest"] for one in here] == [one["digest"] for one in there]
    for key in ("tokens", "tokens_sha256", "integrity"):
        assert [one["measurement"][key] for one in here] == [
            one["measurement"][key] for one in there
        ]
    assert {(one["place"]["image"], one["place"]["network"]) for one in there} == {(TORCH, "none")}
    assert torch_daemon.client().containers.list(all=True) == []
