"""The JSON report, the journal and the two hooks."""

from __future__ import annotations

import json

from tests.acceptance.conftest import HEADER, Project

STUDY = "id: a\nexecution: {cycles: 2}\nexpect: {energy_j: {max: 1000}}\n"


def test_the_report_holds_everything_measured_and_judged(project: Project) -> None:
    project.study(STUDY)
    project.run("benchmarks", "--llem-json=out/report.json")
    report = project.report("out/report.json")
    assert report["schema_version"] == 1
    assert report["environment"]["python"]
    first = report["measurements"][0]["measurement"]
    assert [window["phase"] for window in first["windows"]] == ["load", "idle", "measure", "close"]
    assert first["tokens"] == {"requests": 2, "input": 8, "output": 6}
    assert first["subject"]["versions"] == {"llem-fake-engine": "1.0"}
    assert first["testbed"]["meters"] == {"fixed": ["cpu:0"]}
    (experiment,) = report["experiments"]
    assert experiment["statistics"]["energy_j"]["n"] == 2
    assert experiment["config"]["prompts"]["input_tokens"] == 4
    assert (project.pytester.path / "results" / report["session"]).is_dir()
    (gate,) = report["gates"]
    assert gate["verdicts"][0]["where"] == "benchmarks/s.study.yaml:11"


def test_energy_is_ten_watts_times_the_window(project: Project) -> None:
    project.study(STUDY)
    project.run("benchmarks", "--llem-json=report.json")
    for outcome in project.report()["measurements"]:
        metrics = outcome["measurement"]["metrics"]
        expected = 10.0 * metrics["duration_s"]["value"]
        assert abs(metrics["energy_j"]["value"] - expected) < 1e-9
        assert abs(metrics["energy_per_output_token_j"]["value"] - expected / 6) < 1e-9
        assert abs(metrics["net_energy_j"]["value"]) < 1e-6


def test_the_journal_has_a_line_for_each_measurement_as_in_the_report(project: Project) -> None:
    project.study(STUDY)
    project.run("benchmarks", "--llem-json=report.json")
    assert project.journal() == project.report()["measurements"]


def test_the_report_is_written_when_the_session_is_cut_short(project: Project) -> None:
    project.study("experiments: [{id: a, fake: {raise_in: run}}, {id: b}]\n")
    project.run("benchmarks", "-x", "--llem-json=report.json")
    assert len(project.report()["measurements"]) == 1


def test_the_hooks_are_called(project: Project) -> None:
    project.study(STUDY)
    project.pytester.makeconftest(
        """
        def pytest_llem_result(item, result):
            item.user_properties.append(("mine", result["experiment"] + item.name))

        def pytest_llem_modify_report(config, report):
            report["extra"]["mine"] = len(report["measurements"])
        """
    )
    project.run("benchmarks", "--llem-json=report.json", "--junitxml=junit.xml")
    assert project.report()["extra"] == {"mine": 2}
    assert 'name="mine" value="ac1"' in (project.pytester.path / "junit.xml").read_text()


def test_a_hook_that_puts_something_unwritable_into_the_report_costs_no_measurement(
    project: Project,
) -> None:
    project.study(STUDY)
    project.pytester.makeconftest(
        "def pytest_llem_modify_report(config, report): report['bad'] = object()"
    )
    result = project.run("benchmarks", "--llem-json=report.json")
    result.stdout.fnmatch_lines(["the report was not written: *; see the journal"])
    assert result.ret != 0
    assert len(project.journal()) == 2


def test_a_report_without_any_study_is_still_written(project: Project) -> None:
    project.pytester.makepyfile("def test_fine(): assert True")
    result = project.run("--llem-json=report.json")
    assert result.ret == 0
    assert json.loads((project.pytester.path / "report.json").read_text())["measurements"] == []


def test_a_warm_up_cut_short_is_a_warning(project: Project) -> None:
    header = HEADER.replace("warmup: none", "warmup: {prompts: 9, timeout_s: 0.01}")
    body = "id: a\nexecution: {cycles: 1}\nfake: {token_s: 0.02}\n"
    project.study(body, header=header)
    result = project.run("benchmarks", "--llem-json=report.json")
    (outcome,) = project.report()["measurements"]
    assert outcome["measurement"]["warnings"] == ["warm-up ended after 0.01 s with 1 of 9 requests"]
    result.stdout.fnmatch_lines(["a: warning: warm-up ended after 0.01 s with 1 of 9 requests"])
