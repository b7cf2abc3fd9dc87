"""Models that can't be used stop a session before its first measurement, all at once."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.once

STUDY = """\
execution: {cycles: 1}
experiments:
  - {id: good, expect: {energy_j: {max: 1000}}}
  - {id: bad, model: ./nowhere}
  - {id: worse, model: ./nowhere}
  - {id: empty, model: ./models/empty, expect: {energy_j: {max: 1000}}}
"""


@pytest.fixture
def bad(project: Project) -> Project:
    """A project whose study has one good experiment and three without a usable model."""
    (project.folder / "models" / "empty").mkdir(parents=True)
    project.study(STUDY)
    return project


def test_all_problems_are_listed_before_anything_is_measured(bad: Project) -> None:
    result = bad.run("benchmarks", "-x")
    result.assert_outcomes(errors=1)
    twice = "benchmarks/s.study.yaml:12 bad; benchmarks/s.study.yaml:13 worse"
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of*good*c1*",
            "Models can't be used: 2 problem(s) found",
            f"  1. {bad.folder}/nowhere: there is no such directory  ({twice})",
            "     Fix: check the path; in a study it is relative to the study's file",
            f"  2. {bad.folder}/models/empty: no config.json  (benchmarks/s.study.yaml:14 empty)",
            "     Fix: point model at a directory that holds a config.json",
        ]
    )
    assert bad.journal() == []


def test_every_measurement_is_an_error_and_every_gate_says_why(bad: Project) -> None:
    result = bad.run("benchmarks", "--llem-json=report.json")
    result.assert_outcomes(errors=4, failed=2)
    result.stdout.fnmatch_lines(
        ["E   1 of 1 cycles failed: Models can't be used: 2 problem(s) found"]
    )
    assert {m["failure"]["kind"] for m in bad.report()["measurements"]} == {"setup"}
    assert bad.journal() == []


def test_experiments_that_are_not_selected_stop_nobody(bad: Project) -> None:
    result = bad.run("benchmarks", "-k", "good")
    result.assert_outcomes(passed=2, deselected=4)


def test_experiments_that_the_user_skips_stop_nobody(bad: Project) -> None:
    bad.pytester.makeconftest(
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                if "good" not in item.nodeid:
                    item.add_marker(pytest.mark.skip(reason="not today"))
        """
    )
    bad.run("benchmarks").assert_outcomes(passed=2, skipped=4)


def test_a_gate_that_measures_by_itself_asks_too(bad: Project) -> None:
    result = bad.run("benchmarks/s.study.yaml::empty::gate")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["Models can't be used: 1 problem(s) found", "  1. *config.json *"])
    assert bad.journal() == []


def test_collecting_looks_at_no_model(bad: Project) -> None:
    assert bad.run("benchmarks", "--collect-only").ret == 0
    assert bad.run("benchmarks", "--setup-plan").ret == 0


def test_under_xdist_nothing_is_measured_either(bad: Project) -> None:
    bad.run("benchmarks", "-n2", "-k", "c1").assert_outcomes(errors=4)
    assert bad.journal() == []


def test_a_third_partys_model_is_nothing_for_the_hub(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    project.study("id: a\nexecution: {cycles: 1}\n")
    project.run("benchmarks").assert_outcomes(passed=1)


def test_an_id_of_the_hub_is_asked_for_where_the_backend_is_ours(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(project.pytester.path / "cache"))
    project.study("experiments: [{id: a, backend: pytorch}]\nexecution: {cycles: 1}\n")
    result = project.run("benchmarks", "-W", "error")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["  1. some/model: not in the cache, and *  (benchmarks/s.study.yaml:9 a)"]
    )
