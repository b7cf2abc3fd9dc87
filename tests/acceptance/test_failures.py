"""What can go wrong with a worker: always a clear failure, never a wrong result or a hang."""

from __future__ import annotations

import fnmatch
import json
import secrets

import pytest

from tests.acceptance.conftest import Project, marked

pytestmark = pytest.mark.once

CYCLE = "id: a\nexecution: {cycles: 1}\n"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("{raise_in: load}", "fake failed in load: RuntimeError: no luck in load"),
        ("{raise_in: run}", "fake failed in measure: RuntimeError: no luck in run"),
        ("{raise_in: close}", "fake failed in close: RuntimeError: no luck in close"),
        ("{exit_in: run}", "the worker ended in measure without a result (exit status 3)"),
        ("{kill_in: run}", "the worker ended in measure without a result (SIGKILL, which *memory*"),
        ("{segv_in: run}", "the worker ended in measure without a result (SIGSEGV)"),
        ("{babble_in: run}", "the worker's output can't be understood: *"),
        ("{nan: true}", "the engine's figures can't be reported (series): *"),
        ("{blob: 200000000}", "the worker's output can't be understood: a frame is longer than *"),
        (
            "{close_stdout_in: run}",
            "the worker ended in measure without a result (it closed its output and went on)",
        ),
    ],
)
def test_a_worker_that_fails_is_a_failure_with_its_cause(
    project: Project, options: str, text: str
) -> None:
    project.study(f"{CYCLE}fake: {options}\ntimeout_s: 30\n")
    result = project.run("benchmarks", "--llem-json=report.json")
    result.stdout.fnmatch_lines(
        ["benchmarks/s.study.yaml:*: a cycle 1 failed (local runner)", f"E   {text}"]
    )
    result.assert_outcomes(failed=1)
    (measurement,) = project.report()["measurements"]
    assert measurement["measurement"] is None
    assert fnmatch.fnmatch(measurement["failure"]["message"], text)


def test_the_end_of_the_log_is_shown(project: Project) -> None:
    project.study(f"{CYCLE}fake: {{raise_in: run}}\n")
    result = project.run("benchmarks")
    result.stdout.fnmatch_lines(["*Captured worker log call*", "RuntimeError: no luck in run"])
    assert result.ret == 1


@pytest.mark.parametrize(
    ("phase", "limit"), [("load", "load_timeout_s"), ("run", "timeout_s"), ("close", "timeout_s")]
)
def test_a_worker_that_takes_too_long_is_ended(project: Project, phase: str, limit: str) -> None:
    # A busy machine may need some of it for the phases before.
    project.study(f"{CYCLE}fake: {{hang_in: {phase}}}\n{limit}: 3\n")
    result = project.run("benchmarks")
    name = {"load": "load", "run": "measure", "close": "close"}[phase]
    result.stdout.fnmatch_lines(
        [f"E   no end of {name} within 3 s", f"E   fix: raise {limit}, or make the *"]
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


def test_a_daemon_of_the_engine_does_not_outlive_its_measurement(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = secrets.token_hex(8)
    monkeypatch.setenv("LLEM_TEST_TOKEN", token)
    project.study(f"{CYCLE}fake: {{daemon_in: load}}\n")
    result = project.run("benchmarks")
    result.assert_outcomes(passed=1)
    assert marked(token) == []


def test_wrong_token_counts_are_flagged_and_fail_when_strict(project: Project) -> None:
    project.study(f"{CYCLE}fake: {{drop_tokens: 1}}\n")
    project.run("benchmarks", "--llem-json=report.json").assert_outcomes(passed=1)
    (outcome,) = project.report()["measurements"]
    assert outcome["measurement"]["integrity"] == [
        "2 of 2 requests did not produce exactly 3 tokens"
    ]
    project.run("benchmarks", "--llem-strict").assert_outcomes(failed=1)


def test_after_each_failure_the_study_goes_on(project: Project) -> None:
    ways = ("raise", "exit", "kill", "segv", "babble")
    lines = [f"  - {{id: {way}, fake: {{{way}_in: run}}}}\n  - {{id: {way}-next}}" for way in ways]
    project.study("execution: {cycles: 1}\nexperiments:\n" + "\n".join(lines) + "\n")
    project.run("benchmarks").assert_outcomes(failed=len(ways), passed=len(ways))


def test_every_requests_times_are_kept_beside_the_journal(project: Project) -> None:
    project.study(CYCLE)
    project.run("benchmarks", "--llem-json=report.json")
    report = project.report()
    (outcome,) = report["measurements"]
    path = project.pytester.path / "results" / report["session"] / outcome["raw"]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [len(row["token_s"]) for row in rows] == [3, 3]
    e2e = [row["token_s"][-1] - row["submitted_s"] for row in rows]
    assert outcome["measurement"]["metrics"]["e2e_max_s"]["value"] == pytest.approx(max(e2e))


def test_a_failed_measurement_leaves_no_half_side_file(project: Project) -> None:
    project.study(f"{CYCLE}fake: {{raise_in: close}}\n")
    project.run("benchmarks", "--llem-json=report.json")
    (outcome,) = project.report()["measurements"]
    assert outcome["raw"] is None
    assert list((project.pytester.path / "results").glob("*/raw/*")) == []
