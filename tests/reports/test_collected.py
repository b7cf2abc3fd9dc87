"""Outcomes and gates, grouped by experiment."""

from __future__ import annotations

from pytest_llem.records import Failure
from pytest_llem.reports.collected import Collected
from tests.builders import gate, measurement, outcome, verdict


def test_cycles_are_grouped_by_experiment_in_the_order_of_appearance() -> None:
    given = [
        outcome(experiment="b", cycle=1),
        outcome(experiment="a", cycle=1),
        outcome(experiment="b", cycle=2),
    ]
    found = Collected(given, []).experiments
    assert list(found) == [("s", "s.study.yaml", "b"), ("s", "s.study.yaml", "a")]
    assert found["s", "s.study.yaml", "b"].outcomes == (given[0], given[2])
    assert found["s", "s.study.yaml", "a"].outcomes == (given[1],)


def test_experiments_of_one_name_in_two_studies_or_files_are_two() -> None:
    given = [outcome(), outcome(study="t"), outcome(file="t.study.yaml")]
    assert len(Collected(given, []).experiments) == 3


def test_the_base_of_a_comparison_has_a_row_and_figures_of_its_own() -> None:
    values = {"base": 1.0, "head": 1.1}
    given = [
        outcome(arm=arm, cycle=cycle, measurement=measurement(metrics={"output_tokens_per_s": v}))
        for cycle in (1, 2, 3)
        for arm, v in values.items()
    ]
    base, head = Collected(given, [gate(verdict())]).experiments.items()
    assert [key[2] for key, _ in (base, head)] == ["a (base)", "a"]
    assert [result.arm for _, result in (base, head)] == ["base", "head"]
    assert [result.gate for _, result in (base, head)] == [None, gate(verdict())]
    assert base[1].summary["output_tokens_per_s"].median == 1.0
    assert head[1].summary["output_tokens_per_s"].median == 1.1
    assert base[1].comparisons == {}
    found = head[1].comparisons["output_tokens_per_s"]
    assert not isinstance(found, str)
    assert (found.pairs, found.outcome) == (3, "kept")


def test_a_gate_belongs_to_its_experiment() -> None:
    found = Collected([outcome(), outcome(experiment="b")], [gate(verdict())]).experiments
    assert [result.gate for result in found.values()] == [gate(verdict()), None]


def test_a_gate_without_outcomes_is_an_experiment_too() -> None:
    (result,) = Collected([], [gate(verdict("failed"))]).experiments.values()
    assert result.outcomes == ()
    assert result.gate is not None
    assert result.gate.outcome == "failed"


def test_only_what_was_measured_is_summed_up() -> None:
    given = [
        outcome(measurement=measurement(metrics={"energy_j": 2.0})),
        outcome(cycle=2, measurement=None, failure=Failure(kind="raised", message="boom")),
        outcome(cycle=3, measurement=None, skipped="why not"),
        outcome(cycle=4, measurement=measurement(metrics={"energy_j": 4.0})),
    ]
    (result,) = Collected(given, []).experiments.values()
    assert len(result.measurements) == 2
    assert result.summary["energy_j"].n == 2
    assert result.summary["energy_j"].median == 3.0


def test_nothing_measured_has_no_summary() -> None:
    (result,) = Collected([outcome(measurement=None, skipped="x")], []).experiments.values()
    assert (result.measurements, result.summary) == ([], {})


def test_the_last_try_of_a_cycle_counts_and_the_ones_before_are_told_apart() -> None:
    failed = outcome(measurement=None, failure=Failure(kind="raised", message="boom"))
    given = [failed, outcome(cycle=2), outcome(measurement=measurement(metrics={"energy_j": 2.0}))]
    (result,) = Collected(given, []).experiments.values()
    assert result.outcomes == (given[2], given[1])
    assert result.replaced == (failed,)
    assert len(result.measurements) == 2


def test_cycles_of_different_testbeds_are_experiments_of_their_own() -> None:
    measured = [
        outcome(cycle=cycle, measurement=measurement(testbed={"gpus": [gpu]}))
        for cycle, gpu in enumerate(("H100", "A100", "H100"), 1)
    ]
    found = Collected(measured, [gate(verdict("failed"))]).experiments
    assert {key[2]: (len(one.outcomes), bool(one.gate)) for key, one in found.items()} == {
        "a (GPUs: H100)": (2, True),
        "a (GPUs: A100)": (1, False),
    }


def test_equal_cycles_of_two_sessions_are_no_tries_of_each_other() -> None:
    given = [outcome(session="x"), outcome(session="y"), outcome(session="y")]
    (result,) = Collected(given, []).experiments.values()
    assert result.outcomes == (given[0], given[2])
    assert result.replaced == (given[1],)


def test_cycles_of_two_versions_of_an_engine_are_doubted() -> None:
    cycles = [
        outcome(
            cycle=cycle, measurement=measurement(cycle=cycle, subject={"versions": {"vllm": v}})
        )
        for cycle, v in ((2, "0.9"), (1, "0.8"))
    ]
    (result,) = Collected(cycles, []).experiments.values()
    assert result.doubts == (
        "cycles of different versions: vllm: c1 0.8, c2 0.9; measure all anew",
    )
