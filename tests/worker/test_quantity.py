"""Sums of readings: what they must never do, whatever is read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.records import WORST_FIRST, Reading
from pytest_llem.worker.energy import energy
from pytest_llem.worker.quantity import of_reading, total
from tests.builders import QUANTITIES, UNHURRIED, reading

JOULES = QUANTITIES
DOUBTS = st.sampled_from(["ok", "short", "degraded"])


def readings() -> st.SearchStrategy[Reading]:
    """Measured readings of one meter."""
    return st.builds(
        reading,
        JOULES,
        uncertainty_j=st.just(0.0) | st.floats(1e-12, 1e6),
        systematic=st.floats(0.0, 1.0),
        quality=DOUBTS,
        reason=st.none() | st.sampled_from(["few updates", "shared"]),
    )


SEVERAL = st.lists(readings(), min_size=1, max_size=5)


def summed(members: Sequence[Reading]) -> float:
    value = energy(members, "cpu:", "").value
    assert value is not None
    return value


@UNHURRIED
@given(SEVERAL, st.integers(0, 5), st.none() | st.just("gone"))
def test_one_null_member_makes_the_sum_null(
    members: list[Reading], index: int, reason: str | None
) -> None:
    lost = reading(None, domain="cpu:7", quality="unmeasured", reason=reason)
    found = energy([*members[:index], lost, *members[index:]], "cpu:", "").figure
    assert (found.value, found.uncertainty, found.systematic) == (None, None, None)
    assert found.quality == "unmeasured"
    assert found.reason == f"cpu:7: {reason or 'could not be read'}"


@UNHURRIED
@given(SEVERAL, readings())
def test_a_sum_is_never_smaller_for_another_member(members: list[Reading], more: Reading) -> None:
    assert summed([*members, more]) >= summed(members)


@UNHURRIED
@given(SEVERAL)
def test_a_sum_is_as_doubtful_as_its_worst_member(members: list[Reading]) -> None:
    found = energy(members, "cpu:", "").figure
    worst = min(members, key=lambda member: WORST_FIRST.index(member.quality))
    assert found.quality == worst.quality
    for member in members:
        assert member.reason is None or member.reason in str(found.reason)


@UNHURRIED
@given(SEVERAL, st.booleans())
def test_estimates_and_measurements_make_no_sum(members: list[Reading], first: bool) -> None:
    estimate = reading(5.0, method="estimate", quality="estimated", reason="modelled")
    mixed = [estimate, *members] if first else [*members, estimate]
    found = energy(mixed, "cpu:", "").figure
    assert (found.value, found.quality) == (None, "unmeasured")
    assert "estimated" in str(found.reason)


@UNHURRIED
@given(SEVERAL)
def test_the_gain_of_one_meter_adds_linearly_and_the_rest_in_quadrature(
    members: list[Reading],
) -> None:
    found = energy(members, "cpu:", "").figure
    gains = [member.systematic * (member.energy_j or 0.0) for member in members]
    spreads = [member.uncertainty_j or 0.0 for member in members]
    assert found.systematic == pytest.approx(sum(gains))
    assert found.uncertainty == pytest.approx(math.hypot(*spreads))


def test_gains_of_two_meters_are_independent() -> None:
    one = reading(10.0, systematic=0.3)
    other = reading(10.0, domain="cpu:1", meter="another", systematic=0.4)
    assert energy([one, other], "cpu:", "").figure.systematic == pytest.approx(5.0)


@UNHURRIED
@given(JOULES, JOULES, st.floats(0.0, 1.0))
def test_a_difference_has_its_share_of_the_gain_and_may_be_negative(
    gross_j: float, idle_j: float, systematic: float
) -> None:
    gross, idle = (of_reading(reading(j, systematic=systematic)) for j in (gross_j, idle_j))
    found = total([(1.0, gross), (-1.0, idle)]).figure
    assert found.value == gross_j - idle_j
    slack = 1e-12 * max(gross_j, idle_j)
    assert found.systematic == pytest.approx(systematic * abs(gross_j - idle_j), abs=slack)


@UNHURRIED
@given(readings(), st.floats(1e-6, 1e6))
def test_a_quotient_keeps_every_relative_uncertainty(member: Reading, count: float) -> None:
    whole = of_reading(member)
    part = whole.per(count, "tokens").figure
    assert part.value == pytest.approx(whole.figure.value / count if whole.figure.value else 0.0)
    assert part.uncertainty == pytest.approx((whole.spread or 0.0) / count)
    assert part.systematic == pytest.approx((whole.figure.systematic or 0.0) / count)
    assert part.quality == member.quality


@pytest.mark.parametrize("count", [0, 0.0])
def test_a_quotient_of_nothing_is_null(count: float) -> None:
    found = of_reading(reading(1.0)).per(count, "tokens").figure
    assert (found.value, found.reason) == (None, "there were no tokens")


def test_an_uncertainty_that_one_member_lacks_is_unknown_of_the_sum() -> None:
    members = [reading(1.0, uncertainty_j=0.5), reading(1.0, uncertainty_j=None)]
    found = energy(members, "cpu:", "").figure
    assert (found.value, found.uncertainty) == (2.0, None)
