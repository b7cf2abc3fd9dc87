"""Items: their names and order, which studies are collected, how they end."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project, ids

TWO = """\
execution: {cycles: 2}
experiments:
  - {id: a, expect: {energy_j: {max: 1000}}}
  - {id: b}
"""


def test_the_order_is_interleaved_with_each_gate_behind_its_last_cycle(project: Project) -> None:
    project.study(TWO)
    result = project.run("benchmarks", "--collect-only", "-q")
    assert ids(result) == ["a::c1", "b::c1", "a::c2", "a::gate", "b::c2"]


def test_all_pass_and_the_table_shows_them(project: Project) -> None:
    project.study(TWO)
    result = project.run("benchmarks")
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["s (benchmarks/s.study.yaml)", "experiment *", "a  *2/2*passed"])


def test_a_failing_experiment_does_not_stop_the_study(project: Project) -> None:
    project.study(
        "execution: {cycles: 1}\nexperiments:\n  - {id: a, fake: {raise_in: run}}\n  - {id: b}\n"
    )
    result = project.run("benchmarks")
    result.assert_outcomes(failed=1, passed=1)


def test_a_gate_named_alone_measures_by_itself(project: Project) -> None:
    path = project.study(TWO)
    result = project.run(f"{path}::a::gate", "--llem-json=report.json")
    result.assert_outcomes(passed=1)
    assert project.report()["gates"][0]["cycles"] == 2


def test_a_gate_judges_the_selected_cycles_and_says_how_many(project: Project) -> None:
    project.study("id: a\nexecution: {cycles: 3}\nexpect: {requests_per_s: {min: 1000000}}\n")
    result = project.run("benchmarks", "-k", "c1 or c3 or gate")
    result.stdout.fnmatch_lines(["E   requests_per_s: *(median of 2*"])
    result.assert_outcomes(passed=2, failed=1)


def test_junit_calls_an_estimate_an_estimate(project: Project) -> None:
    project.study("experiments: [{id: a, meters: [estimate]}]\nexecution: {cycles: 1}\n")
    project.run("benchmarks", "--junitxml=junit.xml")
    text = (project.pytester.path / "junit.xml").read_text()
    assert 'name="llem.estimated.energy_j"' in text
    assert 'name="llem.energy_j"' not in text
    assert 'name="llem.requests_per_s"' in text


def test_testpaths_count_as_named(project: Project) -> None:
    project.study(TWO)
    project.pytester.makeini("[pytest]\ntestpaths = benchmarks")
    result = project.run("--collect-only", "-q")
    assert len(ids(result)) == 5


def test_llem_collect_always_lifts_the_rule(project: Project) -> None:
    project.study(TWO)
    project.pytester.makeini("[pytest]\nllem_collect = always")
    assert len(ids(project.run("--collect-only", "-q"))) == 5


def test_a_yaml_file_is_collected_when_named_whatever_it_is_called(project: Project) -> None:
    path = project.study(TWO, name="anything.yaml")
    assert ids(project.run("benchmarks", "--collect-only", "-q")) == []
    assert len(ids(project.run(str(path), "--collect-only", "-q"))) == 5


def test_errors_of_a_study_come_at_collection_all_at_once(project: Project) -> None:
    project.study("id: a\nbatch_szie: 3\nexecution: {cycles: 0}\nexpect: {joules: {max: 1}}\n")
    result = project.run("benchmarks")
    result.stdout.fnmatch_lines(
        [
            "benchmarks/s.study.yaml:10: batch_szie: unknown field; did you mean batch_size?",
            "benchmarks/s.study.yaml:11: execution.cycles: should be greater than or equal to 1*",
            "benchmarks/s.study.yaml:12: expect.joules: unknown metric; *",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    assert result.ret == pytest.ExitCode.INTERRUPTED


def test_other_tests_keep_their_places_among_studies(project: Project) -> None:
    project.study(TWO)
    (project.folder / "test_a.py").write_text("def test_one(): pass\n")
    result = project.run("benchmarks", "--collect-only", "-q")
    lines = [line for line in result.outlines if "::" in line]
    assert lines[-1] == "benchmarks/test_a.py::test_one"
    assert len(lines) == 6


def test_a_bare_pytest_under_xdist_leaves_studies_out_too(project: Project) -> None:
    project.study(TWO)
    project.pytester.makepyfile("def test_fine(): assert True")
    project.run("-n1").assert_outcomes(passed=1)
