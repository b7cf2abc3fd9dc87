"""``--llem-resume``: a session that was cut short goes on, and nothing is measured twice."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pytest_llem.results.journal import Journal, read
from pytest_llem.results.outcome import Outcome
from tests.acceptance.conftest import Project, ran
from tests.acceptance.resuming import Resuming, rewritten

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(sys.platform != "linux", reason="sessions are killed by Linux's signals"),
]


@pytest.fixture
def resuming(project: Project, monkeypatch: pytest.MonkeyPatch) -> Resuming:
    return Resuming(project, monkeypatch)


TWO = """\
execution: {cycles: 2, gaps: {between_experiments: 0.01, between_cycles: 0.01, mode: fixed}}
experiments:
  - {id: a, expect: {energy_j: {max: 1000}}}
  - {id: b}
"""


def properties(path: Path) -> Iterator[tuple[str, str]]:
    """Test and session of the junit file's ``llem.resumed``."""
    for case in ElementTree.parse(path).iter("testcase"):
        for found in case.iter("property"):
            if found.get("name") == "llem.resumed":
                yield f"{case.get('classname')}{case.get('name')}", str(found.get("value"))


def test_a_session_that_was_killed_is_gone_on_with(resuming: Resuming) -> None:
    resuming.study(TWO)
    resuming.cut_short(after=3)
    assert resuming.made() == ["a1", "b1", "a2"]
    first = resuming.session()
    text = (first / "raw" / "benchmarks%2Fs.study.yaml.a.c1.jsonl").read_bytes()

    result = resuming.run("--llem-resume", "--junitxml=junit.xml")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            f"resuming {first.name}: 3 of 4 measurements taken over",
            f"resumed: 3 of 4 measurements made by {first.name}",
            f"a: resumed: c1, c2 of {first.name}",
        ]
    )
    names = ["a::c1 RESUMED", "b::c1 RESUMED", "a::c2 RESUMED", "a::gate PASSED", "b::c2 PASSED"]
    assert ran(result) == names
    result.assert_outcomes(passed=5)
    assert resuming.made() == ["b2"]
    own = [(name, first.name) for name in ("a1", "b1", "a2")]
    assert resuming.reported() == [*own, ("b2", None)]
    report = resuming.project.report()
    # Nothing was measured before it, so there was nothing to rest from.
    assert [row["gap"] is None for row in report["measurements"]] == [True, False, False, True]
    (gate,) = report["gates"]
    assert (gate["outcome"], gate["cycles"]) == ("passed", 2)
    assert [session for _, session in properties(resuming.path / "junit.xml")] == [first.name] * 3

    second = resuming.results / report["session"]
    assert (second / report["measurements"][0]["raw"]).read_bytes() == text
    assert len(list((second / "raw").iterdir())) == len(list((second / "logs").iterdir())) == 4
    # What it names is its own: the session before it may be deleted.
    rows = resuming.project.journal()[3:]
    assert rows == report["measurements"]


def test_a_resumed_session_is_gone_on_with_too(resuming: Resuming) -> None:
    resuming.study(TWO)
    resuming.cut_short(after=3)
    first = resuming.session().name
    # The second is killed when it has taken over no more than one; the others are not forgotten.
    resuming.cut_short("--llem-resume", after=1)
    second = resuming.session()
    assert second.name != first
    assert len(read(second)[0]) == 1
    resuming.made()
    result = resuming.run("--llem-resume", "-k", "c1")
    result.stdout.fnmatch_lines([f"resuming {second.name}: 2 of 2 measurements taken over"])
    assert resuming.made() == []
    assert resuming.reported() == [("a1", first), ("b1", first)]
    # From elsewhere, by a path, all is found too.
    result = resuming.run(f"--llem-resume={resuming.session()}")
    assert resuming.made() == ["b2"]
    assert resuming.reported() == [("a1", first), ("b1", first), ("a2", first), ("b2", None)]
    assert result.ret == 0


def test_head_and_base_of_a_comparison_are_gone_on_with(resuming: Resuming) -> None:
    resuming.study("execution: {cycles: 3, gaps: none}\nid: a\n")
    resuming.cut_short("--llem-ab=instant", after=3)
    resuming.made()
    result = resuming.run("--llem-ab=instant", "--llem-resume")
    assert sum(name.endswith(" RESUMED") for name in ran(result)) == 3
    result.assert_outcomes(passed=6)
    assert len(resuming.made()) == 3
    found = [(m["cycle"], m["arm"]) for m in resuming.project.report()["measurements"]]
    assert sorted(found) == [(cycle, arm) for cycle in (1, 2, 3) for arm in ("base", "head")]
    # Without a base it is another measurement: not one of a pair.
    result = resuming.run("--llem-resume")
    result.stdout.fnmatch_lines(["resuming *: none of 3 measurements taken over"])


# --- what isn't taken over -----------------------------------------------------------------

THREE = """\
execution: {cycles: 1, gaps: none}
experiments:
  - {id: a, instant: {x: 1}}
  - {id: b, output_tokens: 8}
  - {id: c, warmup: {prompts: 1}}
  - {id: d, timeout_s: 5}
"""


def test_what_changed_is_measured_anew_and_a_line_says_what(resuming: Resuming) -> None:
    resuming.study(THREE)
    resuming.run()
    resuming.made()
    first = resuming.session()
    changed = THREE.replace("x: 1", "x: 2").replace("output_tokens: 8", "output_tokens: 9")
    changed = changed.replace("prompts: 1}", "prompts: 2}").replace("timeout_s: 5", "timeout_s: 6")
    resuming.study(changed)
    result = resuming.run("--llem-resume")
    since = f"benchmarks/s.study.yaml: changed since {first.name}, so measured anew"
    result.stdout.fnmatch_lines(
        [
            f"resuming {first.name}: 1 of 4 measurements taken over",
            f"{since}: a: instant.x 1 → 2",
            f"{since}: b: output_tokens 8 → 9",
            f"{since}: c: warmup.prompts 1 → 2",
        ]
    )
    assert resuming.made() == ["a1", "b1", "c1"]
    assert resuming.reported() == [("a1", None), ("b1", None), ("c1", None), ("d1", first.name)]
    assert (
        f"resuming {first.name}: 1 of 4 measurements taken over"
        in resuming.project.report()["notices"]
    )


def test_another_host_and_another_engine_are_not_resumed_and_damage_is_named(
    project: Project,
) -> None:
    body = "execution: {cycles: 1, gaps: none}\nexperiments: [{id: a}, {id: b}, {id: c}, {id: d}]\n"
    project.study(body)
    project.run("benchmarks", "--llem-json=report.json")
    made = project.pytester.path / "results" / project.report()["session"]

    def change(outcome: Outcome) -> Outcome:
        assert outcome.measurement is not None
        testbed, subject = dict(outcome.measurement.testbed), dict(outcome.measurement.subject)
        if outcome.experiment == "a":
            testbed |= {"cpu": "Old CPU", "cpus": 1000}
        if outcome.experiment == "b":
            subject["versions"] = {"llem-fake-engine": "0.9"}
        measurement = dataclasses.replace(outcome.measurement, testbed=testbed, subject=subject)
        return dataclasses.replace(outcome, measurement=measurement)

    older = rewritten(made, "20200101T000000Z-0000", change)
    path = older / "journal.main.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b"1", b"2", 1), lines[3], b'{"stu']))
    result = project.run("benchmarks", f"--llem-resume={older.name}", "-v")
    since = f"benchmarks/s.study.yaml: changed since {older.name}, so measured anew"
    result.stdout.fnmatch_lines(
        [
            f"resuming {older.name}: 1 of 4 measurements taken over",
            f"{since}: a: CPU: Old CPU → *; CPUs: 1000 → *",
            f"{since}: b: llem-fake-engine 0.9 → 1.0",
            f"results/{older.name}/journal.main.jsonl:3: left out, it is not a whole outcome: *",
            f"results/{older.name}/journal.main.jsonl:5: left out, it is not a whole outcome: *",
        ]
    )
    assert ran(result) == ["a::c1 PASSED", "b::c1 PASSED", "c::c1 PASSED", "d::c1 RESUMED"]


# --- which session ------------------------------------------------------------------------


def test_a_session_that_cannot_be_resumed_ends_the_run_before_it_begins(
    resuming: Resuming,
) -> None:
    resuming.study("execution: {cycles: 1, gaps: none}\n")
    result = resuming.run("--llem-resume")
    result.stdout.fnmatch_lines(
        ["nothing to resume: no earlier session of these studies in results"]
    )
    assert result.ret == 0
    assert resuming.made() == ["s1"]
    session = resuming.session()

    result = resuming.run("--llem-resume=20990101T000000Z-beef")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    wrong = "--llem-resume: '20990101T000000Z-beef' is no session in *results"
    result.stderr.fnmatch_lines([f"ERROR: {wrong}; sessions there: {session.name}"])
    # An option without a value takes the word behind it.
    result = resuming.project.run("--llem-resume", "benchmarks")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*; to resume the latest session write --llem-resume last, or *"])

    # It still runs, as far as anybody can tell: this very process writes a journal of it.
    journal = Journal(session, "gw7")
    for option in ("--llem-resume", f"--llem-resume={session.name}"):
        result = resuming.run(option)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        running = f"{session.name} is still running: another pytest writes *journal.gw7.jsonl"
        result.stderr.fnmatch_lines(
            [f"ERROR: --llem-resume: {running}; wait until it has ended, or end it"]
        )
    result = resuming.run("--llem-resume", "-n1")
    result.stdout.fnmatch_lines([f"*--llem-resume: {session.name} is still running: *"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    journal.close()
    assert resuming.made() == []


def test_what_is_left_of_an_interrupted_session_is_planned(
    resuming: Resuming, monkeypatch: pytest.MonkeyPatch
) -> None:
    resuming.study(TWO)
    monkeypatch.setenv("DIE_HOW", "politely")
    monkeypatch.setenv("DIE_AFTER", "3")
    result = resuming.run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["cut short: --llem-resume goes on with what wasn't measured"])
    monkeypatch.delenv("DIE_AFTER")
    resuming.made()
    result = resuming.run("--llem-resume", "--llem-plan")
    result.stdout.fnmatch_lines(
        [
            f"resuming {resuming.session().name}: 3 of 4 measurements taken over",
            "  1 of 2 experiments, 1 of 4 measurements, 1 gate",
            "               b c2",
        ]
    )
    assert resuming.made() == []
