"""In a workflow of GitHub's each failure stands at its line of the study, once."""

from __future__ import annotations

import fnmatch
import re

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.once

FAILING = """\
worker: forked
execution: {cycles: 1}
experiments:
  - {id: fine}
  - {id: slow, expect: {requests_per_s: {min: 1e9}, energy_j: {max: 0}}}
  - {id: broken, fake: {raise_in: run}}
"""
REFUSING = """
import pytest

@pytest.fixture(autouse=True)
def rack(request):
    if "fine" in request.node.nodeid:
        pytest.fail("no rack: north, 7", pytrace=False)
"""
SETUP = "::error file=*/benchmarks/s.study.yaml,line=12,title=[[]llem] fine c1::no rack: north, 7"
GATE = (
    "::error file=*/benchmarks/s.study.yaml,line=13,title=gate of slow failed::requests_per_s: *"
    " < 1,000,000,000/s, -* %25 (median of 1)%0Aenergy_j: * > 0.00 J (median of 1)"
)
CYCLE = (
    "::error file=*/benchmarks/s.study.yaml,line=14,title=broken cycle 1 failed (local runner)"
    "::fake failed in measure: RuntimeError: no luck in run"
)


@pytest.fixture
def workflow(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A job whose repository has the project in a folder."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.pytester.path.parent))
    project.study(FAILING)
    project.pytester.makeconftest(REFUSING)
    return project


def commands(project: Project, *options: str) -> list[str]:
    """What GitHub would make annotations of: commands in both streams of a session."""
    result = project.run("benchmarks", *options)
    result.assert_outcomes(passed=1, failed=2, errors=1)
    lines = [*result.outlines, *result.errlines]
    found = [line for line in lines if line.startswith("::error ")]
    folder = project.pytester.path.name
    assert all(line.startswith(f"::error file={folder}/benchmarks/") for line in found)
    return found


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["alone", "xdist"])
def test_each_failure_stands_once_at_its_line(workflow: Project, options: tuple[str, ...]) -> None:
    found = commands(workflow, *options)
    wanted = [SETUP, GATE, CYCLE]
    assert len(found) == len(wanted)
    assert all(len(fnmatch.filter(found, pattern)) == 1 for pattern in wanted), found


def test_what_another_plugin_tells_of_is_not_told_twice(workflow: Project) -> None:
    pytest.importorskip("pytest_github_actions_annotate_failures")
    workflow.switch_on("annotate")
    found = commands(workflow, "-q")
    # That plugin has no line for what fails in setup, and the others in words of its own.
    assert len(fnmatch.filter(found, SETUP)) == 1
    assert sorted(re.findall(r"line=(\d+)", "".join(found))) == ["12", "13", "14"]


def test_every_problem_of_a_study_stands_at_its_line(workflow: Project) -> None:
    # Under xdist, which runs the other studies all the same: their gates don't measure again.
    pytest.importorskip("xdist")
    workflow.study("bach_size: 4\nseed: x\n", name="bad.study.yaml")
    result = workflow.run("benchmarks", "-n2", "--llem-json=report.json")
    where = f"::error file={workflow.pytester.path.name}/benchmarks/bad.study.yaml,line="
    result.stdout.fnmatch_lines(
        [f"{where}9,title=study::bach_size: unknown field*", f"{where}10,title=study::seed: *"]
    )
    result.assert_outcomes(passed=1, failed=2, errors=2)
    report = workflow.report()
    made = sorted(outcome["node"].partition("::")[2] for outcome in report["measurements"])
    assert made == ["broken::c1", "fine::c1", "slow::c1"]
