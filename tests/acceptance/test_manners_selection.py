"""What pytest's own options select, order and show of a study; the table is in README.md."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project, ids, ran

TWO = """\
execution: {cycles: 2}
experiments:
  - {id: alpha, expect: {energy_j: {max: 1000}}}
  - {id: beta}
"""
ALL = ["alpha::c1", "beta::c1", "alpha::c2", "alpha::gate", "beta::c2"]

BETA_FAILS = """\
execution: {cycles: 2}
experiments: [{id: alpha}, {id: beta, fake: {raise_in: run}}]
"""


def flaky(project: Project, first: str, second: str, name: str, more: str = "") -> None:
    """A study whose second experiment fails at its first cycle, and never again."""
    once = project.pytester.path / "once"
    project.study(
        f"""\
        execution: {{cycles: 2}}
        experiments:
          - {{id: {first}{more}}}
          - {{id: {second}, fake: {{fail_once: {once}}}}}
        """,
        name=name,
    )


def test_k_selects_by_experiment_cycle_backend_and_runner(project: Project) -> None:
    project.study(TWO)
    result = project.run("benchmarks", "-v", "-k", "alpha and (c1 or gate)")
    result.assert_outcomes(passed=2, deselected=3)
    assert ran(result) == ["alpha::c1 PASSED", "alpha::gate PASSED"]
    listed = project.run("benchmarks", "--collect-only", "-q", "-k", "fake and local")
    assert ids(listed) == [name for name in ALL if name != "alpha::gate"]


def test_m_selects_by_the_marker(project: Project) -> None:
    project.study(TWO)
    chosen = "llem(backend='fake', runner='local', cycle=2)"
    result = project.run("benchmarks", "-v", "-m", chosen)
    result.assert_outcomes(passed=2, deselected=3)
    assert ran(result) == ["alpha::c2 PASSED", "beta::c2 PASSED"]


def test_x_stops_at_the_first_failure(project: Project) -> None:
    project.study(BETA_FAILS)
    result = project.run("benchmarks", "-v", "-x")
    result.assert_outcomes(passed=1, failed=1)
    assert ran(result) == ["alpha::c1 PASSED", "beta::c1 FAILED"]
    assert len(project.journal()) == 2


def test_maxfail_stops_at_that_failure(project: Project) -> None:
    project.study(BETA_FAILS.replace("cycles: 2", "cycles: 3"))
    result = project.run("benchmarks", "-v", "--maxfail=2")
    result.assert_outcomes(passed=2, failed=2)
    assert ran(result)[-2:] == ["alpha::c2 PASSED", "beta::c2 FAILED"]
    assert len(project.journal()) == 4


def test_lf_runs_the_failed_item_alone(project: Project) -> None:
    flaky(project, "alpha", "beta", "s.study.yaml")
    project.run("benchmarks").assert_outcomes(passed=3, failed=1)
    again = project.run("benchmarks", "-v", "--lf")
    again.assert_outcomes(passed=1, deselected=3)
    assert ran(again) == ["beta::c1 PASSED"]


def test_lf_of_a_gate_alone_measures_its_cycles_on_demand(project: Project) -> None:
    project.study("id: alpha\nexecution: {cycles: 2}\nexpect: {requests_per_s: {min: 1000000}}\n")
    project.run("benchmarks").assert_outcomes(passed=2, failed=1)
    again = project.run("benchmarks", "-v", "--lf", "--llem-json=report.json")
    again.assert_outcomes(failed=1, deselected=2)
    assert ran(again) == ["alpha::gate FAILED"]
    again.stdout.fnmatch_lines(["E   requests_per_s: *(median of 2*"])
    assert [m["cycle"] for m in project.report()["measurements"]] == [1, 2]


def test_ff_brings_a_study_with_a_failure_forward_in_its_own_order(project: Project) -> None:
    project.study("execution: {cycles: 1}\nexperiments: [{id: one}, {id: two}]\n", "a.study.yaml")
    flaky(project, "alpha", "beta", "b.study.yaml")
    project.run("benchmarks").assert_outcomes(passed=5, failed=1)
    again = project.run("benchmarks", "-v", "--ff")
    again.assert_outcomes(passed=6)
    first = ["alpha::c1 PASSED", "beta::c1 PASSED", "alpha::c2 PASSED", "beta::c2 PASSED"]
    assert ran(again) == [*first, "one::c1 PASSED", "two::c1 PASSED"]


def test_sw_goes_on_from_the_failure_in_the_order_of_the_schedule(project: Project) -> None:
    flaky(project, "alpha", "beta", "s.study.yaml", ", expect: {energy_j: {max: 1000}}")
    stopped = project.run("benchmarks", "-v", "--sw")
    stopped.assert_outcomes(passed=1, failed=1)
    assert ran(stopped) == ["alpha::c1 PASSED", "beta::c1 FAILED"]
    again = project.run("benchmarks", "-v", "--sw")
    again.assert_outcomes(passed=4, deselected=1)
    assert ran(again) == [f"{name} PASSED" for name in ALL[1:]]


def test_deselect_leaves_out_an_experiment_or_a_cycle(project: Project) -> None:
    path = project.study(TWO).relative_to(project.pytester.path)
    result = project.run(
        "benchmarks", "-v", f"--deselect={path}::alpha", f"--deselect={path}::beta::c1"
    )
    result.assert_outcomes(passed=1, deselected=4)
    assert ran(result) == ["beta::c2 PASSED"]


def test_collect_only_lists_the_items_and_measures_nothing(project: Project) -> None:
    project.study(TWO)
    result = project.run("benchmarks", "--collect-only", "-q")
    assert result.ret == pytest.ExitCode.OK
    assert ids(result) == ALL
    assert not (project.pytester.path / "results").exists()


def test_setup_plan_measures_nothing_and_names_the_fixtures(project: Project) -> None:
    project.study(TWO)
    result = project.run("benchmarks", "--setup-plan")
    assert result.ret == pytest.ExitCode.OK
    assert ids(result) == ALL
    result.stdout.fnmatch_lines(
        [
            "*SETUP*S llem_journal*",
            "*SETUP*S llem_models*",
            "*alpha::c1 (fixtures used: llem_journal, llem_models*",
            "*alpha::gate (fixtures used: llem_journal*",
        ]
    )
    assert not (project.pytester.path / "results").exists()


def test_fixtures_per_test_names_the_fixtures_of_every_item(project: Project) -> None:
    project.study(TWO)
    result = project.run("benchmarks", "--fixtures-per-test")
    assert result.ret == pytest.ExitCode.OK
    headings = [line for line in result.outlines if " fixtures used by " in line]
    assert [line.strip("- ").removeprefix("fixtures used by ") for line in headings] == [
        name.partition("::")[2] for name in ALL
    ]
    assert sum(line.startswith("llem_models -- ") for line in result.outlines) == 4
    assert not (project.pytester.path / "results").exists()


def test_a_bare_pytest_leaves_studies_out_and_says_how_to_run_them(project: Project) -> None:
    project.study(TWO)
    project.pytester.makepyfile(test_own="def test_fine(): assert True")
    result = project.run("-v")
    result.assert_outcomes(passed=1)
    assert ran(result) == ["test_fine PASSED"]
    said = [line for line in result.outlines if line.startswith("llem: ")]
    assert said == ["llem: 1 study left out; name a path to run them: pytest benchmarks"]
