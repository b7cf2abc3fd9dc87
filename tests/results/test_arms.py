"""Head beside base: which cycles are pairs, what may be compared, what a gate makes of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.demands import Arm, Limit, RunnerSpec
from pytest_llem.records import Comparison, Failure, Figure, Verdict
from pytest_llem.results.arms import Pairs, of_arms
from pytest_llem.results.gates import judge
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.references import load
from pytest_llem.wire import to_dict
from tests.builders import estimated, measurement, outcome, unmeasured

LIMIT = Limit(metric="energy_j", regression=0.05, where="s.study.yaml:7")
BASE = RunnerSpec(mode="local", argument="/old/bin/python", source="ab")


def measured(
    arm: Arm, *figures: float | Figure, testbed: dict[str, Any] | None = None, version: str = "1"
) -> list[Outcome]:
    """A cycle for each figure of the energy."""
    return [
        outcome(
            cycle=cycle,
            arm=arm,
            runner=BASE if arm == "base" else RunnerSpec(mode="local"),
            measurement=measurement(
                cycle=cycle,
                metrics={"energy_j": figure, "output_tokens_per_s": figure},
                testbed={"device": "cpu", **(testbed or {})},
                subject={"versions": {"torch": version}},
            ),
        )
        for cycle, figure in enumerate(figures, 1)
    ]


def failed(cycle: int, **fields: Any) -> Outcome:
    failure = Failure(kind="missing", message="torch not installed")
    return outcome(cycle=cycle, arm="base", measurement=None, failure=failure, **fields)


def skipped(cycle: int) -> Outcome:
    return outcome(cycle=cycle, arm="base", measurement=None, skipped="why not")


def pairs(head: list[Outcome], base: list[Outcome]) -> Pairs:
    found = of_arms(head, base)
    assert found is not None
    return found


def compared(head: list[Outcome], base: list[Outcome], metric: str = "energy_j") -> Comparison:
    found = pairs(head, base).compared(metric, 0.05)
    assert isinstance(found, Comparison), found
    return found


def judged(head: list[Outcome], base: list[Outcome], *, strict: bool = False) -> Verdict:
    (found,) = judge([LIMIT], head, base=base, allow_estimated=False, strict=strict)
    return found


# --- what is compared ----------------------------------------------------------------------


def test_a_comparison_reads_like_this() -> None:
    found = compared(measured("head", 1.1, 1.1, 1.1, version="2"), measured("base", 1.0, 1.0, 1.0))
    assert found.text == (
        "1.10 J, the base 1.00 J: pair by pair 10.0 % worse (3 pairs, 95 %: +6.3 % to +13.8 %),"
        " budget 5 %; finds 6.09 % or more; with torch 1 → 2; base local:/old/bin/python"
    )
    assert (found.outcome, found.reference, found.sessions, found.pairs) == ("worse", 1.0, 0, 3)
    assert found.change == pytest.approx(0.1)
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < 0.1 < found.high


def test_more_tokens_a_second_are_better_and_equal_versions_are_told() -> None:
    arms = measured("head", 1.1, 1.1, 1.1), measured("base", 1.0, 1.0, 1.0)
    found = compared(*arms, metric="output_tokens_per_s")
    assert found.outcome == "kept"
    assert "pair by pair 10.0 % better (3 pairs, 95 %: +6.3 % to +13.8 %)" in found.text
    assert "versions are the same" in found.text


def test_cycles_are_paired_by_their_number_whatever_their_order() -> None:
    head, base = measured("head", 1.0, 2.0, 4.0, 8.0), measured("base", 1.0, 2.0, 4.0, 8.0)
    found = compared(head[::-1], [*base[:3], skipped(4)])
    assert (found.pairs, found.change) == (3, 0.0)
    assert "pair by pair the same (3 pairs" in found.text


def test_without_a_common_cycle_there_is_no_pair() -> None:
    assert of_arms(measured("head", 1.0)[:1], measured("base", 1.0, 1.0)[1:]) is None


def test_pairs_of_two_testbeds_are_not_compared() -> None:
    base = measured("base", 1.0, 1.0, 1.0)
    other = measured("base", 1.0, 1.0, 1.0, testbed={"cpus": 8})
    text = pairs(measured("head", 1.0, 1.0, 1.0), [*base[:2], other[2]]).compared("energy_j")
    assert text == "not compared, the testbeds of base and head differ in c3: CPUs: 8 → none"


@pytest.mark.parametrize(
    ("head", "base", "text"),
    [
        (1.0, unmeasured("no meter"), "not compared, unmeasured of the base: 1 of 3 cycles: no *"),
        (1.0, estimated(1.0), "not compared, one arm's is measured and the other's estimated"),
        (1.0, 0.0, "inconclusive: values of zero or less have no ratio; *"),
    ],
)
def test_what_can_not_be_compared_says_why(head: float, base: float | Figure, text: str) -> None:
    found = pairs(measured("head", head, 1.0, 1.0), measured("base", base, 1.0, 1.0))
    said = found.compared("energy_j", 0.05)
    said = said if isinstance(said, str) else said.text
    assert said.startswith(text.rstrip("*"))


# --- the gate ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "plain", "strict"),
    [
        ((1.0, 1.0, 1.0), "passed", "passed"),
        ((1.1, 1.1, 1.1), "failed", "failed"),
        ((0.98, 1.06, 1.14), "passed", "failed"),
        ((1.1, 1.1), "passed", "failed"),
    ],
)
def test_a_gate_has_the_words_that_it_has_for_sessions(
    values: tuple[float, ...], plain: str, strict: str
) -> None:
    head, base = measured("head", *values), measured("base", *[1.0] * len(values))
    assert judged(head, base).outcome == plain
    assert judged(head, base, strict=True).outcome == strict


@pytest.mark.parametrize(
    ("base", "plain", "strict", "text"),
    [
        ([failed(1), *measured("base", 1.0, 1.0, 1.0)[1:]], "failed", "failed", "1 of 3 cycles *"),
        (
            [skipped(1), skipped(2)],
            "skipped",
            "failed",
            "2 of 2 cycles of the base were skipped: *",
        ),
        ([], "skipped", "failed", "no cycle of both base and head was selected, so nothing *"),
    ],
)
def test_a_base_that_is_not_there_judges_nothing(
    base: list[Outcome], plain: str, strict: str, text: str
) -> None:
    head = measured("head", 1.0, 1.0, 1.0)
    for outcome_, found in (
        (plain, judged(head, base)),
        (strict, judged(head, base, strict=True)),
    ):
        assert (found.metric, found.outcome) == ("cycles", outcome_)
        assert found.reason.startswith(text.rstrip("*"))


def test_the_head_keeps_its_own_limits_whatever_the_base_does() -> None:
    limits = [dataclasses.replace(LIMIT, most=2.0), Limit(metric="energy_j", most=0.5)]
    head = measured("head", 1.0, 1.0, 1.0)
    found = judge(limits, head, base=[failed(1)], allow_estimated=False, strict=False)
    assert [verdict.outcome for verdict in found] == ["passed", "failed", "failed"]
    assert found[-1].reason == "1 of 1 cycles of the base failed: torch not installed"


@pytest.mark.parametrize("arm", ["head", "base"])
def test_a_doubtful_reading_of_either_arm_fails_strictly(arm: Arm) -> None:
    short = Figure(value=1.0, quality="short", reason="one tick")
    arms = {"head": measured("head", 1.0, 1.0, 1.0), "base": measured("base", 1.0, 1.0, 1.0)}
    arms[arm] = measured(arm, short, 1.0, 1.0)
    found = judged(arms["head"], arms["base"])
    assert found.outcome == "passed"
    assert found.reason.endswith(", reading short: one tick")
    assert judged(arms["head"], arms["base"], strict=True).outcome == "failed"


def test_a_later_session_is_compared_with_the_head_only(tmp_path: Path) -> None:
    rows = [*measured("base", 9.0), *measured("head", 1.0)]
    path = tmp_path / "report.json"
    document = {"schema_version": 1, "measurements": [to_dict(row) for row in rows]}
    path.write_text(json.dumps(document))
    (reference,) = load([path]).of("s", "a")
    assert reference.values("energy_j") == [1.0]
