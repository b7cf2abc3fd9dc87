"""What can go wrong with a worker: always a clear failure, never a wrong result or a hang."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project

CYCLE = "id: a\nexecution: {cycles: 1}\n"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("{raise_in: load}", "fake failed in load: RuntimeError: no luck in load"),
        ("{raise_in: run}", "fake failed in measure: RuntimeError: no luck in run"),
        ("{raise_in: close}", "fake failed in close: RuntimeError: no luck in close"),
        ("{exit_in: run}", "the worker ended in measure without a result (exit status 3)"),
        ("{kill_in: run}", "the worker ended in measure without a result (SIGKILL, which *memory*"),
        (
            "{close_stdout_in: run}",
            "the worker ended in measure without a result (it closed its output and went on)",
        ),
    ],
)
def test_a_worker_that_fails_is_a_failure_with_its_cause(
    project: Project, options: str, text: str
) -> None:
    project.study(f"{CYCLE}fake: {options}\ntimeout_s: 2\n")
    result = project.run("benchmarks", "--llem-json=report.json")
    result.stdout.fnmatch_lines(
        ["benchmarks/s.study.yaml:*: a cycle 1 failed (local runner)", f"E   {text}"]
    )
    result.assert_outcomes(failed=1)
    (measurement,) = project.report()["measurements"]
    assert measurement["measurement"] is None
    assert measurement["failure"]["message"].split(" (")[0] in text


def test_the_end_of_the_log_is_shown(project: Project) -> None:
    project.study(f"{CYCLE}fake: {{raise_in: run}}\n")
    result = project.run("benchmarks")
    result.stdout.fnmatch_lines(["*Captured worker log call*", "RuntimeError: no luck in run"])
    assert result.ret == 1


@pytest.mark.parametrize(
    ("phase", "limit"), [("load", "load_timeout_s"), ("run", "timeout_s"), ("close", "timeout_s")]
)
def test_a_worker_that_takes_too_long_is_ended(project: Project, phase: str, limit: str) -> None:
    project.study(f"{CYCLE}fake: {{hang_in: {phase}}}\n{limit}: 1\n")
    result = project.run("benchmarks")
    name = {"load": "load", "run": "measure", "close": "close"}[phase]
    result.stdout.fnmatch_lines(
        [f"E   no end of {name} within 1 s", f"E   fix: raise {limit}, or make the *"]
    )
    result.assert_outcomes(failed=1)


def test_what_an_engine_prints_does_not_disturb_the_frames(project: Project) -> None:
    project.study(f"{CYCLE}fake: {{print_in: run}}\n")
    result = project.run("benchmarks", "-s")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*engine chatter*")
    (log,) = (project.pytester.path / "results").glob("*/logs/*")
    assert "engine chatter" in log.read_text()


def test_a_failure_is_in_the_journal(project: Project) -> None:
    project.study(f"{CYCLE}fake: {{raise_in: run}}\n")
    project.run("benchmarks")
    (line,) = project.journal()
    assert line["failure"]["kind"] == "raised"
    assert "no luck in run" in line["failure"]["log_tail"]


def test_a_meter_that_does_not_exist_is_named(project: Project) -> None:
    project.study("experiments: [{id: a, meters: [fixd]}]\nexecution: {cycles: 1}\n")
    result = project.run("benchmarks")
    result.stdout.fnmatch_lines(
        ["E   pytest_llem.meters: nothing is called 'fixd'; found: *fixed*"]
    )
    assert result.ret == 1


def test_two_meters_never_count_one_domain_twice(project: Project) -> None:
    project.study("experiments: [{id: a, meters: [fixed, short]}]\nexecution: {cycles: 1}\n")
    result = project.run("benchmarks")
    result.stdout.fnmatch_lines(["E   meters fixed and short read the same; name one of them"])
    assert result.ret == 1


def test_a_results_directory_that_cannot_be_written_stops_before_measuring(
    project: Project,
) -> None:
    project.study(CYCLE)
    (project.pytester.path / "results").write_text("a file in the way")
    result = project.run("benchmarks")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["results can't be written to *; make it writable, or set llem_*"])


def test_a_report_that_cannot_be_written_stops_before_measuring(project: Project) -> None:
    project.study(CYCLE)
    (project.pytester.path / "file").write_text("")
    result = project.run("benchmarks", "--llem-json=file/report.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --llem-json: *file/report.json can't be written: *"])
    assert not (project.pytester.path / "results").exists()
