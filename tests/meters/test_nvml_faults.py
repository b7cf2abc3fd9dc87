"""What goes wrong with GPUs, drivers and hosts: said for what it is, and never a wrong number."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pynvml
import pytest

from pytest_llem.extensions import Target
from pytest_llem.meters.mean_power import Means
from pytest_llem.meters.nvml import NvmlMeter
from pytest_llem.records import Reading
from tests.meters.windows import BEGIN_S, CALL, READ, Bench, Measured, bench
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import H100, V100, Rig, Settings

pytestmark = pytest.mark.once

LOST = "the driver can't reach the GPU any more (it is lost); restart the machine"
SQUARE: Settings = {**CALL, "wave": "square:250,550,0.137"}


def since_epoch_s(on: Bench) -> float:
    return on.time.monotonic() - on.rig.epoch_ns * 1e-9


def inject(rig: Rig, **keys: str | float) -> None:
    """Change settings on the way; the GPUs stay opened."""
    rig.configure({key.replace("__", "."): value for key, value in keys.items()})
    pynvml.nvmlInit()


def assert_unmeasured(readings: Sequence[Reading], *, reason: str) -> None:
    """Nothing but a reason, under the meter's own name and method."""
    for reading in readings:
        assert (reading.energy_j, reading.uncertainty_j) == (None, None)
        assert (reading.quality, reading.meter, reading.method) == (
            "unmeasured",
            "nvml",
            "counter",
        )
        assert reading.to_idle is None
        assert reason in (reading.reason or "")


def assert_never_silently_wrong(found: Sequence[Measured]) -> None:
    for one in found:
        if one.reading.energy_j is None:
            assert one.reading.quality == "unmeasured"
            assert one.reading.reason
            continue
        assert one.reading.energy_j > 0
        reading, exact_j = one.reading, one.exact_j[0]
        assert reading.uncertainty_j is not None
        allowed_j = 4 * reading.uncertainty_j + 0.02 * exact_j
        assert abs(one.error_j()) <= allowed_j, (one.error_j(), reading)
        if one.off() > 0.05:
            assert reading.quality != "ok"


# --- GPUs that get lost --------------------------------------------------------------------


def test_a_gpu_lost_from_the_beginning(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings={**SQUARE, f"err.{READ}": 15})) as on:
        # It is there, so it is told of.
        assert len(on.meter.domains) == 1
        found = on.window(0.3)
    assert_unmeasured(found.readings, reason=LOST)


def test_a_gpu_lost_while_it_is_probed(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings={**SQUARE, f"err.{READ}": f"15,{BEGIN_S + 0.2}"})) as on:
        found = on.window(0.3)
    assert_unmeasured(found.readings, reason=LOST)
    assert found.edge_s < 0.01


@pytest.mark.parametrize("where", ["within", "settling"])
def test_a_gpu_lost_at_the_third_window(where: str, nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings=SQUARE)
    with bench(rig) as on:
        before = [on.window(0.3) for _ in range(2)]
        on.time.sleep(0.1)
        token = on.meter.start()
        start_s = rig.mark(1)
        on.time.sleep(0.3)
        end_s = rig.mark(0)
        at_s = since_epoch_s(on) + (-0.1 if where == "within" else 0.12)
        inject(rig, **{f"err__{READ}": f"15,{at_s}"})
        lost = on.meter.stop(token, start_s, end_s)
        after = on.window(0.3)
    assert all(one.holds(4) for one in before)
    assert_unmeasured(lost, reason=LOST)
    assert_unmeasured(after.readings, reason=LOST)


def test_an_error_that_passes_costs_its_window_alone(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings=SQUARE)
    with bench(rig) as on:
        before = on.window(0.3)
        inject(rig, **{f"err__{READ}": "999,0"})
        lost = [on.window(0.3), on.window(0.3)]
        inject(rig, **{f"err__{READ}": "0,0"})
        after = [on.window(0.3) for _ in range(2)]
    for one in lost:
        assert_unmeasured(one.readings, reason="")
    assert all(one.holds(4) for one in (before, *after))


def test_of_several_gpus_one_is_lost(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(gpus=4, settings={**SQUARE, f"gpu2.err.{READ}": f"15,{BEGIN_S + 1.5}"})
    with bench(rig, gpus=4) as on:
        found = [on.window(0.3) for _ in range(3)]
    last = found[-1]
    assert [reading.energy_j is None for reading in last.readings] == [False, False, True, False]
    assert_unmeasured(last.readings[2:3], reason=LOST)
    assert all(one.holds(4, gpu) for one in found for gpu in (0, 1, 3))


# --- counters that start anew --------------------------------------------------------------


@pytest.mark.parametrize("base_mj", [123456789, 5e9, 2**32 + 10_000, 9e12])
def test_a_reset_within_the_window(base_mj: float, nvml_rig: NvmlRig) -> None:
    keys = {**SQUARE, "energy_base_mj": base_mj, "energy_reset_s": BEGIN_S + 1.1}
    with bench(nvml_rig(settings=keys)) as on:
        found = on.window(0.8)
        later = on.window(0.3)
    assert_unmeasured(found.readings, reason="the energy counter was reset")
    # Its ticks are found anew for the next window.
    assert later.holds(4)


@pytest.mark.parametrize("before_j", [40, 60, 100, 160, 250])
def test_a_wrap_is_bridged_wherever_it_comes(before_j: int, nvml_rig: NvmlRig) -> None:
    """From before the first start to behind the second end."""
    keys = {**SQUARE, "energy_bits": 32, "energy_base_mj": 2**32 - (700 + before_j) * 1000}
    rig = nvml_rig(settings=keys)
    with bench(rig) as on:
        found = [on.window(0.3) for _ in range(3)]
        shown_mj = rig.counter().value_mj(on.time.monotonic())
    assert all(one.holds(4) and one.off() < 3e-4 for one in found)
    assert {one.reading.quality for one in found} == {"ok"}
    assert shown_mj < 2**31


def test_a_counter_that_jumps_ahead(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings=SQUARE)
    with bench(rig) as on:
        on.window(0.3)
        inject(rig, energy_base_mj=9e9)
        found = on.window(0.3)
    assert_unmeasured(found.readings, reason="the energy counter jumped ahead")


@pytest.mark.parametrize("where", ["before", "within", "behind"])
def test_a_counter_that_stops(where: str, nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings=SQUARE)
    with bench(rig, tapped=True) as on:
        on.window(0.3)
        on.tap.frozen = where == "before"
        token = on.meter.start()
        start_s = rig.mark(1)
        on.time.sleep(0.15)
        on.tap.frozen |= where == "within"
        on.time.sleep(0.15)
        end_s = rig.mark(0)
        on.time.sleep(0.0001)
        on.tap.frozen |= where == "behind"
        found = on.meter.stop(token, start_s, end_s)
        took_s = on.time.monotonic() - end_s
    assert_unmeasured(found, reason="no tick of the energy counter was seen around the window")
    assert took_s < 1.2


def test_a_counter_that_stood_still_before_the_window(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings=SQUARE)
    with bench(rig, tapped=True) as on:
        on.window(0.3)
        on.tap.frozen = True
        rig.mark(1)
        on.time.sleep(0.3)
        rig.mark(0)
        token = on.meter.start()
        start_s = rig.mark(1)
        on.tap.frozen = False
        on.time.sleep(0.3)
        end_s = rig.mark(0)
        found = on.meter.stop(token, start_s, end_s)
    # The load between the windows must not become this one's.
    assert_unmeasured(found, reason="no tick of the energy counter was seen around the window")


def test_a_counter_that_never_moves(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings={**SQUARE, "idle": 0})) as on:
        found = on.window(0.3)
    assert_unmeasured(found.readings, reason="the energy counter didn't move within 2.5 s")


# --- what the driver lacks or refuses ------------------------------------------------------


class SilentWatch:
    """Collects no power readings."""

    def __init__(self, count: int) -> None:
        self._count = count

    def means(self, from_s: float, to_s: float) -> Sequence[Means]:
        return [Means(period_s=None, means=(), reason="nobody watches")] * self._count

    def close(self) -> None:
        """Nothing is open."""


def test_no_permission(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings={**SQUARE, f"err.{READ}": 4})) as on:
        found = on.window(0.3)
    assert_unmeasured(found.readings, reason="no permission to use NVIDIA GPUs; check who")


@pytest.mark.parametrize(
    "lack",
    [
        {f"err.{READ}": 3},
        {"missing": READ},
    ],
)
def test_without_a_counter_nothing_is_called_one(lack: Settings, nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(H100, settings={**SQUARE, **lack})
    with rig.virtual_time() as clock:
        meter = NvmlMeter(
            Target(device="cuda"), clock=clock, watch=lambda uuids: SilentWatch(len(uuids))
        )
        token = meter.start()
        (reading,) = meter.stop(token, clock.monotonic() - 0.3, clock.monotonic())
        meter.close()
    assert (reading.energy_j, reading.quality) == (None, "unmeasured")
    assert reading.method == "power"
    assert reading.reason


@pytest.mark.parametrize(
    "missing",
    ["nvmlDeviceGetFieldValues", "nvmlDeviceGetSamples", "nvmlDeviceGetMigMode"],
)
def test_functions_that_help_may_be_missing(missing: str, nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings={**SQUARE, "missing": missing})) as on:
        found = [on.window(0.3 + 0.033 * number) for number in range(4)]
    assert all(one.holds(4) for one in found)
    assert {one.reading.quality for one in found} == {"ok"}


@pytest.mark.parametrize("function", ["nvmlDeviceGetFieldValues", "nvmlDeviceGetSamples"])
def test_functions_that_help_may_fail(function: str, nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings={**SQUARE, f"err.{function}": 999})) as on:
        assert on.window(0.3).holds(4)


def test_a_divided_gpu(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings={**SQUARE, "mig": 1})) as on:
        found = on.window(0.3)
    assert_unmeasured(found.readings, reason="the GPU is divided (MIG)")
    assert "nvidia-smi -i 0 -mig 0" in (found.reading.reason or "")


def test_a_part_of_a_divided_gpu(nvml_rig: NvmlRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = nvml_rig(settings={**SQUARE, "mig": 1})
    pynvml.nvmlInit()
    part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(pynvml.nvmlDeviceGetHandleByIndex(0), 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", pynvml.nvmlDeviceGetUUID(part))
    with bench(rig) as on:
        (domain,) = on.meter.domains
        found = on.window(0.3)
    assert domain.startswith("gpu:MIG-")
    assert_unmeasured(found.readings, reason="the GPU is divided (MIG)")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (12, "no NVIDIA driver was found"),
        (9, "its kernel module isn't loaded"),
        (13, "the NVIDIA driver is too old"),
        (18, "the NVIDIA driver was updated while the old one is still loaded"),
        (4, "no permission to use NVIDIA GPUs"),
    ],
)
@pytest.mark.parametrize("from_call", [1, 2])
def test_a_driver_that_does_not_open(
    code: int, reason: str, from_call: int, nvml_rig: NvmlRig
) -> None:
    rig = nvml_rig(settings={"err.nvmlInitWithFlags": f"{code},0,1,{from_call}"})
    meter = NvmlMeter(Target(device="cuda"))
    assert meter.domains == ()
    assert reason in meter.reason
    assert meter.stop(meter.start(), 0.0, 1.0) == []
    meter.close()
    assert rig.calls()["nvmlInitWithFlags"] == from_call


def test_without_any_gpu(nvml_rig: NvmlRig) -> None:
    nvml_rig(gpus=0)
    meter = NvmlMeter(Target(device="cuda"))
    assert (meter.domains, meter.reason[:38]) == ((), "the NVIDIA driver works, but sees no G")


# --- hosts that don't run all the time -----------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tail_ms", [0, 180])
@pytest.mark.parametrize("board", [H100, V100])
def test_a_busy_host_is_never_silently_wrong(
    board: Settings, tail_ms: int, seed: int, nvml_rig: NvmlRig
) -> None:
    rig = nvml_rig(board, settings={**SQUARE, "tail_ms": tail_ms})
    with bench(rig, seed=seed, stalls=0.01) as on:
        found = [on.window(0.2 + 0.037 * number, pause_s=0.1) for number in range(12)]
    assert_never_silently_wrong(found)
    assert sum(one.reading.energy_j is not None for one in found) >= 9


@pytest.mark.parametrize("stalls", [0.03, 0.1, 0.3])
def test_a_host_that_hardly_runs_is_never_silently_wrong(stalls: float, nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings={**SQUARE, "tail_ms": 180})
    with bench(rig, stalls=0.0) as on:
        on.host.stalls = stalls
        found = [on.window(0.2 + 0.037 * number, pause_s=0.1) for number in range(10)]
    assert_never_silently_wrong(found)


def test_a_host_too_busy_to_probe(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(settings=SQUARE), stalls=0.4) as on:
        found = on.window(0.3)
    assert_unmeasured(found.readings, reason="or this host is too busy to see when")


@pytest.mark.parametrize("seed", range(4))
def test_stalls_while_probing_do_not_make_another_period(seed: int, nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings={**SQUARE, "tail_ms": 180})
    with bench(rig, seed=seed, stalls=0.02) as on:
        on.host.stalls = 0.0
        found = [on.window(1.0 + 0.037 * number, pause_s=0.1) for number in range(3)]
    assert_never_silently_wrong(found)


PHASES_S = (0.0, 0.021, 0.052, 0.089)


@pytest.mark.parametrize("tail_ms", [0, 180])
@pytest.mark.parametrize(
    ("at_s", "seconds"),
    [(0.0, 0.04), (0.0, 0.13), (0.0, 0.45), (0.01, 0.13), (0.05, 0.3), (0.11, 0.13)],
)
def test_a_stall_behind_the_window(
    at_s: float, seconds: float, tail_ms: int, nvml_rig: NvmlRig
) -> None:
    rig = nvml_rig(settings={**SQUARE, "tail_ms": tail_ms})
    with bench(rig) as on:
        found = [on.window(0.4 + phase_s, stall=(at_s, seconds)) for phase_s in PHASES_S]
    assert_never_silently_wrong(found)


@pytest.mark.parametrize("tail_ms", [0, 180])
@pytest.mark.parametrize("late_s", list(itertools.product((0.0, 0.02, 0.08, 0.25), repeat=2))[1:])
def test_a_stall_while_the_counter_is_read_at_the_end(
    late_s: tuple[float, float], tail_ms: int, nvml_rig: NvmlRig
) -> None:
    rig = nvml_rig(settings={**SQUARE, "tail_ms": tail_ms})
    found = []
    with bench(rig, tapped=True) as on:
        for phase_s in PHASES_S:
            on.time.sleep(0.2)
            token = on.meter.start()
            start_s = rig.mark(1)
            on.time.sleep(0.4 + phase_s)
            end_s = rig.mark(0)
            on.tap.late_s = late_s
            readings = on.meter.stop(token, start_s, end_s)
            exact_j = rig.truth().energy(start_s, end_s)
            found.append(
                Measured(
                    readings=readings,
                    exact_j=[exact_j],
                    to_idle_j=[],
                    edge_s=0,
                    calls_around=0,
                    calls_within=0,
                )
            )
    assert_never_silently_wrong(found)
