"""Idle power kept for later measurements: which, how long, and until when."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pytest_llem.records import IDLE_LASTS_S, Idle, IdlePower, Measurement
from pytest_llem.results.idle import IdleStore
from tests.builders import experiment, measurement
from tests.builders import window as phase


class Clock:
    """Tells the time it was set to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


IDLE = Idle(
    powers=(IdlePower(domain="cpu:0", meter="m", method="counter", power_w=7.0),),
    duration_s=30.0,
    age_s=2.0,
)


def made(idle: Idle | None = IDLE) -> Measurement:
    """One that ended 5 s after its idle phase: 2 s until the window, which took 3 s."""
    return measurement(
        experiment="b", cycle=2, windows=(phase("load", 1.0), phase("measure", 3.0)), idle=idle
    )


def stored(*measurements: Measurement) -> tuple[IdleStore, Clock]:
    clock = Clock()
    store = IdleStore(clock)
    for each in measurements:
        store.keep("key", each)
    return store, clock


def of_quality(quality: Any) -> Idle:
    return dataclasses.replace(IDLE, powers=(dataclasses.replace(IDLE.powers[0], quality=quality),))


def test_what_was_measured_is_handed_on_with_its_age_and_origin() -> None:
    store, clock = stored(made())
    clock.now_s += 10.0
    found = store.get("key", experiment(idle=30.0))
    assert found == dataclasses.replace(IDLE, age_s=15.0, origin="b c2")


def test_another_loaded_state_has_none() -> None:
    store, _ = stored(made())
    assert store.get("another", experiment(idle=30.0)) is None


@pytest.mark.parametrize("wanted", ["none", 31.0])
def test_who_wants_none_or_a_longer_one_gets_none(wanted: Any) -> None:
    store, _ = stored(made())
    assert store.get("key", experiment(idle=wanted)) is None


@pytest.mark.parametrize(("passed_s", "there"), [(594.9, True), (595.1, False)])
def test_it_lasts_ten_minutes(passed_s: float, there: bool) -> None:
    store, clock = stored(made())
    assert IDLE_LASTS_S == 600.0
    clock.now_s += passed_s
    assert (store.get("key", experiment(idle=30.0)) is not None) is there


@pytest.mark.parametrize(
    ("quality", "there"),
    [
        ("ok", True),
        ("estimated", True),
        ("short", False),
        ("degraded", False),
        ("unmeasured", False),
    ],
)
def test_a_doubtful_one_is_measured_again(quality: str, there: bool) -> None:
    store, _ = stored(made(of_quality(quality)))
    assert (store.get("key", experiment(idle=30.0)) is not None) is there


@pytest.mark.parametrize("idle", [None, Idle(powers=(), duration_s=30.0)])
def test_no_idle_power_is_nothing_to_keep(idle: Idle | None) -> None:
    store, _ = stored(made(idle))
    assert store.get("key", experiment(idle=30.0)) is None


def test_one_that_was_taken_over_does_not_get_younger() -> None:
    store, clock = stored(made())
    clock.now_s += 590.0
    store.keep("key", made(dataclasses.replace(IDLE, origin="b c2", age_s=590.0)))
    clock.now_s += 10.0
    assert store.get("key", experiment(idle=30.0)) is None


def test_one_that_was_taken_over_and_does_not_hold_is_measured_again() -> None:
    store, _ = stored(made(), made(dataclasses.replace(IDLE, origin="b c2", drifted=True)))
    assert store.get("key", experiment(idle=30.0)) is None


def test_one_just_measured_is_kept_though_the_device_was_still_warm() -> None:
    store, _ = stored(made(dataclasses.replace(IDLE, drifted=True)))
    found = store.get("key", experiment(idle=30.0))
    assert found is not None
    assert not found.drifted
