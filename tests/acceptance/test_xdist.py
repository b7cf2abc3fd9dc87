"""Under pytest-xdist an experiment stays in one worker, whatever happens to the others."""

from __future__ import annotations

import json
import re
from itertools import chain

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.once

ALL = ["a1", "a2", "b1", "b2", "c1", "c2"]
THREE = """\
execution: {cycles: 2}
experiments:
  - {id: a, expect: {energy_j: {max: 1000}}}
  - {id: b, expect: {energy_j: {max: 1000}}}
  - {id: c, expect: {energy_j: {max: 1000}}}
"""
ONE = "id: a\nexecution: {cycles: 3}\nexpect: {energy_j: {max: 1000}}\n"
PLAIN = "import pytest\n@pytest.mark.parametrize('n', range(8))\ndef test_plain(n): pass\n"

# What waits for something looks again until it is there; should it never come, the test fails.
WAIT = """
    import os, pathlib, signal, time

    def wait(condition):
        end = time.monotonic() + 120
        while not condition() and time.monotonic() < end:
            time.sleep(0.02)

    def journaled():
        files = pathlib.Path("results").glob("*/journal.*.jsonl")
        return sum(len(file.read_text().splitlines()) for file in files)
"""


def run(project: Project, *arguments: str) -> pytest.RunResult:
    """Run pytest on all there is."""
    paths = ["benchmarks", *sorted(path.name for path in project.pytester.path.glob("test_*.py"))]
    return project.run(*paths, "-v", *arguments)


def ran(result: pytest.RunResult) -> dict[str, list[str]]:
    """Worker to the tests it completed, without their file, in order."""
    found: dict[str, list[str]] = {}
    for line in result.outlines:
        if match := re.match(r"\[(gw\d+)\] \[ *\d+%\] [A-Z]+ [^:]+::(\S+)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def journals(project: Project) -> list[list[str]]:
    """What each process measured, in order: ``a1`` for the first cycle of a."""
    files = sorted((project.pytester.path / "results").glob("*/journal.*.jsonl"))
    found = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    return sorted([f"{o['experiment']}{o['cycle']}" for o in outcomes] for outcomes in found)


def measured(project: Project) -> list[str]:
    """What all processes measured, sorted."""
    return sorted(chain.from_iterable(journals(project)))


def reported(project: Project) -> list[str]:
    """All measurements of the report."""
    made = project.report()["measurements"]
    return sorted(f"{m['experiment']}{m['cycle']}" for m in made)


def test_a_host_without_gpus_measures_one_thing_at_a_time(project: Project) -> None:
    project.study(THREE)
    result = run(project, "-n2", "--llem-json=report.json")
    result.assert_outcomes(passed=9)
    assert journals(project) == [["a1", "b1", "c1", "a2", "b2", "c2"]]
    assert list(ran(result).values()) == [
        ["a::c1", "b::c1", "c::c1", "a::c2", "a::gate", "b::c2", "b::gate", "c::c2", "c::gate"]
    ]
    assert reported(project) == ALL
    assert [gate["outcome"] for gate in project.report()["gates"]] == ["passed"] * 3
    result.stdout.fnmatch_lines(
        ["scheduling tests via LaneScheduling", f"results: results/{project.report()['session']}"]
    )


@pytest.mark.parametrize("workers", ["-n1", "-n3"])
def test_fewer_or_more_workers_than_experiments_do_too(project: Project, workers: str) -> None:
    path = project.study(ONE, name="anything.yaml")
    result = project.run(str(path), "-v", workers)
    result.assert_outcomes(passed=4)
    assert list(ran(result).values()) == [["a::c1", "a::c2", "a::c3", "a::gate"]]


@pytest.mark.parametrize(
    ("mode", "scheduler"),
    [
        ("worksteal", "LaneScheduling"),
        ("loadgroup", "LaneScheduling"),
        ("loadscope", "LoadScopeScheduling"),
        ("loadfile", "LoadFileScheduling"),
    ],
)
def test_in_every_mode_a_gate_finds_its_cycles(project: Project, mode: str, scheduler: str) -> None:
    project.study(THREE)
    result = run(project, "-n2", f"--dist={mode}")
    result.assert_outcomes(passed=9)
    result.stdout.fnmatch_lines([f"scheduling tests via {scheduler}"])
    assert measured(project) == ALL


def test_dist_each_runs_all_in_each_worker(project: Project) -> None:
    project.study(ONE)
    result = run(project, "-n2", "--dist=each")
    result.assert_outcomes(passed=8)
    assert journals(project) == [["a1", "a2", "a3"]] * 2


@pytest.mark.parametrize("mode", ["load", "worksteal", "loadgroup"])
def test_without_a_study_the_scheduler_is_xdists_own(project: Project, mode: str) -> None:
    project.pytester.makepyfile(PLAIN)
    with_plugin = run(project, "-n2", f"--dist={mode}")
    without = run(project, "-n2", f"--dist={mode}", "-p", "no:llem")
    lines = [
        [line for line in result.outlines if line.startswith("scheduling tests via ")]
        for result in (with_plugin, without)
    ]
    with_plugin.assert_outcomes(passed=8)
    assert len(lines[0]) == 1
    assert lines[0] == lines[1]


def test_a_scheduler_of_the_users_own_is_left_alone(project: Project) -> None:
    project.study(ONE)
    project.pytester.makeconftest(
        """
        def pytest_xdist_make_scheduler(config, log):
            from xdist.scheduler import LoadFileScheduling

            class Mine(LoadFileScheduling):
                pass

            return Mine(config, log)
        """
    )
    result = run(project, "-n2")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["scheduling tests via Mine"])


def test_other_tests_run_once_each_beside_a_study(project: Project) -> None:
    project.study(THREE)
    project.pytester.makepyfile(PLAIN)
    result = run(project, "-n2")
    result.assert_outcomes(passed=17)
    everything = list(chain.from_iterable(ran(result).values()))
    assert len(everything) == len(set(everything)) == 17
    assert journals(project) == [["a1", "b1", "c1", "a2", "b2", "c2"]]


def test_without_xdist_the_plugin_works(project: Project) -> None:
    project.study(ONE)
    result = run(project, "-p", "no:xdist", "--llem-dist=off")
    result.assert_outcomes(passed=4)


# --- left to xdist -------------------------------------------------------------------------


def test_left_to_xdist_a_gate_finds_cycles_of_other_workers_in_the_journals(
    project: Project,
) -> None:
    project.study(ONE)
    project.pytester.makeconftest(
        WAIT
        + """
    def pytest_runtest_setup(item):
        if item.name == "gate":
            wait(lambda: journaled() == 3)
        """
    )
    result = run(project, "-n3", "--llem-dist=off", "--llem-json=report.json")
    result.assert_outcomes(passed=4)
    assert len(journals(project)) > 1
    (gate,) = project.report()["gates"]
    assert (gate["outcome"], gate["cycles"]) == ("passed", 3)


def test_left_to_xdist_a_gate_whose_cycle_does_not_come_fails_and_says_so(project: Project) -> None:
    project.study(ONE)
    project.pytester.makeconftest(
        WAIT
        + """
    judged = pathlib.Path("judged")

    def pytest_runtest_setup(item):
        if item.name == "c3":
            wait(judged.exists)

    def pytest_runtest_logreport(report):
        if report.nodeid.endswith("gate") and report.when == "call":
            judged.touch()
        """
    )
    result = run(project, "-n3", "--llem-dist=off")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        ["E   *c3 not in this process nor (yet) in the session's journals; without --llem-dist=*"]
    )
    assert measured(project) == ["a1", "a2", "a3"]


@pytest.mark.parametrize("mode", ["load", "worksteal"])
def test_left_to_xdist_gates_wait_for_cycles_that_others_measure(
    project: Project, mode: str
) -> None:
    project.study(THREE)
    result = run(project, "-n2", "--llem-dist=off", f"--dist={mode}")
    result.assert_outcomes(passed=9)
    assert measured(project) == ALL


# --- sessions that end early, workers that are lost ----------------------------------------


@pytest.mark.parametrize(("option", "made"), [("-x", ["a1"]), ("--maxfail=2", ["a1", "a2", "b1"])])
def test_after_the_last_allowed_failure_nothing_more_is_measured(
    project: Project, option: str, made: list[str]
) -> None:
    project.study(
        "execution: {cycles: 9}\nexperiments:\n  - {id: a, fake: {raise_in: load}}\n  - {id: b}\n"
    )
    result = run(project, "-n2", option)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert measured(project) == made


def test_a_test_that_kills_its_worker_costs_no_measurement(project: Project) -> None:
    project.study(THREE)
    project.pytester.makepyfile(PLAIN, test_die="import os\ndef test_die(): os._exit(9)\n")
    result = run(project, "-n2", "--llem-json=report.json")
    result.assert_outcomes(passed=17, failed=1)
    result.stdout.fnmatch_lines(["*crashed while running 'test_die.py::test_die'*"])
    assert reported(project) == measured(project)
    assert reported(project) == ALL


def lose_a_worker(project: Project, hook: str) -> None:
    """Have the first worker that comes to the second cycle of ``a`` killed there."""
    project.pytester.makeconftest(
        f"""
        import os, pathlib, signal

        def {hook}(item):
            killed = pathlib.Path("killed")
            if item.nodeid.endswith("::a::c2") and not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_lost_in_a_cycle_costs_that_cycle(project: Project, workers: int) -> None:
    project.study(THREE)
    lose_a_worker(project, "pytest_runtest_setup")
    result = run(project, f"-n{workers}", "--llem-json=report.json")
    result.assert_outcomes(passed=7, failed=2)
    text = (
        "E   c2 not in this process nor (yet) in the session's journals; run the experiment again"
    )
    result.stdout.fnmatch_lines(
        [
            "*crashed while running 'benchmarks/s.study.yaml::a::c2'*",
            f"{text}: pytest benchmarks/s.study.yaml::a",
        ]
    )
    assert measured(project) == ["a1", "b1", "b2", "c1", "c2"]
    assert reported(project) == ["a1", "b1", "b2", "c1", "c2"]


def test_what_a_lost_worker_measured_counts(project: Project) -> None:
    project.study(THREE)
    lose_a_worker(project, "pytest_llem_result")
    result = run(project, "-n2", "--llem-json=report.json")
    result.assert_outcomes(passed=8, failed=1)
    result.stdout.fnmatch_lines(["a cycle 2: from the journal, its xdist worker was lost"])
    assert reported(project) == ALL
    assert [gate["outcome"] for gate in project.report()["gates"]] == ["passed"] * 3


def test_a_lost_worker_that_is_not_replaced_ends_the_session(project: Project) -> None:
    project.study(THREE)
    lose_a_worker(project, "pytest_runtest_setup")
    result = run(project, "-n1", "--max-worker-restart=0")
    assert result.ret != 0
    assert measured(project) == ["a1", "b1", "c1"]


def test_a_worker_that_collects_other_tests_gets_none(project: Project) -> None:
    project.study(ONE)
    project.pytester.makepyfile(
        test_die="""
        import os, pathlib

        def test_edit():
            study = pathlib.Path("benchmarks/s.study.yaml")
            study.write_text(study.read_text().replace("id: a", "id: other"))

        def test_die():
            os._exit(9)

        def test_later():
            pass
        """
    )
    result = run(project, "-n1")
    result.assert_outcomes(passed=5, failed=1, errors=1)
    text = "gw1, in place of a lost worker, collected other tests: a file was changed meanwhile."
    result.stdout.fnmatch_lines([f"{text} Run again what was not run: test_die.py::test_later"])
