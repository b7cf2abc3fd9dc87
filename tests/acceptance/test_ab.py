"""A/B comparisons: base and head in turns, judged pair by pair, on a metric without any noise."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project, environment_with, ran
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.images import image

pytestmark = pytest.mark.once

STUDY = "id: a\nworker: forked\nexecution: {cycles: 3}\n"
ONE = "id: a\nworker: forked\nexecution: {cycles: 1}\n"
BUDGET = "--llem-compare-fail=peak_memory_bytes:5%"
OLD, NEW = "--llem-ab=local:old", "--llem-runner=fake=local:new"
TURNS = ["a::c1-base", "a::c1", "a::c2", "a::c2-base", "a::c3", "a::c3-base"]


@pytest.fixture
def upgraded(project: Project) -> Project:
    """A project with two environments: the engine of ``new`` needs a tenth more memory."""
    environment_with(project.pytester.path / "old", LLEM_FAKE_VERSION="1.0")
    environment_with(project.pytester.path / "new", LLEM_FAKE_VERSION="2.0")
    return project


def turns(project: Project) -> list[str]:
    """What was measured, in order."""
    return [f"{o['experiment']}::{o['node'].rpartition('::')[2]}" for o in project.journal()]


def test_a_head_is_judged_beside_its_base(upgraded: Project) -> None:
    upgraded.study(STUDY)
    result = upgraded.run(
        "benchmarks", "-v", OLD, NEW, BUDGET, "--llem-json=report.json", "--junit-xml=junit.xml"
    )
    assert ran(result) == [*(f"{turn} PASSED" for turn in TURNS), "a::gate FAILED"]
    python = upgraded.pytester.path / "old" / "bin" / "python"
    judged = (
        "peak_memory_bytes: 1.10 MB, the base 1.00 MB: pair by pair 10.0 % worse"
        " (3 pairs, 95 %: +6.3 % to +13.8 %), budget 5 %; finds 6.09 % or more;"
        f" with llem-fake-engine 1.0 → 2.0; base local:{python}"
    )
    result.stdout.fnmatch_lines(
        [
            "benchmarks/s.study.yaml:1: gate of a failed",
            f"E   {judged}",
            "a (base) *3/3*",
            "a *3/3*failed*",
            "a: output_tokens_per_s: *, the base *: pair by pair *; with *",
            f"a: gate failed: {judged}",
        ]
    )
    assert turns(upgraded) == TURNS
    arms = ["base", "head", "head", "base", "head", "base"]
    assert [line["arm"] for line in upgraded.journal()] == arms
    report = upgraded.report()
    assert [row["arm"] for row in report["measurements"]] == arms
    (first,) = {row["runner"]["argument"] for row in report["measurements"] if row["arm"] == "base"}
    assert first == str(python)
    rows = {row["arm"]: row for row in report["experiments"]}
    assert {row["experiment"] for row in rows.values()} == {"a"}
    assert rows["base"]["statistics"]["peak_memory_bytes"]["median"] == 1_000_000
    assert rows["head"]["statistics"]["peak_memory_bytes"]["median"] == 1_100_000
    (verdict,) = report["gates"][0]["verdicts"]
    assert verdict["comparison"]["pairs"] == 3
    assert 0.06 < verdict["comparison"]["low"] < 0.1 < verdict["comparison"]["high"] < 0.14
    cases = ElementTree.parse(upgraded.pytester.path / "junit.xml").iter("testcase")
    assert [case.attrib["name"] for case in cases] == [
        *(turn.partition("::")[2] for turn in TURNS),
        "gate",
    ]


def test_a_gate_alone_measures_both(upgraded: Project) -> None:
    upgraded.study(f"{STUDY}expect: {{peak_memory_bytes: {{max_regression: 5%}}}}\n")
    result = upgraded.run("benchmarks/s.study.yaml::a::gate", OLD, "--llem-strict")
    result.assert_outcomes(passed=1)
    assert turns(upgraded) == ["a::gate"] * 6
    assert [(line["cycle"], line["arm"]) for line in upgraded.journal()] == [
        *((1, "base"), (1, "head"), (2, "head"), (2, "base"), (3, "head"), (3, "base")),
    ]
    result.stdout.fnmatch_lines(["a: gate passed: *: pair by pair the same (3 pairs, *"])


def test_one_xdist_worker_gets_both_arms_and_none_keeps_an_engine(upgraded: Project) -> None:
    pytest.importorskip("xdist")
    upgraded.study(
        "worker: reuse\nexecution: {cycles: 1}\nexperiments: [{id: a}, {id: b, batch_size: 2}]\n"
    )
    result = upgraded.run("benchmarks", OLD, BUDGET, "-n2", "-v")
    result.assert_outcomes(passed=6)
    journals = sorted(upgraded.pytester.path.glob("results/*/journal.*.jsonl"))
    lines = [[json.loads(line) for line in path.read_text().splitlines()] for path in journals]
    # Without a GPU nobody measures beside it.
    assert [[f"{o['experiment']} {o['arm']}" for o in own] for own in lines] == [
        ["a base", "a head", "b base", "b head"],
    ]
    modes = {o["measurement"]["testbed"]["worker"] for own in lines for o in own}
    assert modes == {"fresh"}
    said = [line for line in result.outlines if "no engine is kept" in line]
    (line,) = said
    assert line == (
        "benchmarks/s.study.yaml: --llem-ab: no engine is kept: as two of them don't share a"
        " device, each measurement of base and head loads its own (worker: fresh)"
    )
    result.stdout.fnmatch_lines(["a: gate passed: *inconclusive: 1 pair of cycles is too few*"])


def test_a_base_without_the_engine_fails_with_the_command_that_mends_it(upgraded: Project) -> None:
    bare = environment_with(upgraded.pytester.path / "bare", LLEM_FAKE_MISSING="1")
    upgraded.study(ONE)
    result = upgraded.run("benchmarks", "--llem-ab=local:bare", BUDGET, "-v")
    assert ran(result) == ["a::c1-base FAILED", "a::c1 PASSED", "a::gate FAILED"]
    python = bare / "bin" / "python"
    missing = f"llem-fake-engine not installed in the environment of {python}"
    result.stdout.fnmatch_lines(
        [
            f"benchmarks/s.study.yaml:1: a cycle 1 of the base failed (local:{python} runner)",
            f"E   backend fake: {missing}",
            f"E   fix: {python} -m pip install llem-fake-engine",
            f"E   1 of 1 cycles of the base failed: backend fake: {missing}",
        ]
    )
    # What failed, once more: of one arm alone nothing is judged.
    result = upgraded.run("benchmarks", OLD, BUDGET, "-v", "--lf", "-rs")
    assert ran(result) == ["a::c1-base PASSED", "a::gate SKIPPED"]
    result.stdout.fnmatch_lines(
        ["*no cycle of the head was selected; run the experiment: pytest benchmarks/s*.yaml::a"]
    )


def test_k_selects_and_the_plan_shows_both(upgraded: Project) -> None:
    upgraded.study(STUDY)
    python = upgraded.pytester.path / "old" / "bin" / "python"
    result = upgraded.run("benchmarks", OLD, BUDGET, "--llem-plan", "-k", "c1 or c2")
    start = result.outlines.index("s (benchmarks/s.study.yaml)")
    # Lines are broken where paths are long.
    assert " ".join(" ".join(result.outlines[start + 1 :]).split()).startswith(
        "1 experiment, 4 of 6 measurements order interleaved a c1-base, a c1, a c2, a c2-base"
        f" runner fake base local:{python} (ab) fake head local (default)"
    )
    assert "  engine loads 4 (worker: forked)" in result.outlines
    assert upgraded.journal() == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            ["--llem-ab=podman"],
            "--llem-ab: 'podman' is no runner; accepted: local, local:<python>, docker, ",
        ),
        (["--llem-ab=local:nowhere"], "--llem-ab: local:nowhere: no Python is there; name an "),
        (["--llem-ab=fke=local"], "--llem-ab: 'fke=local': unknown backend 'fke'; did you mean "),
        (["--llem-ab="], "--llem-ab: '' is no runner; accepted: local, "),
        (["--llem-ab=local", "--llem-compare=x"], "--llem-ab compares with a base that is meas"),
    ],
)
def test_a_base_that_is_none_is_said_before_anything_is_measured(
    project: Project, monkeypatch: pytest.MonkeyPatch, options: list[str], error: str
) -> None:
    project.study(ONE)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "third_party"))
    with pytest.raises(pytest.UsageError) as caught:
        project.pytester.parseconfigure("benchmarks", *options)
    assert str(caught.value).startswith(error)


@pytest.mark.docker
def test_two_images_are_compared_and_no_engine_is_kept(
    project: Project, docker_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker_daemon.url)
    client = docker_daemon.client()
    old = image(client, "llem/engine:1", env={"LLEM_FAKE_VERSION": "1.0"})
    new = image(client, "llem/engine:2", env={"LLEM_FAKE_VERSION": "2.0"})
    project.study(
        f"id: a\ndevice: cpu\nexecution: {{cycles: 1}}\nimages: {{fake: {new}}}\n"
        "docker: {strategy: persistent}\n"
    )
    runners = [f"--llem-ab=docker:{old}", "--llem-runner=fake=docker"]
    result = project.run("benchmarks", *runners, BUDGET, "-v")
    assert ran(result) == ["a::c1-base PASSED", "a::c1 PASSED", "a::gate PASSED"]
    subject = f"with llem-fake-engine 1.0 → 2.0; with image {old} * → {new} *"
    result.stdout.fnmatch_lines([f"a: gate passed: *; {subject}; base docker:{old}"])
    modes = {line["measurement"]["testbed"]["worker"] for line in project.journal()}
    assert modes == {"fresh"}
    assert client.containers.list(all=True) == []


def test_a_container_needs_an_image(project: Project) -> None:
    project.study(ONE)
    result = project.run("benchmarks", "--llem-ab=docker")
    result.stdout.fnmatch_lines(
        ["--llem-ab: docker: there is no image for backend fake; name one: fake=docker:<image>"]
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
