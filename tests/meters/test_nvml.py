"""The energy of NVIDIA GPUs, by their counters, against the exact truth of simulated ones."""

from __future__ import annotations

import statistics
import time

import pynvml
import pytest

from pytest_llem.extensions import Target
from pytest_llem.meters.nvml import NvmlMeter
from tests.meters.windows import CALL, READ, bench
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import BOARDS, SENSOR, V100

pytestmark = pytest.mark.once

SQUARE = {**CALL, "wave": "square:250,550,0.137"}


# --- a window ------------------------------------------------------------------------------


@pytest.mark.parametrize("board", ["V100", "A100", "H100"])
@pytest.mark.parametrize(
    "wave", ["const:400", "square:250,550,0.2", "sine:400,150,0.37", "steps:0.03,500,0.05,300"]
)
def test_energy_is_exact(board: str, wave: str, nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(BOARDS[board], settings={**CALL, "wave": wave})
    with bench(rig) as on:
        found = [on.window(0.1 + 0.083 * number) for number in range(6)]
    assert max(one.off() for one in found) < 2e-4
    assert all(one.holds(4) for one in found)
    assert {one.reading.quality for one in found} == {"ok"}
    assert {one.reading.method for one in found} == {"counter"}
    assert {one.reading.systematic for one in found} == {0.05}


@pytest.mark.parametrize("period_ms", [1, 7, 20, 63, 100, 250])
def test_a_counter_of_any_period_will_do(period_ms: int, nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings={**SQUARE, "energy_period_ms": period_ms})
    with bench(rig) as on:
        found = [on.window(0.3 + 0.083 * number) for number in range(5)]
    assert max(one.off() for one in found) < 2e-4
    assert all(one.holds(4) for one in found)
    assert max(one.edge_s for one in found) <= 6 * period_ms / 1000


def test_what_was_found_out_of_the_counter_is_told(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings={**SQUARE, "energy_period_ms": 63})) as on:
        (before,) = on.meter.about.values()
        for number in range(3):
            on.window(0.3 + 0.02 * number)
        (domain, after), *none = on.meter.about.items()
    assert (before["sees"], after["sees"], none) == ("unknown", "all", [])
    assert domain.startswith("gpu:GPU-")
    assert after["period_s"] == pytest.approx(0.063, rel=1e-3)
    assert after["step_j"] == pytest.approx(0.001)
    assert (after["method"], after["instant_power"]) == ("counter", True)


@pytest.mark.parametrize("duration_s", [0.0002, 0.005, 0.03])
def test_a_window_shorter_than_a_tick_is_told_with_its_doubt(
    duration_s: float, nvml_rig: NvmlRig
) -> None:
    with bench(nvml_rig(settings=SQUARE)) as on:
        found = [on.window(duration_s, pause_s=0.3 + 0.013 * number) for number in range(8)]
    assert all(one.holds(4) for one in found)
    # Some watts of rest for some tens of microseconds.
    assert max(abs(one.error_j()) for one in found) < 0.02
    assert {one.reading.quality for one in found} == ({"short"} if duration_s < 0.001 else {"ok"})


def test_a_window_of_no_length_has_no_energy_to_tell(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings=SQUARE)) as on:
        found = [on.window(0.0, pause_s=0.2 + 0.013 * number).reading for number in range(12)]
    # What chance leaves above the doubt is told with it.
    told = [reading for reading in found if reading.energy_j is not None]
    assert all(reading.energy_j and reading.energy_j < 0.01 for reading in told)
    assert all(reading.quality == "short" for reading in told)
    unmeasured = [reading for reading in found if reading.energy_j is None]
    assert len(unmeasured) > 6
    assert {reading.reason for reading in unmeasured} == {
        "the window is too short for its energy to be told"
    }


def test_an_idle_window_has_the_energy_of_idle(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings=SQUARE)) as on:
        found = on.window(0.5, gate=0)
    assert found.off() < 1e-3
    assert found.reading.before_w == pytest.approx(70, rel=5e-3)


def test_the_power_before_and_the_energy_until_idle_are_told(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings={**SQUARE, "tail_ms": 180})
    with bench(rig) as on:
        found = [on.window(0.5 + 0.023 * number) for number in range(6)]
    for one in found:
        assert one.reading.before_w == pytest.approx(70, rel=0.01)
        idle = one.reading.to_idle
        assert idle is not None
        assert idle.above_j == pytest.approx(one.to_idle_j[0], rel=0.005)
        assert idle.settled_s is not None
        assert 0.1 < idle.settled_s < 0.4


def test_a_device_that_does_not_settle_says_so(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings={**SQUARE, "tail_ms": 4000})
    with bench(rig) as on:
        idle = on.window(0.5).reading.to_idle
    assert idle is not None
    assert (idle.above_j, idle.uncertainty_j, idle.settled_s) == (None, None, None)
    assert idle.reason is not None
    assert "after the window the device drew" in idle.reason


# --- windows after each other --------------------------------------------------------------


def test_windows_back_to_back_share_their_edges(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings=SQUARE)) as on:
        found = [on.window(0.25, pause_s=0.0) for _ in range(6)]
    assert max(one.off() for one in found) < 2e-4
    assert all(one.holds(4) for one in found)
    # The first start has the ticks of probing; all others those of the window before.
    assert max(one.edge_s for one in found) < 0.35


def test_many_windows_stay_exact(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(V100, settings=SQUARE)) as on:
        found = [on.window(0.01 + 0.0007 * number, pause_s=0.05) for number in range(100)]
    assert all(one.holds(5) for one in found)
    assert sum(one.holds() for one in found) >= 0.93 * len(found)


def test_a_long_pause_does_not_lose_the_ticks(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings=SQUARE)) as on:
        found = [on.window(0.3, pause_s=pause_s) for pause_s in (1, 30, 600, 3600, 0.1)]
    assert max(one.off() for one in found) < 2e-4
    assert all(one.holds(4) for one in found)


def test_what_ran_before_a_window_is_not_its_energy(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings={**SQUARE, "tail_ms": 180})
    with bench(rig) as on:
        on.window(0.3)
        rig.mark(1)
        on.time.sleep(0.7)
        rig.mark(0)
        found = on.window(0.5, pause_s=0.02)
    assert found.holds(3)
    assert found.off() < 0.1


# --- counters that are less than ideal -----------------------------------------------------


@pytest.mark.parametrize("jitter_ms", [1, 5, 10])
@pytest.mark.parametrize("tail_ms", [0, 180])
def test_ticks_may_come_early_and_late(jitter_ms: int, tail_ms: int, nvml_rig: NvmlRig) -> None:
    keys = {**SQUARE, "energy_jitter_ms": jitter_ms, "tail_ms": tail_ms}
    with bench(nvml_rig(settings=keys)) as on:
        found = [on.window(0.5 + 0.027 * number) for number in range(6)]
    assert all(one.holds(4) for one in found)
    assert statistics.median(one.off() for one in found) < (0.03 if tail_ms else 2e-4)
    # A tick that was missed at the end of a window leaves doubt.
    assert all(one.off() < 0.06 for one in found if one.reading.quality == "ok")
    assert max(one.edge_s for one in found) < 0.75


@pytest.mark.parametrize("moved_ms", [11.0, 16.0, 33.0, 61.0, 88.0])
def test_ticks_that_move_once_are_found_again(moved_ms: float, nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings=SQUARE)
    with bench(rig) as on:
        on.window(0.3)
        rig.configure({"gpu0.tick_phase_ms": moved_ms})
        pynvml.nvmlInit()
        told = [on.window(0.3) for _ in range(4)]
    known = [one for one in told if one.reading.energy_j is not None]
    assert all(one.holds(4) for one in known)
    assert [one.reading.quality for one in told[1:]] == ["ok"] * 3


@pytest.mark.parametrize("quantum_mj", [10, 100, 1000, 5000])
def test_a_coarse_counter_makes_doubt(quantum_mj: int, nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings={**SQUARE, "energy_quant_mj": quantum_mj})
    with bench(rig) as on:
        found = [on.window(0.3 + 0.027 * number) for number in range(12)]
    assert all(one.holds(4) for one in found)
    middle_j = statistics.median(one.reading.uncertainty_j or 0 for one in found)
    assert 0.3e-3 * quantum_mj < middle_j < 1.2e-3 * quantum_mj + 0.01


def test_a_sensors_gain_is_the_systematic_part(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings={**SQUARE, "energy_gain": 1.04})
    with bench(rig) as on:
        found = on.window(0.5)
    assert found.off() == pytest.approx(0.04, rel=0.01)
    assert found.reading.systematic >= 0.04


def test_noise_at_rest_makes_doubt(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(SENSOR, settings={**CALL, "wave": "const:400", "noise": 0.02})
    with bench(rig) as on:
        # What kind of counter it is must be learnt first.
        found = [on.window(0.5 + 0.027 * number) for number in range(12)][3:]
    assert all(one.holds(4) for one in found)
    assert max(one.edge_s for one in found) < 0.7


@pytest.mark.parametrize(("call_ms", "limit"), [(1, 1e-3), (3, 3e-3), (10, 2e-2)])
def test_slow_calls_make_doubt(call_ms: int, limit: float, nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings={**SQUARE, "latency_us": call_ms * 1000})
    with bench(rig) as on:
        found = [on.window(0.3 + 0.027 * number) for number in range(12)]
    assert all(one.holds(4) for one in found)
    assert max(one.off() for one in found) < limit
    assert max(one.calls_around for one in found) < 60


# --- what it costs -------------------------------------------------------------------------


@pytest.mark.parametrize("board", ["V100", "A100", "H100"])
def test_nothing_is_called_within_and_little_around(board: str, nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(BOARDS[board], settings={**SQUARE, "tail_ms": 40})) as on:
        found = [on.window(0.2, pause_s=0.2 + 0.11 * number) for number in range(8)]
    assert {one.calls_within for one in found} == {0}
    assert max(one.calls_around for one in found) < 600


def test_reads_come_near_ticks_only(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings=SQUARE)
    with bench(rig, tapped=True) as on:
        on.tap.read_at_s.clear()
        for number in range(5):
            on.window(0.2, pause_s=0.2 + 0.11 * number)
        counter = rig.counter()
        reads_s = on.tap.read_at_s
    to_next_s = [counter.tick(at_s) + counter.period_s - at_s for at_s in reads_s]
    # Beside those that bracket a tick, one at each start and one at each end.
    far = [distance_s for distance_s in to_next_s if 0.005 < distance_s < 0.095]
    assert len(far) <= 10
    assert len(reads_s) > 300


def test_edges_take_no_more_than_six_periods(nvml_rig: NvmlRig) -> None:
    took_s = []
    for tail_ms in (0, 180):
        rig = nvml_rig(settings={**SQUARE, "tail_ms": tail_ms})
        with bench(rig) as on:
            took_s += [on.window(0.3, pause_s=0.07 * number).edge_s for number in range(16)]
    assert max(took_s) <= 0.6
    assert statistics.mean(took_s) <= 0.45


# --- several GPUs --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 4, 8])
def test_each_gpu_has_its_own_ticks_and_load(count: int, nvml_rig: NvmlRig) -> None:
    waves = {f"gpu{gpu}.wave": f"square:{200 + 20 * gpu},500,0.1{gpu}7" for gpu in range(count)}
    rig = nvml_rig(gpus=count, settings={**CALL, **waves})
    with bench(rig, gpus=count) as on:
        found = [on.window(0.3 + 0.043 * number) for number in range(4)]
        assert len(on.meter.domains) == count
    for one in found:
        assert [reading.domain for reading in one.readings] == list(on.meter.domains)
        assert all(one.holds(4, gpu) for gpu in range(count))
        assert max(one.off(gpu) for gpu in range(count)) < 3e-3
    assert {one.calls_within for one in found} == {0}


def test_only_the_first_gpus_are_measured(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(gpus=4, settings=CALL), gpus=2) as on:
        assert len(on.meter.domains) == 2
        assert len(on.window(0.1).readings) == 2


# --- the rest of the interface -------------------------------------------------------------


def test_a_rough_window_waits_for_nothing(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings=SQUARE)) as on:
        found = [on.window(1.0 + 0.013 * number, exact=False) for number in range(10)]
    assert max(one.edge_s for one in found) < 0.002
    assert max(one.calls_around for one in found) == 2
    assert {one.reading.quality for one in found} == {"short"}
    assert all(one.holds(3) for one in found)
    assert all("not aligned" in (one.reading.reason or "") for one in found)


def test_a_rough_window_within_a_tick_is_not_measured(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings=SQUARE)) as on:
        on.window(0.1)
        readings = [on.window(0.002, exact=False).reading for _ in range(5)]
    missing = [reading for reading in readings if reading.energy_j is None]
    assert missing
    assert all(reading.quality == "unmeasured" and reading.reason for reading in missing)


def test_closing_twice_and_starting_without_an_end_are_no_errors(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings=SQUARE)) as on:
        on.meter.start()
        on.time.sleep(0.3)
        assert on.window(0.3).off() < 2e-4
        on.meter.close()
        on.meter.close()
        reading = on.window(0.1).reading
    assert (reading.energy_j, reading.quality) == (None, "unmeasured")
    assert reading.reason


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_are_not_its_own(device: str, nvml_rig: NvmlRig) -> None:
    rig = nvml_rig()
    meter = NvmlMeter(Target(device=device))
    assert (meter.domains, meter.reason) == ((), "it reads NVIDIA GPUs only")
    assert rig.calls() == {}


def test_it_measures_in_real_time_too(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(V100, settings={"wave": "const:250", "latency_us": 0})
    meter = NvmlMeter(Target(device="cuda"))
    found = []
    for _ in range(3):
        token = meter.start()
        with rig.load() as load:
            time.sleep(0.15)
        (reading,) = meter.stop(token, load.start_s, load.end_s)
        found.append((reading, rig.truth().energy(load.start_s, load.end_s)))
    meter.close()
    # A busy host may keep it from seeing ticks, but never makes it wrong.
    for reading, exact_j in found:
        if reading.energy_j is None:
            assert reading.reason
            continue
        assert reading.uncertainty_j is not None
        assert abs(reading.energy_j - exact_j) < 5 * reading.uncertainty_j + 0.02 * exact_j
        assert reading.method == "counter"
    assert rig.calls()[READ] > 10
