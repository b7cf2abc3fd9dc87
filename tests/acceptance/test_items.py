"""Items behave as pytest's users expect: names, order, selection, last-failed, junit."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from tests.acceptance.conftest import Project

TWO = """\
execution: {cycles: 2}
experiments:
  - {id: a, expect: {energy_j: {max: 1000}}}
  - {id: b}
"""


def ids(result: pytest.RunResult, word: str = "") -> list[str]:
    """Node ids without the file, of the lines that hold a word, in the order printed."""
    lines = [line for line in result.outlines if "::" in line and word in line]
    return [line.split()[0].partition("::")[2] for line in lines]


def test_the_order_is_interleaved_with_each_gate_behind_its_last_cycle(project: Project) -> None:
    project.study(TWO)
    result = project.run("benchmarks", "--collect-only", "-q")
    assert ids(result) == ["a::c1", "b::c1", "a::c2", "a::gate", "b::c2"]


def test_collect_only_measures_nothing(project: Project) -> None:
    project.study(TWO)
    result = project.run("benchmarks", "--collect-only")
    assert result.ret == 0
    assert not (project.pytester.path / "results").exists()


def test_all_pass_and_the_table_shows_them(project: Project) -> None:
    project.study(TWO)
    result = project.run("benchmarks")
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["s (benchmarks/s.study.yaml)", "experiment *", "a  *2/2*passed"])


def test_k_selects_by_experiment_cycle_backend_and_runner(project: Project) -> None:
    project.study(TWO)
    for expression, count in {"b": 2, "c1": 2, "a and gate": 1, "fake and local": 4}.items():
        # b stands in benchmarks too, so look for the exact name
        chosen = ids(project.run("benchmarks", "--collect-only", "-q", "-k", expression))
        assert len(chosen) >= count, (expression, chosen)


def test_m_selects_by_the_marker(project: Project) -> None:
    project.study(TWO)
    result = project.run("benchmarks", "--collect-only", "-q", "-m", "llem(cycle=2)")
    assert ids(result) == ["a::c2", "b::c2"]


def test_x_stops_at_the_first_failure(project: Project) -> None:
    project.study(
        "execution: {cycles: 2}\nexperiments:\n  - {id: a, fake: {raise_in: run}}\n  - {id: b}\n"
    )
    result = project.run("benchmarks", "-x")
    result.assert_outcomes(failed=1)


def test_a_failing_experiment_does_not_stop_the_study(project: Project) -> None:
    project.study(
        "execution: {cycles: 1}\nexperiments:\n  - {id: a, fake: {raise_in: run}}\n  - {id: b}\n"
    )
    result = project.run("benchmarks")
    result.assert_outcomes(failed=1, passed=1)


def test_lf_runs_the_failed_item_alone(project: Project) -> None:
    project.study(
        "execution: {cycles: 1}\nexperiments:\n  - {id: a, fake: {raise_in: run}}\n  - {id: b}\n"
    )
    project.run("benchmarks")
    again = project.run("benchmarks", "--lf", "-v")
    again.assert_outcomes(failed=1)
    assert ids(again, "FAILED")[0] == "a::c1"


def test_lf_of_a_gate_alone_measures_its_cycles_on_demand(project: Project) -> None:
    project.study("id: a\nexecution: {cycles: 2}\nexpect: {requests_per_s: {min: 1000000}}\n")
    project.run("benchmarks")
    again = project.run("benchmarks", "--lf", "-v", "--llem-json=report.json")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["E   requests_per_s: *(median of 2*"])
    assert [m["cycle"] for m in project.report()["measurements"]] == [1, 2]


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


def test_junit_holds_the_figures_as_properties(project: Project) -> None:
    project.study("id: a\nexecution: {cycles: 1}\n")
    project.run("benchmarks", "--junitxml=junit.xml")
    (case,) = ElementTree.parse(project.pytester.path / "junit.xml").iter("testcase")
    properties = {p.get("name"): float(p.get("value", "")) for p in case.iter("property")}
    assert properties["llem.energy_j"] > 0
    assert properties["llem.power_mean_w"] == pytest.approx(10)


def test_junit_calls_an_estimate_an_estimate(project: Project) -> None:
    project.study("experiments: [{id: a, meters: [estimate]}]\nexecution: {cycles: 1}\n")
    project.run("benchmarks", "--junitxml=junit.xml")
    text = (project.pytester.path / "junit.xml").read_text()
    assert 'name="llem.estimated.energy_j"' in text
    assert 'name="llem.energy_j"' not in text
    assert 'name="llem.requests_per_s"' in text


def test_a_bare_pytest_leaves_studies_out_and_says_how_to_run_them(project: Project) -> None:
    project.study(TWO)
    project.pytester.makepyfile("def test_fine(): assert True")
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["llem: 1 study left out; name a path to run them: pytest benchm*"])


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


def test_fixtures_of_the_user_reach_the_items_at_every_scope(project: Project) -> None:
    project.study("id: a\nexecution: {cycles: 1}\n")
    project.pytester.makeconftest(
        """
        import pytest

        def make(scope):
            @pytest.fixture(autouse=True, scope=scope)
            def fixture(request):
                print("scope", scope, request.node.nodeid)
                yield
            return fixture

        f1, f2, f3, f4 = map(make, ("session", "module", "class", "function"))
        """
    )
    result = project.run("benchmarks", "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*scope function benchmarks/s.study.yaml::a::c1*"])


def test_strict_configuration_raises_no_warning_or_error(project: Project) -> None:
    project.study(TWO)
    result = project.run(
        "benchmarks", "-W", "error", "--strict-markers", "--strict-config", "-p", "no:cacheprovider"
    )
    result.assert_outcomes(passed=5)


def test_without_the_plugin_a_study_is_just_a_file(project: Project) -> None:
    project.study(TWO)
    result = project.run("benchmarks", "-p", "no:llem")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


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


def test_under_xdist_each_item_runs_once_and_the_report_has_all(project: Project) -> None:
    project.study("execution: {cycles: 2}\nexperiments: [{id: a}, {id: b}]\n")
    result = project.run("benchmarks", "-n2", "--llem-json=report.json")
    result.assert_outcomes(passed=4)
    made = sorted((m["experiment"], m["cycle"]) for m in project.report()["measurements"])
    assert made == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert sorted((m["experiment"], m["cycle"]) for m in project.journal()) == made
    result.stdout.fnmatch_lines(["a  *2/2*", f"results: results/{project.report()['session']}"])


def test_a_gate_never_judges_cycles_that_ran_elsewhere(project: Project) -> None:
    project.study("id: a\nexecution: {cycles: 2}\nexpect: {energy_j: {max: 1000}}\n")
    result = project.run("benchmarks", "-n3")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["E   c* did not run in this process before; with pytest-xdist leave out -n"]
    )


def test_a_bare_pytest_under_xdist_leaves_studies_out_too(project: Project) -> None:
    project.study(TWO)
    project.pytester.makepyfile("def test_fine(): assert True")
    project.run("-n1").assert_outcomes(passed=1)


def test_setup_plan_measures_nothing_and_names_the_fixtures(project: Project) -> None:
    project.study("id: a\nexecution: {cycles: 1}\n")
    result = project.run("benchmarks", "--setup-plan")
    result.stdout.fnmatch_lines(
        [
            "*SETUP*S llem_journal*",
            "*SETUP*S llem_models*",
            "*a::c1 (fixtures used: llem_journal, llem_models*",
        ]
    )
    assert result.ret == 0
    assert not (project.pytester.path / "results").exists()
