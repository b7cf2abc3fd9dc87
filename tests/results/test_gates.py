"""Gates: one test for each row of the table of verdicts, and the words of a verdict."""

from __future__ import annotations

import dataclasses

import pytest

from pytest_llem.demands import Limit
from pytest_llem.records import Failure, Figure, Judgement, Quality, Summary, Verdict
from pytest_llem.results.gates import judge, judge_limit, overall, without_cycles
from pytest_llem.results.outcome import Outcome
from tests.builders import estimated, measurement, outcome, unmeasured, verdict

WHERE = "s.study.yaml:7"
MOST = Limit(metric="energy_j", most=5.0, where=WHERE)
LEAST = Limit(metric="output_tokens_per_s", least=20.0, where=WHERE)


def outcomes(*figures: float | Figure, metric: str = "energy_j") -> list[Outcome]:
    """One outcome for each value of a metric."""
    return [
        outcome(cycle=cycle, measurement=measurement(metrics={metric: figure}))
        for cycle, figure in enumerate(figures, 1)
    ]


def judged(
    limit: Limit,
    *figures: float | Figure,
    allow_estimated: bool = False,
    strict: bool = False,
) -> Verdict:
    (found,) = judge(
        [limit],
        outcomes(*figures, metric=limit.metric),
        allow_estimated=allow_estimated,
        strict=strict,
    )
    return found


def words(limit: Limit, *values: float) -> tuple[str, str]:
    found = judged(limit, *values)
    return found.outcome, found.reason


# --- kept and violated ---------------------------------------------------------------------


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("limit", "value", "result"),
    [
        (MOST, 4.0, "passed"),
        (MOST, 5.0, "passed"),
        (MOST, 5.001, "failed"),
        (LEAST, 21.0, "passed"),
        (LEAST, 20.0, "passed"),
        (LEAST, 19.999, "failed"),
        (Limit(metric="energy_j", least=1.0, most=5.0), 0.5, "failed"),
        (Limit(metric="energy_j", least=1.0, most=5.0), 1.0, "passed"),
        (Limit(metric="energy_j", least=1.0, most=5.0), 5.0, "passed"),
        (Limit(metric="energy_j", least=1.0, most=5.0), 5.5, "failed"),
        (Limit(metric="net_energy_j", most=0.0), -1.0, "passed"),
        (Limit(metric="net_energy_j", least=0.0), -1.0, "failed"),
    ],
)
def test_a_limit_is_kept_or_violated(limit: Limit, value: float, result: str, strict: bool) -> None:
    assert judged(limit, value, strict=strict).outcome == result


def test_the_median_is_what_counts() -> None:
    assert judged(MOST, 1.0, 4.0, 99.0).outcome == "passed"
    assert judged(MOST, 6.0, 1.0, 7.0).outcome == "failed"


def test_a_verdict_says_what_was_measured_and_where_the_limit_stands() -> None:
    assert judged(MOST, 4.0) == Verdict(
        metric="energy_j",
        outcome="passed",
        measured=4.0,
        limit="≤ 5.00 J",
        reason="4.00 J ≤ 5.00 J, -20.0 % (median of 1)",
        where=WHERE,
    )


@pytest.mark.parametrize(
    ("limit", "values", "result", "reason"),
    [
        (MOST, [6.0], "failed", "6.00 J > 5.00 J, +20.0 % (median of 1)"),
        (LEAST, [25.0], "passed", "25.0/s ≥ 20.0/s, +25.0 % (median of 1)"),
        (LEAST, [15.0], "failed", "15.0/s < 20.0/s, -25.0 % (median of 1)"),
        # within noise: the bound lies in the range of several cycles
        (MOST, [4.0, 4.5, 6.0], "passed", "4.50 J ≤ 5.00 J, -10.0 % (median of 3, within noise)"),
        (MOST, [5.0, 6.0, 7.0], "failed", "6.00 J > 5.00 J, +20.0 % (median of 3, within noise)"),
        (MOST, [3.0, 4.0, 4.5], "passed", "4.00 J ≤ 5.00 J, -20.0 % (median of 3)"),
        (MOST, [6.0, 6.0], "failed", "6.00 J > 5.00 J, +20.0 % (median of 2)"),
        (MOST, [5.0], "passed", "5.00 J ≤ 5.00 J, +0.0 % (median of 1)"),
        # the bound that is broken is told, or else the upper one
        (
            Limit(metric="energy_j", least=1.0, most=5.0),
            [0.5],
            "failed",
            "500 mJ < 1.00 J, -50.0 % (median of 1)",
        ),
        (
            Limit(metric="energy_j", least=1.0, most=5.0),
            [6.0],
            "failed",
            "6.00 J > 5.00 J, +20.0 % (median of 1)",
        ),
        (
            Limit(metric="energy_j", least=1.0, most=5.0),
            [4.0],
            "passed",
            "4.00 J ≤ 5.00 J, -20.0 % (median of 1)",
        ),
        # nothing is a percentage of zero
        (
            Limit(metric="net_energy_j", most=0.0),
            [-1.0],
            "passed",
            "-1.00 J ≤ 0.00 J (median of 1)",
        ),
    ],
)
def test_a_verdict_is_put_in_words(
    limit: Limit, values: list[float], result: str, reason: str
) -> None:
    assert words(limit, *values) == (result, reason)


def test_the_difference_to_a_negative_bound_has_the_sign_of_the_difference() -> None:
    limit = Limit(metric="net_energy_j", most=-10.0)
    assert words(limit, -5.0) == ("failed", "-5.00 J > -10.0 J, +50.0 % (median of 1)")


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (MOST, "≤ 5.00 J"),
        (LEAST, "≥ 20.0/s"),
        (Limit(metric="energy_j", least=0.001, most=5000.0), "≥ 1.00 mJ and ≤ 5.00 kJ"),
        (Limit(metric="peak_memory_bytes", most=2e9), "≤ 2.00 GB"),
    ],
)
def test_a_limit_is_put_in_words(limit: Limit, text: str) -> None:
    assert judged(limit, 1.0).limit == text


# --- cycles that were not measured ---------------------------------------------------------


@pytest.mark.parametrize("strict", [False, True])
def test_failed_cycles_fail_the_gate_with_the_first_cause(strict: bool) -> None:
    first = Failure(kind="crashed", message="out of memory")
    second = Failure(kind="timeout", message="too late")
    given = [
        *outcomes(1.0),
        outcome(measurement=None, failure=first),
        outcome(measurement=None, failure=second),
    ]
    assert judge([MOST, LEAST], given, allow_estimated=False, strict=strict) == (
        Verdict(
            metric="cycles",
            outcome="failed",
            measured=None,
            limit="",
            reason="2 of 3 cycles failed: out of memory",
            where=WHERE,
        ),
    )


@pytest.mark.parametrize(("strict", "result"), [(False, "skipped"), (True, "failed")])
def test_a_gate_of_skipped_cycles_is_skipped(strict: bool, result: str) -> None:
    given = [outcome(measurement=None, skipped="no docker here") for _ in range(2)]
    (found,) = judge([MOST], given, allow_estimated=False, strict=strict)
    assert (found.metric, found.outcome) == ("cycles", result)
    assert found.reason == "all cycles were skipped: no docker here"


def test_the_cycles_that_were_measured_are_judged_without_the_skipped() -> None:
    given = [outcome(measurement=None, skipped="why not"), *outcomes(4.0)]
    (found,) = judge([MOST], given, allow_estimated=False, strict=False)
    assert found.outcome == "passed"
    # How many they are is said.
    assert found.reason.endswith("(median of 1); 1 of 2 cycles measured")


@pytest.mark.parametrize("strict", [False, True])
def test_cycles_of_different_testbeds_fail_the_gate(strict: bool) -> None:
    given = [
        outcome(cycle=cycle, measurement=measurement(cycle=cycle, testbed={"cpu": cpu}))
        for cycle, cpu in enumerate(("Xeon", "EPYC"), 1)
    ]
    (found,) = judge([MOST], given, allow_estimated=False, strict=strict)
    assert (found.metric, found.outcome) == ("cycles", "failed")
    mixed = "CPU: c1 Xeon, c2 EPYC; measure all anew"
    assert found.reason == f"cycles of different testbeds have no common figure: {mixed}"


def test_a_failed_cycle_counts_more_than_a_skipped() -> None:
    failure = Failure(kind="raised", message="boom")
    given = [
        outcome(measurement=None, skipped="why not"),
        outcome(measurement=None, failure=failure),
    ]
    (found,) = judge([MOST], given, allow_estimated=False, strict=False)
    assert (found.outcome, found.reason) == ("failed", "1 of 2 cycles failed: boom")


@pytest.mark.parametrize(("strict", "result"), [(False, "passed"), (True, "failed")])
def test_doubt_about_integrity_fails_a_strict_gate_only(strict: bool, result: str) -> None:
    given = [outcome(measurement=measurement(integrity=("1 of 2 requests ran backwards", "x")))]
    (found,) = judge([MOST], given, allow_estimated=False, strict=strict)
    assert found.outcome == result
    if strict:
        assert found.reason == ("1 of 1 cycles failed: integrity: 1 of 2 requests ran backwards")


@pytest.mark.parametrize("strict", [False, True])
def test_cycles_of_different_testbeds_are_never_judged_together(strict: bool) -> None:
    cycles = [
        outcome(cycle=cycle, measurement=measurement(cycle=cycle, testbed={"gpus": [gpu]}))
        for cycle, gpu in enumerate(("H100", "A100", "H100"), 1)
    ]
    (found,) = judge([MOST], cycles, allow_estimated=False, strict=strict)
    assert (found.metric, found.outcome) == ("cycles", "failed")
    expected = "have no common figure: GPUs: c1 H100, c2 A100; measure all anew"
    assert found.reason == f"cycles of different testbeds {expected}"


def test_every_limit_gets_a_verdict_in_order() -> None:
    found = judge([LEAST, MOST], outcomes(9.0), allow_estimated=False, strict=False)
    assert [(v.metric, v.outcome) for v in found] == [
        ("output_tokens_per_s", "failed"),
        ("energy_j", "failed"),
    ]


def test_no_limits_give_no_verdicts() -> None:
    assert judge([], outcomes(1.0), allow_estimated=False, strict=True) == ()


def test_missing_cycles_without_any_limit_are_told_nowhere() -> None:
    assert without_cycles("failed", "gone", []).where == ""


# --- figures that are not sound ------------------------------------------------------------


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("allow_estimated", [False, True])
def test_a_metric_that_is_null_fails(strict: bool, allow_estimated: bool) -> None:
    found = judged(
        MOST, 1.0, unmeasured("no meter"), strict=strict, allow_estimated=allow_estimated
    )
    assert (found.outcome, found.measured) == ("failed", None)
    assert found.reason == "unmeasured, wanted ≤ 5.00 J: 1 of 2 cycles: no meter"


@pytest.mark.parametrize(("strict", "result"), [(False, "skipped"), (True, "failed")])
@pytest.mark.parametrize("value", [1.0, 99.0])
def test_an_estimate_is_not_judged(value: float, strict: bool, result: str) -> None:
    found = judged(MOST, estimated(value), strict=strict)
    assert (found.outcome, found.measured) == (result, value)
    assert found.reason == (
        "estimated, not measured, so not judged; --llem-allow-estimated judges it"
    )


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("value", "result"), [(1.0, "passed"), (99.0, "failed")])
def test_an_estimate_is_judged_where_that_is_allowed(
    value: float, result: str, strict: bool
) -> None:
    found = judged(MOST, estimated(value), allow_estimated=True, strict=strict)
    assert found.outcome == result
    assert found.reason.endswith("(median of 1), estimated")


def test_one_estimated_cycle_makes_the_metric_estimated() -> None:
    assert judged(MOST, 1.0, estimated(1.0)).outcome == "skipped"


@pytest.mark.parametrize("quality", ["short", "degraded"])
@pytest.mark.parametrize(
    ("strict", "value", "result"),
    [(False, 1.0, "passed"), (False, 9.0, "failed"), (True, 1.0, "failed"), (True, 9.0, "failed")],
)
def test_a_doubtful_reading_is_judged_with_a_line_but_not_strictly(
    quality: Quality, strict: bool, value: float, result: str
) -> None:
    figure = Figure(value=value, quality=quality, reason="two updates only")
    found = judged(MOST, figure, strict=strict)
    assert found.outcome == result
    assert found.reason.endswith(f"(median of 1), reading {quality}: two updates only")


def test_a_limit_can_be_judged_by_a_summary_alone() -> None:
    summary = Summary(n=4, median=4.0, mean=4.0, low=4.0, high=4.0)
    found = judge_limit(MOST, summary, allow_estimated=False, strict=True)
    assert found.reason == "4.00 J ≤ 5.00 J, -20.0 % (median of 4)"


# --- regressions, with nothing to compare with --------------------------------------------

REGRESSION = Limit(metric="energy_j", regression=0.05, where=WHERE)


@pytest.mark.parametrize(("strict", "result"), [(False, "skipped"), (True, "failed")])
@pytest.mark.parametrize("values", [[4.0], [4.0, 4.1, 4.2]], ids=["one cycle", "three"])
def test_a_regression_without_a_reference_is_not_judged(
    values: list[float], strict: bool, result: str
) -> None:
    found = judged(REGRESSION, *values, strict=strict)
    assert (found.metric, found.outcome, found.where) == ("energy_j", result, WHERE)
    assert found.reason == "no reference to compare with (budget 5 %)"
    assert found.text == "energy_j: no reference to compare with (budget 5 %)"


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (0.0, "0 %"),
        (0.025, "2.5 %"),
        (0.07, "7 %"),
        (0.001, "0.1 %"),
        (0.29, "29 %"),
        (1.0, "100 %"),
    ],
)
def test_the_budget_of_a_regression_reads_as_it_was_written(budget: float, text: str) -> None:
    found = judged(Limit(metric="energy_j", regression=budget), 4.0)
    assert found.reason == f"no reference to compare with (budget {text})"


@pytest.mark.parametrize(
    ("strict", "value", "bound", "regression", "whole"),
    [
        (False, 4.0, "passed", "skipped", "passed"),
        (False, 6.0, "failed", "skipped", "failed"),
        (True, 4.0, "passed", "failed", "failed"),
        (True, 6.0, "failed", "failed", "failed"),
    ],
)
def test_a_bound_and_a_regression_are_judged_each_by_itself(
    strict: bool, value: float, bound: str, regression: str, whole: str
) -> None:
    limit = dataclasses.replace(MOST, regression=0.05)
    found = judge([limit], outcomes(value), allow_estimated=False, strict=strict)
    of_bound, of_regression = found
    # The bound's is the verdict that it would have alone.
    assert of_bound == judged(MOST, value, strict=strict)
    assert of_bound.outcome == bound
    assert of_regression == judged(REGRESSION, value, strict=strict)
    assert of_regression.outcome == regression
    assert overall(found) == whole


def test_a_gate_of_regressions_alone_is_skipped_without_a_reference() -> None:
    limits = [REGRESSION, Limit(metric="output_tokens_per_s", regression=0.1)]
    found = judge(limits, outcomes(4.0), allow_estimated=False, strict=False)
    assert [verdict.metric for verdict in found] == ["energy_j", "output_tokens_per_s"]
    assert overall(found) == "skipped"


@pytest.mark.parametrize("strict", [False, True])
def test_failed_cycles_fail_a_gate_of_regressions_too(strict: bool) -> None:
    failure = Failure(kind="crashed", message="out of memory")
    given = [*outcomes(1.0), outcome(measurement=None, failure=failure)]
    (found,) = judge([REGRESSION], given, allow_estimated=False, strict=strict)
    assert (found.metric, found.outcome) == ("cycles", "failed")
    assert found.reason == "1 of 2 cycles failed: out of memory"


def test_skipped_cycles_skip_a_gate_of_regressions_too() -> None:
    given = [outcome(measurement=None, skipped="no docker here")]
    (found,) = judge([REGRESSION], given, allow_estimated=False, strict=False)
    assert found.reason == "all cycles were skipped: no docker here"


# --- all verdicts together -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("judgements", "result"),
    [
        ([], "skipped"),
        (["passed"], "passed"),
        (["skipped"], "skipped"),
        (["failed"], "failed"),
        (["passed", "skipped"], "passed"),
        (["skipped", "passed", "failed"], "failed"),
        (["skipped", "failed"], "failed"),
    ],
)
def test_any_failed_fails_and_any_passed_passes(judgements: list[str], result: Judgement) -> None:
    assert overall([verdict(judgement) for judgement in judgements]) == result
