"""Counter and power of simulated boards, as the real pynvml sees them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pynvml
import pytest

from tests.rig.asking import energy_mj, field, handle, power_mw
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import A100, H100, NO_COUNTER, SENSOR, V100, Rig, Settings, VirtualClock

pytestmark = pytest.mark.once

BUSY: Settings = {"wave": "square:250,700,0.0371", "idle": 61.7303, "tail_ms": 180}
"""Odd numbers, so that no sum lies just between two millijoules."""


def epoch_s(rig: Rig) -> float:
    return rig.epoch_ns * 1e-9


# --- the counter ---------------------------------------------------------------------------


def follow(rig: Rig, clock: VirtualClock, gpu: Any, steps: int = 150) -> list[tuple[int, int]]:
    """What the counter shows and should show, through loads and pauses."""
    shown = []
    counter = rig.counter()
    for step in range(steps):
        if step % 50 == 10:
            rig.mark(1)
        if step % 50 == 30:
            rig.mark(0)
        clock.sleep(0.0113)
        # Looking at the clock moves it, so the call must not be the one to meet a tick.
        before_s = clock.monotonic()
        mj = energy_mj(gpu)
        if counter.tick(before_s) == counter.tick(clock.monotonic()):
            shown.append((mj, counter.value_mj(before_s)))
    assert len(shown) > 0.9 * steps
    return shown


@pytest.mark.parametrize("board", [V100, A100, H100], ids=["V100", "A100", "H100"])
def test_a_counter_shows_the_energy_until_its_last_tick(board: Any, nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(board, settings=BUSY)
    gpu = handle()
    with rig.virtual_time() as clock:
        shown = follow(rig, clock, gpu)
    # One of them may still lie just between two.
    assert all(abs(mj - expected) <= 1 for mj, expected in shown)
    assert sum(mj == expected for mj, expected in shown) > 0.9 * len(shown)


@pytest.mark.parametrize(
    "settings",
    [
        {"energy_quant_mj": 1000},
        {"energy_bits": 32, "energy_base_mj": 2**32 - 800_000},
        {"energy_reset_s": 11},
    ],
    ids=["quantum", "wrap", "reset"],
)
def test_a_counter_can_be_coarse_and_wrap_and_begin_again(
    settings: Settings, nvml_rig: NvmlRig
) -> None:
    rig = nvml_rig(V100, settings={**BUSY, **settings}, age_s=10)
    gpu = handle()
    with rig.virtual_time() as clock:
        shown = follow(rig, clock, gpu)
    values = [mj for mj, _ in shown]
    assert sum(mj == expected for mj, expected in shown) > 0.9 * len(shown)
    falls = sum(later < earlier for earlier, later in itertools.pairwise(values))
    assert falls == (0 if "energy_quant_mj" in settings else 1)
    assert max(values) < 2**32
    if "energy_quant_mj" in settings:
        assert {mj % 1000 for mj in values} == {0}


@pytest.mark.parametrize(("board", "ticks"), [(V100, 50), (H100, 10)], ids=["V100", "H100"])
def test_a_counter_moves_once_a_period(board: Any, ticks: int, nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(board)
    gpu = handle()
    with rig.virtual_time() as clock:
        end_s = clock.monotonic() + 1
        values = set()
        while clock.monotonic() < end_s:
            values.add(energy_mj(gpu))
            clock.sleep(0.0005)
    assert len(values) in {ticks, ticks + 1}


def test_a_counters_ticks_may_jitter_and_never_go_back(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(H100, settings={"energy_jitter_ms": 30})
    gpu = handle()
    moved_s = []
    with rig.virtual_time() as clock:
        end_s, last_mj = clock.monotonic() + 3, energy_mj(gpu)
        while clock.monotonic() < end_s:
            clock.sleep(0.001)
            if (mj := energy_mj(gpu)) != last_mj:
                assert mj > last_mj
                moved_s.append(clock.monotonic())
                last_mj = mj
    gaps_s = [later - earlier for earlier, later in itertools.pairwise(moved_s)]
    assert min(gaps_s) < 0.095 < 0.105 < max(gaps_s)
    assert sum(gaps_s) / len(gaps_s) == pytest.approx(0.1, abs=0.003)


def test_a_counter_may_be_fed_by_a_sensor_that_sees_a_quarter(nvml_rig: NvmlRig) -> None:
    keys: Settings = {"wave": "square:100,400,0.05", "gated": 0, "tick_phase_ms": 20}
    rig = nvml_rig(SENSOR, settings=keys, age_s=5)
    gpu, truth = handle(), rig.truth()
    with rig.virtual_time() as clock:
        clock.sleep(0.35)
        now_s, mj = clock.monotonic() - epoch_s(rig), energy_mj(gpu)
    ticks_s = [0.02 + 0.1 * number for number in range(1, math.floor((now_s - 0.02) / 0.1) + 1)]
    seen_j = [
        truth.energy(epoch_s(rig) + tick_s - 0.025, epoch_s(rig) + tick_s) / 0.025 * 0.1
        for tick_s in ticks_s
    ]
    assert (mj - 123456789) / 1000 == pytest.approx(sum(seen_j), rel=1e-6)
    # It always looks at the same part of the wave: that is what makes it wrong.
    exact_j = truth.energy(epoch_s(rig), epoch_s(rig) + now_s)
    assert abs(sum(seen_j) / exact_j - 1) > 0.3


# --- power ---------------------------------------------------------------------------------


def test_power_is_that_of_the_window_before_the_last_tick(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(H100, settings={**BUSY, "tick_phase_ms": 0})
    gpu, truth = handle(), rig.truth()
    with rig.virtual_time() as clock:
        rig.mark(1)
        clock.sleep(0.37)
        tick_s = epoch_s(rig) + math.floor((clock.monotonic() - epoch_s(rig)) / 0.1) * 0.1
        shown_mw = [
            power_mw(gpu),
            field(gpu, pynvml.NVML_FI_DEV_POWER_AVERAGE).value.uiVal,
            field(gpu, pynvml.NVML_FI_DEV_POWER_INSTANT).value.uiVal,
        ]
    expected_w = [truth.energy(tick_s - width_s, tick_s) / width_s for width_s in (1, 1, 0.025)]
    assert shown_mw == pytest.approx([watts * 1000 for watts in expected_w], abs=1)


def test_power_without_window_is_that_of_the_moment(nvml_rig: NvmlRig) -> None:
    keys: Settings = {
        "usage_period_ms": 0,
        "usage_window_ms": 0,
        "sensor_delay_ms": 50,
        "gain": 1.05,
    }
    rig = nvml_rig(V100, settings={**keys, "offset_w": 3, "wave": "ramp:0,1000,10"})
    gpu = handle()
    with rig.virtual_time() as clock:
        rig.mark(1)
        clock.sleep(2)
        assert power_mw(gpu) == pytest.approx(195 * 1050 + 3000, abs=100)


def test_noise_stays_within_its_share(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(V100, settings={"noise": 0.1, "wave": "const:200", "gated": 0})
    gpu = handle()
    with rig.virtual_time() as clock:
        readings = []
        for _ in range(100):
            clock.sleep(0.02)
            readings.append(power_mw(gpu) / 1000)
    assert 180 <= min(readings) < 185
    assert 215 < max(readings) <= 220


def test_a_board_may_have_no_counter_and_no_instant_power(nvml_rig: NvmlRig) -> None:
    nvml_rig(NO_COUNTER)
    gpu = handle()
    with pytest.raises(pynvml.NVMLError_NotSupported):
        energy_mj(gpu)
    numbers = (
        pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
        pynvml.NVML_FI_DEV_POWER_INSTANT,
        pynvml.NVML_FI_DEV_POWER_AVERAGE,
    )
    results = [field(gpu, number).nvmlReturn for number in numbers]
    assert results == [3, 3, 0]
    assert power_mw(gpu) == 70_000


@pytest.mark.parametrize(("stamp", "age_us"), [("call", 0), ("tick", 40_000), ("zero", None)])
def test_fields_tell_when_they_were_updated(
    stamp: str, age_us: int | None, nvml_rig: NvmlRig
) -> None:
    rig = nvml_rig(H100, settings={"field_ts": stamp, "tick_phase_ms": 0}, age_s=0)
    gpu = handle()
    with rig.virtual_time() as clock:
        clock.sleep(epoch_s(rig) + 5.04 - clock.monotonic())
        told = field(gpu, pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION)
        now_us = clock.time_ns() // 1000
    assert told.value.ullVal == rig.counter().value_mj(epoch_s(rig) + 5.04)
    expected = 0 if age_us is None else now_us - age_us
    assert told.timestamp == pytest.approx(expected, abs=50)


def test_samples_are_those_after_a_time(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(H100)
    gpu = handle()
    with rig.virtual_time() as clock:
        _, samples = pynvml.nvmlDeviceGetSamples(gpu, pynvml.NVML_TOTAL_POWER_SAMPLES, 0)
        last_us = samples[-1].timeStamp
        clock.sleep(0.1)
        _, later = pynvml.nvmlDeviceGetSamples(gpu, pynvml.NVML_TOTAL_POWER_SAMPLES, last_us)
    assert len(samples) == 120
    assert len(later) == 5
    assert {sample.sampleValue.uiVal for sample in later} == {70_000}
