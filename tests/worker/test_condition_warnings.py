"""Each thing that is out of the ordinary about a GPU is a sentence with numbers and a remedy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.meters.gpu_state import EVENTS, GpuProcess, GpuState
from pytest_llem.meters.trace import Sample
from pytest_llem.worker.condition_warnings import foreign, of_gpu, shared

FINE = GpuState(
    gpu=3,
    uuid="GPU-a",
    name="NVIDIA H100",
    at_s=1.0,
    temperature_c=60.0,
    sm_clock_mhz=1980,
    memory_clock_mhz=2619,
    events=("idle",),
    power_limit_w=700.0,
    power_limit_default_w=700.0,
    persistence=True,
    memory_used_bytes=2**34,
    utilisation=0.0,
    mig=False,
    processes=(),
)


def state(**fields: Any) -> GpuState:
    return dataclasses.replace(FINE, **fields)


def samples(
    count: int = 40,
    bits: Sequence[int] = (0,),
    clocks: Sequence[int] = (1980,),
    celsius: Sequence[float] = (60.0,),
) -> list[Sample]:
    """Samples whose values are spread evenly over the given ones."""
    return [
        Sample(
            round=i,
            gpu=0,
            at_s=i / 10,
            power_w=500.0,
            usage_w=500.0,
            temperature_c=celsius[i * len(celsius) // count],
            sm_clock_mhz=clocks[i * len(clocks) // count],
            event_bits=bits[i * len(bits) // count],
        )
        for i in range(count)
    ]


def warned(
    before: GpuState | None = FINE,
    after: GpuState | None = FINE,
    seen: Sequence[Sample] = (),
) -> list[str]:
    return list(of_gpu(before, after, seen))


def test_nothing_is_said_of_a_gpu_that_is_as_it_should_be() -> None:
    assert warned(seen=samples()) == []
    assert warned(seen=samples(bits=[0x1, 0x2, 0x100, 0x103])) == []
    assert warned(None, None) == []


def test_nothing_is_said_of_what_is_not_known() -> None:
    unknown = GpuState(gpu=0, uuid="GPU-a", name="x", at_s=1.0)
    blind = [
        dataclasses.replace(s, event_bits=None, sm_clock_mhz=None, temperature_c=None)
        for s in samples()
    ]
    assert warned(unknown, unknown, blind) == []


# --- settings ------------------------------------------------------------------------------


def test_persistence_that_is_off() -> None:
    (text,) = warned(after=state(persistence=False))
    assert text.startswith("GPU 3: persistence mode is off")
    assert text.endswith("sudo nvidia-smi -i 3 -pm 1")


def test_a_power_limit_below_the_default() -> None:
    (text,) = warned(after=state(power_limit_w=500.0))
    assert "its power limit is 500 W, below its default of 700 W" in text
    assert text.endswith("sudo nvidia-smi -i 3 -pl 700")


@pytest.mark.parametrize("fields", [{"mig": True}, {"uuid": "MIG-a", "mig": None}])
def test_a_gpu_that_is_cut_into_instances(fields: dict[str, Any]) -> None:
    (text,) = warned(after=state(**fields))
    assert text.startswith("GPU 3 is in MIG mode: power and energy are those of the whole GPU")
    assert text.endswith("sudo nvidia-smi -i 3 -mig 0")


# --- slowed down ---------------------------------------------------------------------------


def test_a_power_cap_seen_in_the_trace() -> None:
    (text,) = warned(seen=samples(bits=[0, 0, 0, 4], clocks=[1980, 1980, 1980, 1905]))
    assert text.startswith(
        "GPU 3 was slowed down by its power cap in 25 % of the window's 40 samples"
        " (SM clock 1905 to 1980 MHz), limit 700 W: this is how it works at this limit"
    )
    assert text.endswith("sudo nvidia-smi -i 3 -pl WATTS")


@pytest.mark.parametrize(
    ("bit", "words"),
    [
        (0x10, "a slower GPU of its sync boost group"),
        (0x20, "the driver, as it was too hot"),
        (0x40, "its own protection from heat"),
        (0x80, "the power brake of its server"),
        (0x08, "its own protection "),
        (0x200, "board_limit"),
        (0x4000, "0x4000"),
    ],
)
def test_every_other_slowdown_has_its_cause_and_a_remedy(bit: int, words: str) -> None:
    (text,) = warned(seen=samples(bits=[bit]))
    assert f"GPU 3 was slowed down by {words}" in text
    assert "in 100 % of the window's 40 samples" in text
    assert len(text.rpartition(": ")[2]) > 10


def test_a_slowdown_at_one_end_only() -> None:
    (text,) = warned(before=state(events=("sw_thermal_slowdown",)))
    assert "too hot just before or after the window: mend its cooling" in text


def test_a_slowdown_with_a_cause_is_told_once() -> None:
    found = warned(seen=samples(bits=[0x48]))
    assert len(found) == 1
    assert "protection from heat" in found[0]


def test_several_slowdowns_are_several_sentences() -> None:
    found = warned(seen=samples(bits=[0x4, 0x20]))
    assert ["50 %" in text for text in found] == [True, True]


def test_the_bits_are_those_of_nvml() -> None:
    import pynvml

    names = {
        "idle": "GpuIdle",
        "application_clocks": "ApplicationsClocksSetting",
        "sw_power_cap": "SwPowerCap",
        "hw_slowdown": "HwSlowdown",
        "sync_boost": "SyncBoost",
        "sw_thermal_slowdown": "SwThermalSlowdown",
        "hw_thermal_slowdown": "HwThermalSlowdown",
        "hw_power_brake": "HwPowerBrakeSlowdown",
        "display_clocks": "DisplayClockSetting",
    }
    for name, theirs in names.items():
        assert EVENTS[getattr(pynvml, f"nvmlClocksEventReason{theirs}")] == name


# --- steady state --------------------------------------------------------------------------


@pytest.mark.parametrize(("first_c", "last_c"), [(40.0, 62.0), (70.0, 55.0)])
def test_a_drift_over_the_window(first_c: float, last_c: float) -> None:
    (text,) = warned(state(temperature_c=first_c), state(temperature_c=last_c))
    assert f"was at {first_c:.0f} °C before the window and at {last_c:.0f} °C after it" in text
    assert text.startswith("thermal state: GPU 3")
    assert "warmup.prompts" in text


def test_ten_degrees_are_no_drift() -> None:
    assert warned(state(temperature_c=50.0), state(temperature_c=60.0)) == []


def test_a_temperature_that_still_rises_at_the_end() -> None:
    (text,) = warned(seen=samples(celsius=[50, 52, 54, 57]))
    assert "was still getting warmer at the end of the window (by 3.0 °C over its last" in text


def test_a_temperature_that_has_settled_or_falls_is_fine() -> None:
    assert warned(seen=samples(celsius=[50, 58, 59, 60])) == []
    assert warned(seen=samples(celsius=[50, 58, 59, 55])) == []
    # Too few to tell.
    assert warned(seen=samples(30, celsius=[50, 52, 54, 57])) == []


def test_a_clock_that_is_another_at_the_end_of_the_trace() -> None:
    (text,) = warned(seen=samples(clocks=[1980, 1980, 1700, 1500]))
    assert "its SM clock was 1980 and 1500 MHz in the first and the last quarter" in text
    assert text.endswith("sudo nvidia-smi -i 3 -lgc MHZ")


def test_without_a_trace_the_clocks_of_both_ends_are_compared_unless_idle() -> None:
    busy, slower = state(events=()), state(events=(), sm_clock_mhz=1500)
    (text,) = warned(busy, slower)
    assert "1980 and 1500 MHz before and after the window" in text
    assert warned(busy, state(sm_clock_mhz=300)) == []


# --- others --------------------------------------------------------------------------------

OTHERS = (GpuProcess(pid=11, memory_bytes=2**31), GpuProcess(pid=12, memory_bytes=None))


def test_who_is_not_ours_is_foreign() -> None:
    found = foreign(state(processes=OTHERS), frozenset({11}))
    assert [process.pid for process in found] == [12]
    assert foreign(state(processes=None), frozenset()) == ()


def test_others_are_named_with_their_memory(tmp_path: Path) -> None:
    (tmp_path / "11").mkdir()
    (tmp_path / "11/comm").write_text("python3\n")
    text = shared(FINE, OTHERS, tmp_path)
    assert "GPU 3 is shared with other processes: pid 11 (python3, 2.0 GiB), pid 12 (?)" in text
    assert text.endswith("kill 11 12")
