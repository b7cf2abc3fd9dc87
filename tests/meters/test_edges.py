"""The energy of a window from ticks around it, where everything else is known exactly."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llem.meters.edges import Evidence, Slope, attribute, is_settled, slopes
from pytest_llem.meters.ticks import Look, Tick
from tests.builders import UNHURRIED

pytestmark = pytest.mark.once

PERIOD_S = 0.1
REST_W = 70.0
BRACKET_S = 30e-6

Load = list[tuple[float, float]]
"""Duration and power of one piece after the other."""


def energy_j(load: Load, start_s: float, at_s: float, rest_w: float = REST_W) -> float:
    """From time 0 on, with the load's first piece from ``start_s``."""
    joules, now_s = rest_w * min(at_s, start_s), start_s
    for duration_s, power_w in load:
        joules += power_w * min(max(at_s - now_s, 0.0), duration_s)
        now_s += duration_s
    return joules + rest_w * max(0.0, at_s - now_s)


def evidence(
    load: Load,
    *,
    lead_s: float = 0.0005,
    off_s: float = 0.0,
    rest_w: float = REST_W,
    shift_s: float = 0.0,
) -> Evidence:
    """What a meter sees of a load that begins a while after the fourth tick.

    Args:
        load: pieces.
        lead_s: from that tick on.
        off_s: by what the ticks' brackets are beside them.
        rest_w: power outside.
        shift_s: of all times.
    """
    start_s = 4 * PERIOD_S + lead_s
    end_s = start_s + sum(duration_s for duration_s, _ in load)
    look_s = end_s + 50e-6

    def tick(number: int) -> Tick:
        at_s = number * PERIOD_S
        middle_s = at_s + off_s + shift_s
        joules = energy_j(load, start_s, at_s, rest_w)
        return Tick(middle_s - BRACKET_S / 2, middle_s + BRACKET_S / 2, joules)

    last = math.floor(look_s / PERIOD_S)
    return Evidence(
        start_s=start_s + shift_s,
        end_s=end_s + shift_s,
        before=[tick(number) for number in (2, 3, 4)],
        at_end=Look(look_s + shift_s, look_s + shift_s + 20e-6, tick(last).joules),
        after=[tick(last + number) for number in (1, 2)],
        period_s=PERIOD_S,
        unit_j=0.001,
        doubt_s=0.0002,
    )


loads = st.lists(st.tuples(st.floats(0.005, 0.5), st.floats(90, 700)), min_size=1, max_size=6)
leads_s = st.floats(0.0001, 0.09)


@settings(UNHURRIED, max_examples=200)
@given(load=loads, lead_s=leads_s, off_s=st.floats(-BRACKET_S / 2, BRACKET_S / 2))
def test_any_load_without_a_tail_is_told_within_its_doubt(
    load: Load, lead_s: float, off_s: float
) -> None:
    exact_j = sum(duration_s * power_w for duration_s, power_w in load)
    found = attribute(evidence(load, lead_s=lead_s, off_s=off_s))
    assert abs(found.energy_j - exact_j) <= 4 * found.uncertainty_j
    assert found.to_idle.above_j is not None
    assert found.before is not None
    assert found.before.power_w == pytest.approx(REST_W)
    above_j = exact_j - REST_W * sum(duration_s for duration_s, _ in load)
    assert found.to_idle.above_j == pytest.approx(above_j, abs=0.02)


@settings(UNHURRIED, max_examples=100)
@given(load=loads, lead_s=leads_s, shift_s=st.floats(-10, 1e5))
def test_when_it_was_changes_nothing(load: Load, lead_s: float, shift_s: float) -> None:
    here = attribute(evidence(load, lead_s=lead_s))
    there = attribute(evidence(load, lead_s=lead_s, shift_s=shift_s))
    assert there.energy_j == pytest.approx(here.energy_j, abs=1e-5)
    assert there.tail_j == pytest.approx(here.tail_j, abs=1e-5)


@settings(UNHURRIED, max_examples=100)
@given(load=loads, lead_s=leads_s, more_w=st.floats(0, 300))
def test_a_power_that_is_always_there_adds_its_own_energy(
    load: Load, lead_s: float, more_w: float
) -> None:
    duration_s = sum(seconds for seconds, _ in load)
    more = [(seconds, power_w + more_w) for seconds, power_w in load]
    alone = attribute(evidence(load, lead_s=lead_s))
    with_more = attribute(evidence(more, lead_s=lead_s, rest_w=REST_W + more_w))
    assert with_more.energy_j - alone.energy_j == pytest.approx(more_w * duration_s, abs=1e-6)
    assert with_more.to_idle.above_j == pytest.approx(alone.to_idle.above_j, abs=1e-6)


@given(power_w=st.floats(80, 700), lead_s=leads_s)
@settings(UNHURRIED, max_examples=50)
def test_a_window_within_one_period(power_w: float, lead_s: float) -> None:
    found = attribute(evidence([(0.004, power_w)], lead_s=lead_s))
    assert found.energy_j == pytest.approx(0.004 * power_w, abs=4 * found.uncertainty_j)


def test_a_tick_between_the_end_and_the_first_read_counts() -> None:
    load = [(0.4 - 0.02, 500.0)]
    seen = evidence(load, lead_s=0.01)
    # The read came 30 ms late: the tick in between was not seen, but its value was.
    late = dataclasses.replace(
        seen,
        at_end=Look(seen.end_s + 0.03, seen.end_s + 0.03002, seen.after[0].joules),
        after=[
            seen.after[1],
            dataclasses.replace(
                seen.after[1],
                lo_s=seen.after[1].lo_s + PERIOD_S,
                hi_s=seen.after[1].hi_s + PERIOD_S,
                joules=seen.after[1].joules + REST_W * PERIOD_S,
            ),
        ],
    )
    found = attribute(late)
    assert found.energy_j == pytest.approx(190.0, abs=4 * found.uncertainty_j)
    assert found.uncertainty_j < 0.1


def test_a_read_that_may_be_of_either_side_of_a_tick_is_not_used() -> None:
    seen = evidence([(0.4 - 0.0002, 500.0)], lead_s=0.0001)
    long = dataclasses.replace(seen, at_end=dataclasses.replace(seen.at_end, joules=0.0))
    assert attribute(long).energy_j == pytest.approx(attribute(seen).energy_j, abs=0.1)


def test_with_one_tick_before_the_power_behind_is_taken() -> None:
    seen = evidence([(0.37, 500.0)], lead_s=0.03)
    found = attribute(dataclasses.replace(seen, before=seen.before[-1:]))
    assert found.energy_j == pytest.approx(185.0, abs=4 * found.uncertainty_j)
    assert found.before is None
    assert found.to_idle.above_j is None
    assert found.to_idle.reason == "the power before the window wasn't seen"


def test_a_device_that_draws_more_behind_the_window_says_so() -> None:
    seen = evidence([(0.37, 500.0)])
    more = [
        dataclasses.replace(tick, joules=tick.joules + 10 * number)
        for number, tick in enumerate(seen.after)
    ]
    found = attribute(dataclasses.replace(seen, after=more))
    assert found.to_idle.above_j is None
    assert found.to_idle.above_j is None
    assert "after the window the device drew 170 W, and 70 W before it" in (
        found.to_idle.reason or ""
    )


# --- powers --------------------------------------------------------------------------------


def ticking(*powers_w: float, bracket_s: float = BRACKET_S) -> list[Tick]:
    joules, ticks = 0.0, []
    for number, power_w in enumerate((0.0, *powers_w)):
        joules += power_w * PERIOD_S
        at_s = number * PERIOD_S
        ticks.append(Tick(at_s - bracket_s / 2, at_s + bracket_s / 2, joules))
    return ticks


def powers(*powers_w: float, bracket_s: float = BRACKET_S) -> list[Slope]:
    return slopes(ticking(*powers_w, bracket_s=bracket_s), PERIOD_S, 0.001)


@given(st.lists(st.floats(0, 900), min_size=1, max_size=6))
@settings(UNHURRIED, max_examples=50)
def test_powers_are_those_between_ticks(powers_w: list[float]) -> None:
    assert [slope.power_w for slope in powers(*powers_w)] == pytest.approx(powers_w, abs=1e-6)


def test_ticks_that_are_too_near_make_no_power() -> None:
    ticks = ticking(70, 70)
    double = Tick(ticks[1].hi_s, ticks[1].hi_s + 1e-5, ticks[1].joules)
    assert len(slopes([*ticks[:2], double], PERIOD_S, 0.001)) == 1


@pytest.mark.parametrize(
    ("before_w", "after_w", "settled"),
    [
        ((70, 70), (), False),
        ((70, 70), (70,), True),
        ((70, 70), (300,), False),
        ((70, 70), (300, 180), False),
        ((70, 70), (300, 180, 180), True),
        ((70, 70), (300, 70.5), True),
        ((), (70,), False),
        ((), (70, 70), True),
    ],
)
def test_a_device_is_at_rest_as_before_or_twice_the_same(
    before_w: tuple[float, ...], after_w: tuple[float, ...], settled: bool
) -> None:
    assert is_settled(powers(*before_w), powers(*after_w)) is settled


def test_blurred_ticks_make_powers_alike() -> None:
    sharp, blurred = powers(70, 80), powers(70, 80, bracket_s=0.02)
    assert not sharp[0].agrees(sharp[1])
    assert blurred[0].agrees(blurred[1])
