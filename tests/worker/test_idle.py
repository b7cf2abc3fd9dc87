"""Idle power: made of an idle phase, taken over or not, and checked before the window."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from pytest_llem.extensions import Target
from pytest_llem.records import IDLE_LASTS_S, Idle, IdlePower
from pytest_llem.worker.idle import checked, drifts, measured, shared
from tests.builders import reading, window


class StubMeter:
    """Reads the domains it is told to."""

    name = "stub"
    estimates = False
    reason = ""

    def __init__(self, *domains: str, name: str = "stub") -> None:
        self.domains: Sequence[str] = domains
        self.name = name

    def start(self, exact: bool = True) -> None:
        """Never read here."""

    def stop(self, token: object, start_s: float, end_s: float) -> tuple[()]:
        return ()

    def close(self) -> None:
        """Nothing is held."""


def power(power_w: float | None = 70.0, **fields: Any) -> IdlePower:
    base = IdlePower(
        domain="gpu:a", meter="stub", method="counter", power_w=power_w, uncertainty_w=0.1
    )
    return dataclasses.replace(base, **fields)


def idle(*powers: IdlePower, **fields: Any) -> Idle:
    base = Idle(powers=powers or (power(),), duration_s=30.0, origin="a c1")
    return dataclasses.replace(base, **fields)


# --- made ----------------------------------------------------------------------------------


def test_idle_power_is_energy_by_time_for_each_domain() -> None:
    made = measured(
        window(
            "idle",
            4.0,
            reading(8.0, uncertainty_j=0.4, systematic=0.05),
            reading(None, domain="dram:0", quality="unmeasured", reason="gone"),
        )
    )
    assert made.duration_s == 4.0
    assert (made.age_s, made.origin, made.drifted) == (0.0, None, False)
    cpu, dram = made.powers
    assert (cpu.power_w, cpu.uncertainty_w, cpu.systematic) == (2.0, 0.1, 0.05)
    assert (dram.power_w, dram.quality, dram.reason) == (None, "unmeasured", "gone")


# --- taken over ----------------------------------------------------------------------------

METERS = (StubMeter("gpu:a"),)


def test_what_is_known_is_taken_over_with_its_age() -> None:
    found = shared(idle(age_s=100.0), 30.0, METERS, 20.0)
    assert found == idle(age_s=120.0)


@pytest.mark.parametrize(
    "meters",
    [
        (),
        (StubMeter("gpu:b"),),
        (StubMeter("gpu:a", "gpu:b"),),
        (StubMeter("gpu:a", name="another"),),
        (StubMeter("gpu:a"), StubMeter("cpu:0", name="another")),
    ],
)
def test_it_is_not_where_something_else_is_read(meters: tuple[StubMeter, ...]) -> None:
    assert shared(idle(), 30.0, meters, 0.0) is None


@pytest.mark.parametrize(
    ("fields", "passed_s"),
    [
        ({"age_s": IDLE_LASTS_S - 10.0}, 11.0),  # loading took so long
        ({"duration_s": 29.0}, 0.0),
    ],
)
def test_it_is_not_where_it_is_too_old_or_too_short(
    fields: dict[str, Any], passed_s: float
) -> None:
    assert shared(idle(**fields), 30.0, METERS, passed_s) is None


def test_nothing_known_is_nothing_taken_over() -> None:
    assert shared(None, 30.0, METERS, 0.0) is None


def test_a_stub_is_a_meter_of_any_target() -> None:
    assert Target(device="cuda").count == 1
    assert METERS[0].stop(None, 0.0, 1.0) == ()


# --- checked -------------------------------------------------------------------------------


def told(before_w: float | None, known: IdlePower | None = None, **fields: Any) -> list[str]:
    given = reading(10.0, **({"domain": "gpu:a", "before_w": before_w} | fields))
    return list(drifts(idle(known or power()), (given,), "gpu:"))


def test_a_drift_names_both_numbers_and_a_remedy() -> None:
    (line,) = told(81.2)
    assert line == (
        "gpu:a drew 81.2 W just before the window, 70.0 W when idle was measured (by a c1):"
        " let it settle with a longer warm-up or idle, or check for other processes"
    )


@pytest.mark.parametrize(
    ("before_w", "uncertainty_w", "drifted"),
    [
        (73.4, 0.1, False),  # within 5 %
        (73.6, 0.1, True),
        (66.4, 0.1, True),
        (80.0, 4.0, False),  # within three sigma
        (83.0, 4.0, True),
        (83.0, None, True),
        (None, 0.1, False),  # not observed
    ],
)
def test_a_difference_counts_beyond_its_noise(
    before_w: float | None, uncertainty_w: float | None, drifted: bool
) -> None:
    assert bool(told(before_w, power(uncertainty_w=uncertainty_w))) is drifted


def test_only_the_experiments_own_devices_are_checked() -> None:
    assert told(99.0, power(domain="cpu:0"), domain="cpu:0") == []
    assert told(99.0, power(domain="gpu:b")) == []
    assert told(99.0, power(None, quality="unmeasured")) == []


def test_a_checked_idle_power_has_its_age_at_the_window() -> None:
    # The window begins at 100.
    found, warnings = checked(idle(age_s=5.0), window("measure", 1.0), "gpu:", 97.0)
    assert found == idle(age_s=8.0)
    assert warnings == ()


def test_a_checked_idle_power_says_when_it_does_not_hold() -> None:
    measure = window("measure", 1.0, reading(10.0, domain="gpu:a", before_w=90.0))
    found, warnings = checked(idle(), measure, "gpu:", 100.0)
    assert found is not None
    assert found.drifted
    assert len(warnings) == 1


def test_without_idle_power_there_is_nothing_to_check() -> None:
    assert checked(None, window("measure", 1.0), "gpu:", 100.0) == (None, ())
