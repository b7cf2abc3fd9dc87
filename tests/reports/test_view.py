"""A report as people read it: what it comes to, and in which order things are said."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pytest_llem.records import Comparison, Failure
from pytest_llem.reports import json_report
from pytest_llem.reports.collected import Collected
from pytest_llem.reports.columns import columns, formulas
from pytest_llem.reports.document import NotCompared, Report, from_document
from pytest_llem.reports.figures.front import Point, pareto
from pytest_llem.reports.view import View
from tests.reports.sessions import experiment, gate, report, session, verdict


def failed(outcome: Any, message: str = "boom") -> Any:
    broken = Failure(kind="raised", message=message, fix="mend it", log_tail="the end")
    return dataclasses.replace(outcome, measurement=None, failure=broken)


def overall(found: Report) -> tuple[str, str, tuple[str, ...]]:
    told = View(found).overall()
    return told.outcome, told.headline, tuple(told.counts)


PASSED, BROKEN = verdict("energy_j", "passed", "fine"), verdict("energy_j", "failed", "too much")
UNJUDGED = verdict("energy_j", "skipped", "estimated")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            report(experiment("a"), [gate("a", PASSED)]),
            ("passed", "Passed", ("all 3 measurements made", "1 gate passed")),
        ),
        (
            report(experiment("a")),
            ("passed", "Measured, nothing to judge", ("all 3 measurements made",)),
        ),
        (
            report(experiment("a"), [gate("a", UNJUDGED, outcome="skipped")]),
            (
                "passed",
                "Passed",
                ("all 3 measurements made", "0 of 1 gate passed", "1 gate not judged"),
            ),
        ),
        (
            report(experiment("a"), [gate("a", BROKEN, outcome="failed")]),
            ("failed", "Failed: 1 of 1 gate", ("all 3 measurements made", "0 of 1 gate passed")),
        ),
        (
            report([failed(experiment("a")[0]), *experiment("a")[1:]]),
            ("failed", "Failed: 1 of 3 measurements", ("2 of 3 measurements made", "1 failed")),
        ),
        (report([]), ("nothing", "Nothing was measured", ("0 measurements made",))),
        (
            report(experiment("a"), exit_status=1),
            ("failed", "Failed: pytest's exit status is 1", ("all 3 measurements made",)),
        ),
    ],
)
def test_what_a_session_comes_to(found: Report, expected: tuple[str, str, tuple[str, ...]]) -> None:
    assert overall(found) == expected


def test_regressions_come_before_limits_and_those_before_failures() -> None:
    found = View(session()).problems()
    assert [problem.kind for problem in found] == ["regression", "limit", "failure"]
    assert found[2].fix.startswith("lower batch_size")
    assert "OutOfMemoryError" in found[2].log
    assert View(session()).again() == [
        "benchmarks/serving.study.yaml::vllm-batch_size-4::gate",
        "benchmarks/serving.study.yaml::pytorch-batch_size-2::gate",
        "benchmarks/serving.study.yaml::pytorch-batch_size-8::c1",
    ]


def test_the_first_rows_are_those_that_failed_before_others() -> None:
    assert [row.name for row in View(session()).first(4).rows] == [
        "pytorch-batch_size-1",
        "pytorch-batch_size-2",
        "vllm-batch_size-4",
        "pytorch-batch_size-8",
    ]


def test_a_gate_that_fails_for_its_cycles_is_told_by_them() -> None:
    cause = verdict("cycles", "failed", "1 of 3 cycles failed: boom")
    outcomes = [failed(experiment("a")[0]), *experiment("a")[1:]]
    (problem,) = View(report(outcomes, [gate("a", cause, outcome="failed")])).problems()
    assert (problem.kind, problem.text) == ("failure", "cycle 1: boom")


def test_a_note_is_said_once_for_all_experiments_that_it_is_about() -> None:
    outcomes = []
    for name in "abcde":
        for outcome in experiment(name):
            warned = dataclasses.replace(outcome.measurement, warnings=("hot",))  # type: ignore[type-var]
            outcomes.append(dataclasses.replace(outcome, measurement=warned))
    (note,) = View(report(outcomes)).notes()
    assert (note.kind, note.text, note.names()) == ("warning", "hot", "a, b, c and 2 more")


def test_comparisons_stand_with_the_worst_first_and_those_without_a_change_last() -> None:
    def found(change: float | None) -> Comparison:
        return Comparison(reference=1.0, sessions=1, outcome="kept", text="", change=change)

    told = {
        "a": {"energy_j": found(-0.1), "output_tokens_per_s": found(-0.2)},
        "b": {"energy_j": NotCompared(text="no reference"), "ttft_p50_s": found(0.1)},
    }
    outcomes = [*experiment("a"), *experiment("b")]
    compared = View(report(outcomes, comparisons=told)).comparisons()  # type: ignore[arg-type]
    assert [(one.metric, one.worse) for one in compared] == [
        ("output_tokens_per_s", 0.2),
        ("ttft_p50_s", 0.1),
        ("energy_j", -0.1),
        ("energy_j", None),
    ]
    assert compared[-1].outcome == "not compared"


def test_the_base_of_an_a_b_comparison_is_a_row_of_its_own() -> None:
    base = [dataclasses.replace(outcome, arm="base") for outcome in experiment("a", cycles=2)]
    head = [dataclasses.replace(outcome, arm="head") for outcome in experiment("a", cycles=3)]
    collected = Collected([*base, *head], [])
    document = json_report.document(collected, session="s", environment={}, exit_status=0)
    rows = View(from_document(document)).rows
    assert [(row.name, len(row.outcomes)) for row in rows] == [("a (base)", 2), ("a", 3)]


def test_an_experiment_tells_in_what_it_differs_from_its_study() -> None:
    rows = View(session(4)).rows
    assert [dict(row.differs) for row in rows] == [
        {"backend": "pytorch", "batch_size": "1"},
        {"backend": "vllm", "batch_size": "1"},
        {"backend": "pytorch", "batch_size": "2"},
        {"backend": "vllm", "batch_size": "2"},
    ]


def test_figures_of_a_column_share_a_unit_and_tell_quality() -> None:
    fast = experiment("fast", energy_j=0.0102, estimated=True)
    view = View(report([*experiment("slow", energy_j=2.0), *fast]))
    energy, rate, *_ = columns(view)
    assert energy.heading == "energy/token, mJ"
    slow, guessed = (energy.cells[row.key] for row in view.rows)
    assert slow.text.startswith(("1,9", "2,0"))
    assert "–" in slow.interval
    assert (slow.mark, guessed.mark) == ("", "est.")
    assert "nothing here measures" in guessed.reason
    assert rate.heading == "tok/s"


def test_carbon_and_cost_are_of_a_million_tokens_with_formula_and_source() -> None:
    view = View(report(experiment("a", energy_j=0.36, cycles=1)))
    found = {column.heading: column.cells["e1"].value for column in columns(view)}
    tokens = view.rows[0].median("energy_per_output_token_j")
    assert tokens is not None
    assert found["CO₂e/Mtok, g"] == pytest.approx(tokens / 3.6 * 380 * 1.2)
    assert found["cost/Mtok, EUR"] == pytest.approx(tokens / 3.6 * 0.31 * 1.2)
    carbon, cost, source = formulas(view)
    assert "380 g/kWh × PUE 1.2" in carbon
    assert "ISO/IEC 21031" in carbon
    assert "0.31 EUR/kWh × PUE 1.2" in cost
    assert "Ember 2025, Germany" in source


def test_without_settings_there_is_neither_column_nor_formula() -> None:
    outcomes = experiment("a")
    bare = []
    for outcome in outcomes:
        assert outcome.measurement
        metrics = dict(outcome.measurement.metrics)
        for name in ("carbon_g", "cost"):
            metrics[name] = dataclasses.replace(metrics[name], value=None, quality="unmeasured")
        measured = dataclasses.replace(outcome.measurement, metrics=metrics)
        bare.append(dataclasses.replace(outcome, measurement=measured))
    view = View(report(bare, environment={"pytest_llem": "1"}))
    assert not [c for c in columns(view) if "Mtok" in c.title]
    assert formulas(view) == []


def point(key: str, rate: float, energy_j: float, *, estimated: bool = False) -> Point:
    return Point(
        key=key, name=key, series="x", number=0, rate=rate, energy_j=energy_j, estimated=estimated
    )


def test_the_front_are_those_that_none_beats_in_both() -> None:
    points = [
        point("slow and frugal", 10, 0.1),
        point("beaten", 10, 0.2),
        point("between", 20, 0.3),
        point("worse than between", 19, 0.4),
        point("fast", 30, 0.9),
        point("guessed", 99, 0.01, estimated=True),
    ]
    assert [p.key for p in pareto(points)] == ["slow and frugal", "between", "fast"]
    assert [p.key for p in pareto(points[-1:])] == ["guessed"]
    assert pareto([]) == []
