"""Where a backend runs: each source, the refusals, and an engine that isn't there."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.once

CYCLE = "id: a\nexecution: {cycles: 1}\n"


def runner_of(project: Project, *arguments: str) -> dict[str, str]:
    project.run("benchmarks", "--llem-json=report.json", *arguments)
    (measurement,) = project.report()["measurements"]
    runner: dict[str, str] = measurement["runner"]
    return runner


def test_each_source_beats_the_lower_ones(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.study(CYCLE)
    assert runner_of(project)["source"] == "default"
    project.pytester.makeini("[pytest]\nllem_runners =\n  fake = local\n  pytorch = docker")
    assert runner_of(project)["source"] == "ini"
    project.study(CYCLE + "runners: {fake: local}\n")
    assert runner_of(project)["source"] == "study"
    monkeypatch.setenv("LLEM_RUNNER_FAKE", "local")
    assert runner_of(project)["source"] == "env"
    assert runner_of(project, "--llem-runner", "fake=local")["source"] == "cli"


def test_a_docker_item_is_an_error_with_a_fix(project: Project) -> None:
    project.study(CYCLE + "expect: {energy_j: {max: 1000}}\n")
    result = project.run("benchmarks", "--llem-runner=fake=docker:img", "--llem-json=report.json")
    result.assert_outcomes(errors=1, failed=1)
    result.stdout.fnmatch_lines(["     Fix: *"])
    result.stdout.fnmatch_lines(
        ["E   1 of 1 cycles failed: Docker pre-flight failed: 2 issue(s) found"]
    )
    (measurement,) = project.report()["measurements"]
    assert measurement["failure"]["kind"] == "setup"
    assert measurement["runner"] == {
        "mode": "docker",
        "argument": None,
        "image": "img",
        "source": "cli",
        "image_source": "runner",
    }


@pytest.mark.parametrize("value", ["podman", "docker:", "local:"])
def test_a_value_that_is_no_runner_is_refused_with_its_source(project: Project, value: str) -> None:
    project.study(CYCLE)
    result = project.run("benchmarks", f"--llem-runner=fake={value}")
    result.stdout.fnmatch_lines([f"cli: '{value}' is no runner; accepted: local, *"])
    assert result.ret == pytest.ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("source", "arguments", "ini"),
    [
        ("cli", ["--llem-runner=fkae=local"], ""),
        ("ini llem_runners", [], "llem_runners = fkae=local"),
    ],
)
def test_a_misspelt_backend_is_never_ignored(
    project: Project, source: str, arguments: list[str], ini: str
) -> None:
    project.study(CYCLE)
    project.pytester.makeini(f"[pytest]\n{ini}")
    result = project.run("benchmarks", *arguments)
    result.stdout.fnmatch_lines([f"{source}: unknown backend 'fkae'; did you mean fake?"])
    assert result.ret == pytest.ExitCode.INTERRUPTED


def test_an_option_without_a_sign_is_a_usage_error(project: Project) -> None:
    project.study(CYCLE)
    result = project.run("benchmarks", "--llem-runner=fake")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--llem-runner*: 'fake' is not of the form BACKEND=RUNNER"])


def test_a_missing_engine_skips_and_the_session_fails_for_having_made_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLEM_FAKE_MISSING", "1")
    project.study(CYCLE)
    result = project.run("benchmarks", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED * benchmarks/s.study.yaml:*: *not installed; install it with: pip install llem-*"]
    )
    result.stdout.fnmatch_lines(["none of the 1 measurements was made"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_missing_engine_fails_where_the_user_named_the_runner(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLEM_FAKE_MISSING", "1")
    project.study(CYCLE)
    result = project.run("benchmarks", "--llem-runner=fake=local")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E   backend fake: *", "E   fix: pip install llem-fake-engine"])


def test_a_skip_of_the_users_own_is_no_failure(project: Project) -> None:
    project.study(CYCLE)
    project.pytester.makeconftest(
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.skip(reason="not today"))
        """
    )
    result = project.run("benchmarks")
    result.assert_outcomes(skipped=1)
    assert result.ret == 0
    strict = project.run("benchmarks", "--llem-strict")
    strict.stdout.fnmatch_lines(["benchmarks/s.study.yaml:1: skipped, and strict: not today"])
    assert strict.ret == 1
