"""Verdicts on regressions, whatever figures and references there are."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.demands import Limit
from pytest_llem.records import WORST_FIRST, Verdict
from pytest_llem.results.references import Reference
from pytest_llem.results.regression import compared, judge_regression
from tests.builders import UNHURRIED

TESTBED = {"device": "cpu", "cpu": "A"}
LENIENCE = ("failed", "skipped", "passed")


def reference(figures: list[dict[str, Any]], *, cpu: str = "A") -> Reference:
    """A session whose cycles had these energies."""
    return Reference(
        name="r",
        figures={"energy_j": figures},
        testbed={**TESTBED, "cpu": cpu},
        subject={"engine": "1.0"},
    )


FIGURES = st.one_of(
    st.builds(
        lambda value, quality: {"value": value, "quality": quality},
        st.floats(-1, 1e3),
        st.sampled_from([quality for quality in WORST_FIRST if quality != "unmeasured"]),
    ),
    st.just({"value": None, "quality": "unmeasured", "reason": "lost"}),
)
CYCLES = st.lists(FIGURES, min_size=1, max_size=4)
SOUND = st.lists(
    st.floats(1, 1e3).map(lambda value: {"value": value, "quality": "ok"}), min_size=3, max_size=4
)
SESSIONS = st.builds(lambda cycles, cpu: reference(cycles, cpu=cpu), SOUND, st.sampled_from("AAB"))


def judge(
    now: Reference, references: list[Reference], budget: float = 0.05, *, strict: bool = False
) -> Verdict:
    limit = Limit(metric="energy_j", regression=budget, where="s.study.yaml:7")
    found = compared("energy_j", now, references, budget=budget)
    figures = now.read("energy_j")
    return judge_regression(limit, figures, found, allow_estimated=False, strict=strict)


@UNHURRIED
@given(CYCLES | SOUND, st.lists(st.builds(reference, CYCLES) | SESSIONS, max_size=4))
def test_every_session_has_a_verdict_with_its_reason(
    cycles: list[dict[str, Any]], references: list[Reference]
) -> None:
    now = reference(cycles)
    found, strict = (judge(now, references, strict=strict) for strict in (False, True))
    assert found.reason
    assert (found.reason, found.comparison) == (strict.reason, strict.comparison)
    # Strict knows no third way, and forgives nothing.
    assert strict.outcome in {"passed", "failed"}
    assert LENIENCE.index(strict.outcome) <= LENIENCE.index(found.outcome)
    if found.measured is None:
        assert found.outcome == "failed"
    if strict.outcome == "passed":
        assert found.comparison is not None
        assert {figure["quality"] for figure in cycles} == {"ok"}


@UNHURRIED
@given(SOUND, st.lists(SESSIONS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_references_have_no_order(
    cycles: list[dict[str, Any]], references: list[Reference], random: Random
) -> None:
    now = reference(cycles)
    one = judge(now, references)
    other = judge(now, random.sample(references, len(references)))
    assert (one.outcome, one.reason) == (other.outcome, other.reason)


@UNHURRIED
@given(SOUND, st.lists(SESSIONS, min_size=1, max_size=5))
def test_references_of_another_testbed_make_no_difference(
    cycles: list[dict[str, Any]], references: list[Reference]
) -> None:
    now = reference(cycles)
    usable = [each for each in references if each.testbed["cpu"] == "A"]
    one, other = judge(now, references), judge(now, usable)
    assert one.outcome == other.outcome
    assert (one.comparison is None) == (not usable)
    if one.comparison is not None and other.comparison is not None:
        assert one.comparison.change == other.comparison.change
        assert one.comparison.sessions == len(usable)


@UNHURRIED
@given(SOUND, st.lists(SESSIONS, min_size=1, max_size=5), st.floats(0, 1), st.floats(0, 1))
def test_a_wider_budget_fails_no_more(
    cycles: list[dict[str, Any]], references: list[Reference], one: float, other: float
) -> None:
    narrow, wide = sorted((one, other))
    now = reference(cycles)
    for strict in (False, True):
        first, second = (judge(now, references, b, strict=strict) for b in (narrow, wide))
        assert LENIENCE.index(first.outcome) <= LENIENCE.index(second.outcome)
