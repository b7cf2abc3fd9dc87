"""Every row of the gate's table: terminal text, junit, JSON and exit status of a real run."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.conftest import HEADER, Project


@dataclass(frozen=True)
class Row:
    """A situation, and what a gate must make of it.

    Attributes:
        body: of the study, behind the common fields; MARK is a path that doesn't exist yet.
        text: what the terminal must say.
        outcome: of the gate, in junit's and the report's words.
        status: of pytest.
        options: of the command line.
        meter: that the study names.
        conftest: of the project.
    """

    body: str
    text: str
    outcome: str
    status: int
    options: tuple[str, ...] = ()
    meter: str = "fixed"
    conftest: str = ""


LIMIT = "execution: {cycles: 2}\nexpect: "
ESTIMATED = LIMIT + "{energy_j: {max: 1000}}\n"
NO_RACK = """
import pytest

@pytest.fixture(autouse=True)
def rack(request):
    if request.node.name != "gate":
        pytest.skip("no rack")
"""

ROWS = {
    "limit kept": Row(LIMIT + "{energy_j: {max: 1000}}\n", "*a*2/2*passed*", "passed", 0),
    "limit violated": Row(
        LIMIT + "{requests_per_s: {min: 1000000}}\n",
        "E   requests_per_s: *s < 1,000,000/s, -* % (median of 2*)",
        "failed",
        1,
    ),
    "k of n cycles failed": Row(
        "fake: {fail_once: MARK}\n" + LIMIT + "{energy_j: {max: 1000}}\n",
        "E   1 of 2 cycles failed: fake failed in measure: RuntimeError: failed once",
        "failed",
        1,
    ),
    "all cycles skipped": Row(
        ESTIMATED,
        "a: gate skipped: all cycles were skipped: no rack",
        "skipped",
        0,
        conftest=NO_RACK,
    ),
    "all cycles skipped, strict": Row(
        ESTIMATED,
        "E   2 of 2 cycles failed: skipped, and strict: no rack",
        "failed",
        1,
        ("--llem-strict",),
        conftest=NO_RACK,
    ),
    "metric null": Row(
        LIMIT + "{energy_j: {max: 1000}}\n",
        "E   energy_j: unmeasured, wanted ≤ 1.00 kJ: 2 of 2 cycles: cpu:0: the counter went away",
        "failed",
        1,
        meter="broken",
    ),
    "metric estimated": Row(
        ESTIMATED,
        "a: gate skipped: energy_j: estimated, not measured, so not judged;"
        " --llem-allow-estimated judges it",
        "skipped",
        0,
        meter="estimate",
    ),
    "metric estimated, allowed": Row(
        ESTIMATED, "*a*2/2*est.*passed*", "passed", 0, ("--llem-allow-estimated",), "estimate"
    ),
    "metric estimated, strict": Row(
        ESTIMATED,
        "E   energy_j: estimated, not measured, so *",
        "failed",
        1,
        ("--llem-strict",),
        "estimate",
    ),
    "one judged, one estimated": Row(
        LIMIT + "{energy_j: {max: 1000}, requests_per_s: {min: 0.001}}\n",
        "a: gate skipped: energy_j: estimated, *",
        "passed",
        0,
        meter="estimate",
    ),
    "reading short": Row(
        LIMIT + "{energy_j: {max: 1000}}\n", "*a*2/2*passed*", "passed", 0, (), "short"
    ),
    "reading short, strict": Row(
        LIMIT + "{energy_j: {max: 1000}}\n",
        "E   energy_j: *reading short: the window is shorter than the counter's period",
        "failed",
        1,
        ("--llem-strict",),
        "short",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_table(project: Project, tmp_path: Path, name: str) -> None:
    row = ROWS[name]
    body = row.body.replace("MARK", str(tmp_path / "mark"))
    project.study(
        "id: a\n" + body, header=HEADER.replace("meters: [fixed]", f"meters: [{row.meter}]")
    )
    project.pytester.makeconftest(row.conftest)
    result = project.run(
        "benchmarks", "--llem-json=report.json", "--junitxml=junit.xml", *row.options
    )
    result.stdout.fnmatch_lines([row.text])
    assert result.ret == row.status
    (gate,) = project.report()["gates"]
    assert gate["outcome"] == row.outcome
    assert project.report()["exit_status"] == row.status
    assert junit_outcome(project.pytester.path / "junit.xml", "gate") == row.outcome


def junit_outcome(path: Path, name: str) -> str:
    """``passed``, ``failed`` or ``skipped`` of a test in a junit file."""
    (case,) = [c for c in ElementTree.parse(path).iter("testcase") if c.get("name") == name]
    if case.find("failure") is not None:
        return "failed"
    return "passed" if case.find("skipped") is None else "skipped"


def test_a_violated_limit_names_the_line_of_the_study(project: Project) -> None:
    project.study("id: a\nexpect:\n  energy_j: {max: 1000}\n  requests_per_s: {min: 1000000}\n")
    result = project.run("benchmarks")
    result.stdout.fnmatch_lines(["benchmarks/s.study.yaml:12: gate of a failed"])
    result.stdout.fnmatch_lines(["FAILED benchmarks/s.study.yaml::a::gate - requests_per_s: *"])
    result.stdout.no_fnmatch_line("::error *")  # that is for GitHub's logs
    assert result.ret == 1


def test_strict_fails_a_measurement_whose_integrity_is_flawed(project: Project) -> None:
    project.study("id: a\nfake: {drop_tokens: 1}\nexecution: {cycles: 1}\n")
    relaxed = project.run("benchmarks")
    relaxed.stdout.fnmatch_lines(["a: integrity: 2 of 2 requests did not produce exactly 3 tokens"])
    strict = project.run("benchmarks", "--llem-strict")
    strict.stdout.fnmatch_lines(["E   integrity: 2 of 2 requests did not produce exactly 3 tokens"])
    assert (relaxed.ret, strict.ret) == (0, 1)
