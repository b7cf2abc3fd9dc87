"""What a study says reaches the measurements: variants, marks, environment, order, gaps."""

from __future__ import annotations

import itertools

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.once

ONE = "id: a\nexecution: {cycles: 1}\n"


def ids(result: pytest.RunResult, word: str = "") -> list[str]:
    """Node ids without the file, of the lines that hold a word, in the order printed."""
    lines = [line for line in result.outlines if "::" in line and word in line]
    return [line.split()[0].partition("::")[2] for line in lines]


def test_invalid_points_are_listed_and_the_others_measured(project: Project) -> None:
    project.study("execution: {cycles: 1}\nsweep: {batch_size: [1, 0], seed: [1, -1]}\n")
    result = project.run("benchmarks", "--llem-json=report.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "benchmarks/s.study.yaml: 3 points of the grid left out, as invalid:",
            "  benchmarks/s.study.yaml:10: seed: should be greater than or equal to 0, not -1  (*",
        ]
    )
    left_out = project.report()["skipped_points"]
    assert [point["experiment"] for point in left_out] == [
        "batch_size-1-seed--1",
        "batch_size-0-seed-1",
        "batch_size-0-seed--1",
    ]
    assert all(point["reasons"] for point in left_out)


def test_invalid_points_are_listed_under_xdist_too(project: Project) -> None:
    project.study("execution: {cycles: 1}\nsweep: {batch_size: [1, 0]}\n")
    result = project.run("benchmarks", "-n2", "--llem-json=report.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["benchmarks/s.study.yaml: 1 point of the grid left out, *"])
    assert len(project.report()["skipped_points"]) == 1


def test_invalid_points_are_an_error_where_strict(project: Project) -> None:
    project.study("execution: {cycles: 1}\nsweep: {batch_size: [1, 0]}\n")
    result = project.run("benchmarks", "--llem-strict")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["benchmarks/s.study.yaml:10: batch_size: should be greater*"])


def test_variants_name_items_and_can_be_selected(project: Project) -> None:
    project.study(
        "execution: {cycles: 1}\nvariants:\n  quant: {plain: {}, small: {batch_size: 2}}\n"
    )
    result = project.run("benchmarks", "--collect-only", "-q")
    assert ids(result) == ["s::c1", "quant-small::c1"]
    assert ids(project.run("benchmarks", "--collect-only", "-q", "-k", "plain")) == ["s::c1"]


def test_marks_of_a_study_select_and_reach_pytest(project: Project) -> None:
    project.pytester.makeini("[pytest]\nmarkers =\n  slow: takes long\n  size: how large\n")
    project.study(
        "execution: {cycles: 1}\nexperiments:\n"
        "  - {id: a, marks: [slow]}\n  - {id: b, marks: [{size: {mb: 3}}]}\n"
    )
    run = ("benchmarks", "--collect-only", "-q", "--strict-markers", "-m")
    assert ids(project.run(*run, "slow")) == ["a::c1"]
    assert ids(project.run(*run, "size(mb=3)")) == ["b::c1"]


def test_a_mark_that_nobody_registered_is_an_error_where_markers_are_strict(
    project: Project,
) -> None:
    project.study(ONE + "marks: [slwo]\n")
    result = project.run("benchmarks", "--strict-markers")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["benchmarks/s.study.yaml:11: marks: 'slwo' not found in *"])


def test_a_mark_that_nobody_registered_is_pytests_own_warning_of_the_studys_line(
    project: Project,
) -> None:
    project.study(ONE + "marks: [slwo]\n")
    result = project.run("benchmarks")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*s.study.yaml:11: PytestUnknownMarkWarning: *slwo*"])


def test_skip_and_xfail_do_what_they_do_everywhere(project: Project) -> None:
    project.study(
        """\
        execution: {cycles: 1}
        expect: {requests_per_s: {min: 0}}
        experiments:
          - {id: a, skip: not today}
          - {id: b, xfail: known, fake: {raise_in: run}}
        """
    )
    result = project.run("benchmarks", "-rsx")
    result.assert_outcomes(skipped=2, xfailed=2)
    result.stdout.fnmatch_lines(["SKIPPED*not today", "XFAIL *::b::c1 - known"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED  # it was to measure and made nothing


def test_variables_of_a_study_are_the_workers(project: Project) -> None:
    project.study(ONE + "env: {LLEM_FAKE_WORD: 4}\n")
    project.run("benchmarks", "--llem-json=report.json").assert_outcomes(passed=1)
    (measurement,) = project.report()["measurements"]
    assert measurement["measurement"]["subject"]["engine"]["word"] == "4"
    assert measurement["config"]["env"] == {"LLEM_FAKE_WORD": "4"}


def test_prompts_of_drawn_lengths_are_measured_and_complete(project: Project) -> None:
    project.study(ONE + "prompts: {count: 5, input_tokens: {uniform: [2, 40]}}\n", header=PLAIN)
    project.run("benchmarks", "--llem-strict", "--llem-json=report.json").assert_outcomes(passed=1)
    (measurement,) = project.report()["measurements"]
    assert measurement["measurement"]["integrity"] == []
    assert 10 <= measurement["measurement"]["tokens"]["input"] <= 200


PLAIN = """\
model: org/m
backend: fake
output_tokens: 3
warmup: none
idle: none
meters: [fixed]
"""


def test_goodput_counts_requests_that_keep_to_the_slo(project: Project) -> None:
    project.study(ONE + "slo: {e2e_s: 1000}\nexpect: {goodput_per_s: {min: 0.001}}\n")
    project.run("benchmarks").assert_outcomes(passed=2)
    project.study(ONE + "slo: {ttft_s: 1.0e-9}\nexpect: {goodput_per_s: {min: 0.001}}\n")
    project.run("benchmarks").assert_outcomes(passed=1, failed=1)


# --- expect --------------------------------------------------------------------------------


def test_a_limit_with_where_is_judged_for_these_experiments_only(project: Project) -> None:
    project.study(
        """\
        execution: {cycles: 1}
        sweep: {batch_size: [1, 2]}
        expect:
          - {where: {batch_size: 2}, requests_per_s: {min: 1000000}}
        """
    )
    result = project.run("benchmarks")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["benchmarks/s.study.yaml:12: gate of batch_size-2 failed"])


def test_a_limit_that_is_nobodys_is_an_error(project: Project) -> None:
    project.study(ONE + "expect: [{where: {batch_size: 7}, energy_j: {max: 1}}]\n")
    result = project.run("benchmarks")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["benchmarks/s.study.yaml:11: expect.where: no experiment of *"])


def test_a_regression_without_a_reference_is_skipped_and_strict_fails(project: Project) -> None:
    project.study(ONE + "expect: {energy_j: {max_regression: 5%}}\n")
    result = project.run("benchmarks", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*energy_j: no reference to compare with (budget 5 %)"])
    project.run("benchmarks", "--llem-strict").assert_outcomes(passed=1, failed=1)


# --- order, cycles, gaps -------------------------------------------------------------------

THREE = "experiments: [{id: a}, {id: b}, {id: c}]\n"


def collected(project: Project, execution: str, *arguments: str) -> list[str]:
    project.study(f"execution: {execution}\n{THREE}")
    result = project.run("benchmarks", "--collect-only", "-q", *arguments)
    return [name.replace("::c", "") for name in ids(result)]


def test_sequential_measures_all_cycles_of_an_experiment_first(project: Project) -> None:
    found = collected(project, "{cycles: 2, order: sequential}")
    assert found == ["a1", "a2", "b1", "b2", "c1", "c2"]


def test_a_shuffled_order_is_the_same_each_time_and_another_for_another_seed(
    project: Project,
) -> None:
    first = collected(project, "{cycles: 4, order: shuffled}")
    assert collected(project, "{cycles: 4, order: shuffled}") == first
    assert collected(project, "{cycles: 4, order: shuffled, seed: 7}") != first
    assert sorted(first) == sorted(f"{name}{cycle}" for name in "abc" for cycle in range(1, 5))


def test_a_latin_square_lets_each_follow_each(project: Project) -> None:
    found = collected(project, "{cycles: 6, order: latin_square}")
    blocks = [found[i : i + 3] for i in range(0, 18, 3)]
    pairs = [(x[0], y[0]) for block in blocks for x, y in itertools.pairwise(block)]
    assert {pairs.count(pair) for pair in set(pairs)} == {2}
    assert len(set(pairs)) == 6


def test_the_command_line_beats_the_study_and_the_study_the_users_settings(
    project: Project,
) -> None:
    (project.pytester.path / ".lem-config.yaml").write_text("cycles: 1\nwarmup: {prompts: 9}\n")
    project.study("id: a\n")
    assert ids(project.run("benchmarks", "--collect-only", "-q")) == ["a::c1"]
    project.study("id: a\nexecution: {cycles: 2}\n")
    assert len(ids(project.run("benchmarks", "--collect-only", "-q"))) == 2
    assert len(ids(project.run("benchmarks", "--collect-only", "-q", "--llem-cycles=4"))) == 4


def test_the_warm_up_of_the_command_line_beats_the_study(project: Project) -> None:
    project.study(ONE)
    project.run("benchmarks", "--llem-warmup=2", "--llem-json=report.json")
    (measurement,) = project.report()["measurements"]
    assert measurement["config"]["warmup"]["prompts"] == 2
    assert "warmup" in [window["phase"] for window in measurement["measurement"]["windows"]]


def test_fixed_gaps_are_kept_and_told_of(project: Project) -> None:
    project.study("execution: {cycles: 2, gaps: 0.3}\nexperiments: [{id: a}]\n")
    project.run("benchmarks", "--llem-json=report.json", gaps=None)
    first, second = project.report()["measurements"]
    assert first["gap"] is None
    assert second["gap"] == {"mode": "fixed", "waited_s": 0.3}


def test_a_thermal_gap_says_what_came_of_it(project: Project) -> None:
    project.study("execution: {cycles: 2, gaps: {between_cycles: 0.2}}\nid: a\n")
    project.run("benchmarks", "--llem-json=report.json", gaps=None)
    _, second = project.report()["measurements"]
    assert second["gap"]["mode"] == "thermal"
    # Either there is a sensor here and it told, or it says why it couldn't.
    assert (second["gap"]["before_c"] is None) == bool(second["gap"]["reason"])
    assert second["gap"]["waited_s"] < 10


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--llem-cycles=0", "'0' is no whole number from 1"),
        ("--llem-warmup=some", "'some' is no whole number from 1"),
        ("--llem-gaps=-1", "'-1' is not thermal, none or a number of seconds"),
        ("--llem-gaps=nan", "'nan' is not thermal, none or a number of seconds"),
    ],
)
def test_an_option_of_another_form_is_a_usage_error(
    project: Project, option: str, text: str
) -> None:
    result = project.run("benchmarks", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{text}*"])


# --- the user's settings -------------------------------------------------------------------


def test_mistakes_in_the_users_settings_cost_a_line_each_and_nothing_else(
    project: Project,
) -> None:
    (project.pytester.path / ".lem-config.yaml").write_text(
        "runners: {fake: local}\ncycels: 1\ncycles: 0\n"
    )
    project.study("experiments: [{id: a}]\n")
    result = project.run("benchmarks", "--llem-json=report.json")
    result.assert_outcomes(passed=3)
    problems = [
        ".lem-config.yaml:2: cycels: unknown field; did you mean cycles?; left out",
        ".lem-config.yaml:3: cycles: should be greater than or equal to 1, not 0; left out",
    ]
    assert [result.outlines.count(line) for line in problems] == [1, 1]
    assert project.report()["notices"] == problems
    assert project.report()["measurements"][0]["runner"]["source"] == "user_config"


def test_the_users_settings_say_where_results_go_unless_the_ini_file_does(
    project: Project,
) -> None:
    (project.pytester.path / ".lem-config.yaml").write_text("results_dir: mine\n")
    project.study(ONE)
    project.run("benchmarks")
    assert (project.pytester.path / "mine").is_dir()
    project.pytester.makeini("[pytest]\nllem_results_dir = ours\n")
    project.run("benchmarks")
    assert (project.pytester.path / "ours").is_dir()


def test_the_users_default_backend_is_that_of_studies_that_name_none(project: Project) -> None:
    (project.pytester.path / ".lem-config.yaml").write_text("default_backend: fake\n")
    project.study(ONE, header="model: org/m\nmeters: [fixed]\nidle: none\nwarmup: none\n")
    result = project.run("benchmarks", "--collect-only", "-q", "-m", "llem(backend='fake')")
    assert ids(result) == ["a::c1"]
