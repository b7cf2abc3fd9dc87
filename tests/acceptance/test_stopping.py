"""When a study stops measuring: too many failures of a backend, or no time left."""

from __future__ import annotations

import dataclasses

import pytest

from pytest_llem.results.outcome import Outcome
from tests.acceptance.conftest import Project, ran
from tests.acceptance.resuming import Resuming, rewritten

pytestmark = pytest.mark.once

FAILING = """\
execution: {cycles: 3, max_failures: 2}
runners: {fake: local, other: local}
expect: {energy_j: {max: 1000}}
experiments:
  - {id: a, fake: {raise_in: load}}
  - {id: b}
  - {id: c, backend: other}
"""


def test_after_max_failures_the_rest_of_the_backend_is_skipped(project: Project) -> None:
    project.study(FAILING)
    project.study("id: d\nexecution: {cycles: 1}\nname: another\n", name="z.study.yaml")
    result = project.run("benchmarks", "-v", "-rs", "--llem-json=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert ran(result) == [
        *("a::c1 FAILED", "b::c1 PASSED", "c::c1 PASSED"),
        *("a::c2 FAILED", "b::c2 SKIPPED", "c::c2 PASSED"),
        # The gates judge what there is.
        *("a::c3 SKIPPED", "a::gate FAILED", "b::c3 SKIPPED", "b::gate PASSED"),
        *("c::c3 PASSED", "c::gate PASSED", "d::c1 PASSED"),
    ]
    reason = "max_failures: 2 measurements of fake failed, the rest of this backend is skipped"
    result.stdout.fnmatch_lines(
        [
            "E   2 of 3 cycles failed: *",
            "a              0/3 *",
            "b              1/3 *",
            "c              3/3 *",
            "b: gate passed: energy_j: *(median of 1); 1 of 3 cycles measured",
            f"benchmarks/s.study.yaml: {reason}",
            f"SKIPPED * benchmarks/s.study.yaml:1[34]: {reason}",
        ]
    )
    skipped = [m for m in project.report()["measurements"] if m["skipped"]]
    assert [m["skipped"] for m in skipped] == [reason] * 3


def test_failures_that_a_study_expects_stop_nothing(project: Project) -> None:
    project.study(
        """\
        execution: {cycles: 2, max_failures: 1}
        experiments:
          - {id: a, fake: {raise_in: load}, xfail: known}
          - {id: b}
        """
    )
    result = project.run("benchmarks")
    result.assert_outcomes(passed=2, xfailed=2)
    assert result.ret == 0


def test_another_try_of_what_failed_is_no_other_measurement(project: Project) -> None:
    project.switch_on("rerunfailures")
    once = project.pytester.path / "once"
    project.study(
        f"id: a\nexecution: {{cycles: 2, max_failures: 1}}\nfake: {{fail_once: {once}}}\n"
    )
    result = project.run("benchmarks", "--reruns=1")
    result.assert_outcomes(passed=2)
    assert "rerun" in result.stdout.str()
    assert result.ret == 0


def test_what_has_no_time_left_is_not_begun(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long a measurement takes is known from those before it. To have one that takes days, a
    # session is made that says so, and resumed.
    resuming = Resuming(project, monkeypatch)
    resuming.study(
        """\
        execution: {cycles: 3, time_budget_s: 100000, gaps: none}
        expect: {duration_s: {max: 1000}}
        experiments: [{id: slow}, {id: quick}]
        """
    )
    resuming.run("-k", "c1")
    resuming.made()
    days = rewritten(resuming.session(), "20200101T000000Z-0000", _took_days)
    result = resuming.run(f"--llem-resume={days.name}", "-rs")
    assert result.ret == 0
    assert ran(result) == [
        *("slow::c1 RESUMED", "quick::c1 RESUMED", "slow::c2 SKIPPED", "quick::c2 PASSED"),
        *("slow::c3 SKIPPED", "slow::gate PASSED", "quick::c3 PASSED", "quick::gate PASSED"),
    ]
    assert resuming.made() == ["quick2", "quick3"]
    rest = "s of 100000 s are left, and it takes about 1e+06 s, as the longest of slow did"
    result.stdout.fnmatch_lines(
        [
            "slow: gate passed: duration_s: *(median of 1); 1 of 3 cycles measured",
            "benchmarks/s.study.yaml: time_budget_s: no time for all of it; --llem-resume goes on*",
            f"SKIPPED * benchmarks/s.study.yaml:11: time_budget_s: * {rest}",
        ]
    )
    # The next session has a budget of its own; strict, it fails what it can't make.
    strict = resuming.run("--llem-resume", "--llem-strict", "-k", "slow and not gate")
    strict.assert_outcomes(passed=1, errors=2)
    strict.stdout.fnmatch_lines([f"benchmarks/s.study.yaml:11: skipped, and strict: * {rest}"])


def _took_days(outcome: Outcome) -> Outcome:
    assert outcome.measurement is not None
    (window,) = outcome.measurement.windows
    if outcome.experiment == "slow":
        window = dataclasses.replace(window, duration_s=1e6)
    measurement = dataclasses.replace(outcome.measurement, windows=(window,))
    return dataclasses.replace(outcome, measurement=measurement)
