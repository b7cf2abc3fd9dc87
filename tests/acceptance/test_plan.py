"""``--llem-plan`` says what a session would do, and does nothing."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.once

STUDY = """\
name: compare
execution: {cycles: 2, order: sequential, gaps: 30}
experiments:
  - {id: a, expect: {energy_j: {max: 1000}}}
  - {id: b, model: ./models/tiny}
"""


@pytest.fixture
def compare(project: Project) -> Project:
    """A project with a study of two experiments, one of which has a model of its own."""
    (project.folder / "models" / "tiny").mkdir(parents=True)
    (project.folder / "models" / "tiny" / "config.json").write_text("x" * 600)
    project.study(STUDY)
    return project


def plan(result: pytest.RunResult) -> list[str]:
    """What stands between the collection and pytest's last line."""
    start = next(i for i, line in enumerate(result.outlines) if line.startswith("collected"))
    return [line for line in result.outlines[start + 1 : -1] if line]


def made_nothing(project: Project) -> bool:
    return not (project.pytester.path / "results").exists()


def test_the_whole_plan(compare: Project) -> None:
    result = compare.run("benchmarks", "--llem-plan", gaps=None)
    assert plan(result) == [
        "compare (benchmarks/s.study.yaml)",
        "  2 experiments x 2 cycles = 4 measurements, 1 gate",
        "  order        sequential",
        "               a c1, a c2, b c1, b c2",
        "  runner       fake  local (default)",
        "  models       some/model: left to the backend fake, size unknown",
        "               benchmarks/models/tiny: directory, random weights, 600 B",
        "  engine loads 4; 2 with order: sequential and worker: reuse",
        "  asleep       idle 0.02 s, gaps 90 s",
        "  total        at least 90 s",
        "               no measurement known from earlier sessions",
    ]
    assert result.ret == 0
    assert made_nothing(compare)


def test_only_what_is_selected_is_planned(compare: Project) -> None:
    found = plan(compare.run("benchmarks/s.study.yaml::b::c2", "--llem-plan", gaps=None))
    assert found[1:4] == [
        "  1 of 2 experiments, 1 of 4 measurements",
        "  order        sequential",
        "               b c2",
    ]
    assert "  asleep       idle 0.01 s, no gaps" in found


def test_k_selects(compare: Project) -> None:
    result = compare.run("benchmarks", "--llem-plan", "-k", "c1")
    assert plan(result)[1:4] == [
        "  2 experiments, 2 of 4 measurements",
        "  order        sequential",
        "               a c1, b c1",
    ]


def test_a_gate_that_measures_by_itself_is_planned_with_its_measurements(
    compare: Project,
) -> None:
    result = compare.run("benchmarks/s.study.yaml::a::gate", "--llem-plan")
    assert plan(result)[1:4] == [
        "  1 of 2 experiments x 2 cycles = 2 measurements, 1 gate",
        "  order        sequential",
        "               a c1, a c2",
    ]


def test_a_gate_beside_a_selected_cycle_measures_nothing(compare: Project) -> None:
    study = "benchmarks/s.study.yaml"
    result = compare.run(f"{study}::a::c2", f"{study}::a::gate", "--llem-plan")
    assert plan(result)[1] == "  1 of 2 experiments, 1 of 4 measurements, 1 gate"


def test_lf_plans_what_it_would_run(project: Project) -> None:
    project.study(
        "execution: {cycles: 1}\nexperiments:\n  - {id: x, fake: {raise_in: run}}\n  - {id: y}\n"
    )
    project.run("benchmarks")
    result = project.run("benchmarks", "--llem-plan", "--lf")
    assert "  1 of 2 experiments x 1 cycle = 1 measurement" in result.outlines
    assert len(project.journal()) == 2


def test_where_nothing_is_selected_it_says_so(compare: Project) -> None:
    result = compare.run("benchmarks", "--llem-plan", "-k", "nothing")
    assert plan(result) == [
        "llem: nothing to plan, as nothing of the collected studies is selected"
    ]
    # As pytest has it wherever no test is selected.
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_plain_tests_beside_a_study_are_not_run(compare: Project) -> None:
    (compare.folder / "test_a.py").write_text("def test_one(): raise SystemExit('ran')\n")
    result = compare.run("benchmarks", "--llem-plan")
    assert plan(result)[0] == "compare (benchmarks/s.study.yaml)"
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*ran*in run*")
    assert result.parseoutcomes() == {}


def test_plain_tests_alone_are_not_run_either(project: Project) -> None:
    project.pytester.makepyfile("def test_one(): assert False")
    result = project.run("--llem-plan")
    assert plan(result) == [
        "llem: no study among the collected tests; name one: pytest --llem-plan benchmarks"
    ]
    assert result.parseoutcomes() == {}
    assert result.ret == 0


def test_several_studies_are_planned_one_by_one_and_together(compare: Project) -> None:
    compare.study("id: z\nexecution: {cycles: 1, gaps: 60}\n", name="t.study.yaml")
    found = plan(compare.run("benchmarks", "--llem-plan", gaps=None))
    second = found.index("t (benchmarks/t.study.yaml)")
    assert found[second:] == [
        "t (benchmarks/t.study.yaml)",
        "  1 experiment x 1 cycle = 1 measurement",
        "  order        interleaved",
        "               z c1",
        "  runner       fake  local (default)",
        "  models       some/model: left to the backend fake, size unknown",
        "  engine loads 1",
        # The study before it comes to an end here, so that there is a rest before its first.
        # Idle power is that of the engine of the same model before.
        "  asleep       no idle, gaps 60 s",
        "  total        at least 60 s",
        "               no measurement known from earlier sessions",
        "all 2 studies",
        "  5 measurements, 1 gate",
        "  engine loads 5",
        "  asleep       idle 0.02 s, gaps 2.5 min",
        "  total        at least 2.5 min",
        "               no measurement known from earlier sessions",
    ]


def test_thermal_gaps_are_at_most_so_long(project: Project) -> None:
    project.study("experiments: [{id: a}, {id: b}]\nexecution: {cycles: 2}\n")
    found = plan(project.run("benchmarks", "--llem-plan", gaps=None))
    assert "  asleep       idle 0.01 s, gaps at most 7 min (thermal)" in found


def test_options_that_change_a_study_change_its_plan(compare: Project) -> None:
    found = plan(compare.run("benchmarks", "--llem-plan", "--llem-cycles=5", gaps="7"))
    assert found[1] == "  2 experiments x 5 cycles = 10 measurements, 1 gate"
    assert "  asleep       idle 0.02 s, gaps 63 s" in found


def test_a_latin_square_that_is_not_balanced_is_said_to_be(project: Project) -> None:
    project.study("experiments: [{id: a}, {id: b}]\nexecution: {cycles: 3, order: latin_square}\n")
    found = plan(project.run("benchmarks", "--llem-plan"))
    assert found[2:4] == [
        "  order        latin_square is not balanced: 3 cycles of 2 experiments; use a",
        "                 multiple of 2",
    ]


# --- earlier sessions -----------------------------------------------------------------------

QUICK = "experiments: [{id: a}, {id: b, seed: 7}]\nexecution: {cycles: 2, gaps: none}\n"


def test_what_earlier_sessions_measured_is_known(project: Project) -> None:
    project.study(QUICK)
    project.run("benchmarks/s.study.yaml::a").assert_outcomes(passed=2)
    found = plan(project.run("benchmarks", "--llem-plan"))
    assert found[-1] == "               2 of 4 measurements known from earlier sessions"
    assert found[-2].startswith("  total        at least ")
    project.run("benchmarks").assert_outcomes(passed=4)
    found = plan(project.run("benchmarks", "--llem-plan"))
    assert found[-1] == "               4 measurements known from earlier sessions"
    assert found[-2].startswith("  total        about ")
    assert len(list((project.pytester.path / "results").iterdir())) == 2


def test_an_idle_phase_counts_as_it_would_be_now(project: Project) -> None:
    project.study(QUICK)
    project.run("benchmarks").assert_outcomes(passed=4)
    study = project.folder / "s.study.yaml"
    study.write_text(study.read_text().replace("idle: 0.01", "idle: 3600"))
    found = plan(project.run("benchmarks", "--llem-plan"))
    assert found[-2] == "  total        about 4 h"


def test_what_failed_or_ran_elsewhere_is_not_known(project: Project) -> None:
    project.study("id: a\nfake: {raise_in: run}\nexecution: {cycles: 1}\n")
    project.run("benchmarks").assert_outcomes(failed=1)
    found = plan(project.run("benchmarks", "--llem-plan"))
    assert found[-1] == "               no measurement known from earlier sessions"
    project.study(QUICK)
    project.run("benchmarks").assert_outcomes(passed=4)
    found = plan(project.run("benchmarks", "--llem-plan", "--llem-runner=fake=docker:some/image"))
    assert "  runner       fake  docker (cli), image some/image (runner)" in found
    assert found[-1] == "               no measurement known from earlier sessions"


def test_results_elsewhere_are_found_and_what_is_broken_in_them_is_passed_over(
    project: Project,
) -> None:
    project.pytester.makeini("[pytest]\nllem_results_dir = kept/here")
    project.study(QUICK)
    project.run("benchmarks").assert_outcomes(passed=4)
    (folder,) = (project.pytester.path / "kept" / "here").iterdir()
    (folder / "journal.other.jsonl").write_text('{"half a li')
    (folder.parent / "no-session").mkdir()
    found = plan(project.run("benchmarks", "--llem-plan"))
    assert found[-1] == "               4 measurements known from earlier sessions"


# --- what would not be measured -------------------------------------------------------------


def test_what_the_host_lacks_is_said_and_not_counted(project: Project) -> None:
    project.study(
        "execution: {cycles: 2}\nexperiments:\n  - {id: a}\n"
        "  - {id: b, requires: {gpus: 64}, expect: {energy_j: {max: 1}}}\n"
    )
    result = project.run("benchmarks", "--llem-plan")
    found = plan(result)
    assert found[1] == "  1 of 2 experiments x 2 cycles = 2 measurements"
    assert any(line.startswith("  unmet        b: requires 64 GPUs, ") for line in found)
    assert result.ret == 0


def test_backends_that_cant_be_isolated_are_refused(project: Project) -> None:
    project.pytester.makeconftest(
        """
        import dataclasses
        import pytest
        from pytest_llem.runners.detect import Detected

        @pytest.hookimpl
        def pytest_llem_detect():
            return Detected(**{field.name: None for field in dataclasses.fields(Detected)})
        """
    )
    project.study("experiments: [{id: a}, {id: b, backend: vllm}]\nexecution: {cycles: 1}\n")
    found = plan(project.run("benchmarks", "--llem-plan"))
    assert found == [
        "s (benchmarks/s.study.yaml)",
        "  0 of 2 experiments, 0 of 2 measurements",
        "  refused      a, b: Multi-backend study requires Docker isolation. Found",
        "                 backends: fake, vllm. Install Docker + NVIDIA Container",
        "                 Toolkit, or use a single backend.",
    ]


def test_points_of_the_grid_that_are_invalid_are_listed(project: Project) -> None:
    project.study("sweep: {output_tokens: [1, 0, 2]}\nexecution: {cycles: 1}\n")
    result = project.run("benchmarks", "--llem-plan")
    start = result.outlines.index(
        "benchmarks/s.study.yaml: 1 point of the grid left out, as invalid:"
    )
    assert result.outlines[start + 1].endswith("  (output_tokens-0)")
    assert "  2 experiments x 1 cycle = 2 measurements" in result.outlines


def test_what_the_user_skips_is_said_and_not_counted(project: Project) -> None:
    project.study("experiments: [{id: a}, {id: b, skip: not today}]\nexecution: {cycles: 1}\n")
    found = plan(project.run("benchmarks", "--llem-plan"))
    assert found[1] == "  1 of 2 experiments x 1 cycle = 1 measurement"
    assert found[-1] == "  skipped      b: not today"


def test_a_model_that_cant_be_used_is_named_with_its_fix(project: Project) -> None:
    project.study("experiments: [{id: a, model: ./nowhere}]\nexecution: {cycles: 1}\n")
    result = project.run("benchmarks", "--llem-plan")
    result.stdout.fnmatch_lines(
        [
            "  models       benchmarks/nowhere: there is no such directory",
            "                 fix: check the path; in a study it is relative to the study's",
            "                 file",
        ],
        consecutive=True,
    )
    assert result.ret == 0


def test_a_model_of_the_hub_is_looked_for_in_the_cache(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(project.pytester.path / "cache"))
    snapshot = project.pytester.path / "cache" / "hub" / "models--some--model"
    (snapshot / "snapshots" / "abc").mkdir(parents=True)
    (snapshot / "snapshots" / "abc" / "config.json").write_text("{}")
    (snapshot / "refs").mkdir()
    (snapshot / "refs" / "main").write_text("abc")
    project.study(
        "backend: pytorch\nmeters: auto\nexecution: {cycles: 1}\n"
        "experiments: [{id: a}, {id: b, model: org/other}]\n",
        header="model: some/model\nweights: random\n",
    )
    found = plan(project.run("benchmarks", "--llem-plan", "-W", "error"))
    start = found.index("  models       some/model: hub, random weights, in the cache")
    assert found[start + 1 : start + 3] == [
        "               org/other: not in the cache, and HF_HUB_OFFLINE forbids to fetch",
        "                 it",
    ]


# --- beside other options -------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-n2", "-nauto", "--dist=load --tx=2*popen"])
def test_under_xdist_the_plan_comes_once(compare: Project, option: str) -> None:
    result = compare.run("benchmarks", "--llem-plan", *option.split())
    assert plan(result)[0] == "compare (benchmarks/s.study.yaml)"
    assert sum("engine loads" in line for line in result.outlines) == 1
    assert result.ret == 0
    assert made_nothing(compare)


def test_an_error_of_a_study_is_said_in_place_of_a_plan(compare: Project) -> None:
    compare.study("id: a\nbatch_szie: 3\n", name="t.study.yaml")
    result = compare.run("benchmarks", "--llem-plan")
    result.stdout.fnmatch_lines(["*batch_szie: unknown field; did you mean batch_size?"])
    result.stdout.no_fnmatch_line("*engine loads*")
    assert result.ret == pytest.ExitCode.INTERRUPTED


def test_collect_only_lists_the_items_in_place_of_a_plan(compare: Project) -> None:
    result = compare.run("benchmarks", "--llem-plan", "--collect-only", "-q")
    assert "benchmarks/s.study.yaml::a::gate" in result.outlines
    result.stdout.no_fnmatch_line("*engine loads*")


def test_strict_options_of_pytest_make_no_difference(compare: Project) -> None:
    result = compare.run(
        "benchmarks", "--llem-plan", "-W", "error", "--strict-markers", "-p", "no:cacheprovider"
    )
    assert plan(result)[0] == "compare (benchmarks/s.study.yaml)"
    assert result.ret == 0


def test_a_report_of_an_earlier_session_is_left_alone(compare: Project) -> None:
    report = compare.pytester.path / "report.json"
    report.write_text("precious")
    compare.run("benchmarks", "--llem-plan", "--llem-json=report.json")
    assert report.read_text() == "precious"
