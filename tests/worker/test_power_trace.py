"""What samples are made into."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_llem.gpus import Gpu
from pytest_llem.meters.trace import Sample
from pytest_llem.records import Reading, TraceSummary
from pytest_llem.worker.power_trace import cross_check, rows, summary

GPUS = tuple(
    Gpu(index=index, uuid=f"GPU-{index}", name="x", memory_bytes=None, power_limit_w=None)
    for index in (2, 5)
)
INSTANT = ("instant", "instant")


def sample(number: int, gpu: int, power_w: float | None, celsius: float | None = 50.0) -> Sample:
    return Sample(
        round=number,
        gpu=gpu,
        at_s=100 + number / 10,
        power_w=power_w,
        usage_w=1.0,
        temperature_c=celsius,
        sm_clock_mhz=1980,
        event_bits=0x5,
    )


def both(*powers: tuple[float | None, float | None]) -> list[Sample]:
    return [
        sample(number, gpu, power_w)
        for number, pair in enumerate(powers)
        for gpu, power_w in enumerate(pair)
    ]


# --- summary -------------------------------------------------------------------------------


def test_the_peak_is_that_of_all_gpus_at_one_moment() -> None:
    found = summary(both((300, 10), (20, 200), (150, 180)), GPUS, INSTANT, "")
    assert found == TraceSummary(peak_w=330.0, temperature_max_c=50.0, samples=3)


def test_a_round_that_the_window_cuts_in_two_does_not_count() -> None:
    found = summary(
        [sample(0, 1, 900), *both((1, 2))[:0], *both((1, 2), (3, 4))[2:]], GPUS, INSTANT, ""
    )
    assert (found.samples, found.peak_w) == (1, 7.0)


def test_one_sample_that_is_missing_makes_the_peak_null() -> None:
    found = summary(both((300, 10), (300, None)), GPUS, INSTANT, "GPU 5: it is lost")
    assert found == TraceSummary(
        peak_w=None, temperature_max_c=50.0, samples=2, reason="GPU 5: it is lost"
    )


def test_the_hottest_gpu_counts() -> None:
    found = summary([sample(0, 0, 1.0, 61.0), sample(0, 1, 1.0, 67.0)], GPUS, INSTANT, "")
    assert found.temperature_max_c == 67.0
    assert (
        summary([sample(0, 0, 1.0, 61.0), sample(0, 1, 1.0, None)], GPUS, INSTANT, "")
    ).temperature_max_c is None


def test_no_samples_are_null_with_a_reason() -> None:
    found = summary([], GPUS, INSTANT, "")
    assert (found.peak_w, found.temperature_max_c, found.samples) == (None, None, 0)
    assert found.reason == "the window was over before the power trace took a sample"
    assert summary([], GPUS, (), "it ended").reason == "it ended"


def test_averaged_power_has_a_note() -> None:
    found = summary(both((1, 2)), GPUS, ("usage", "instant"), "")
    assert found.peak_w == 3.0
    assert found.reason is not None
    assert found.reason.startswith("GPU 2 tells no power of the moment")


def test_a_row_names_the_gpu_and_its_events() -> None:
    first, _ = rows(both((300, None)), GPUS)
    assert first == {
        "gpu": "GPU-2",
        "at_s": 100.0,
        "power_w": 300,
        "usage_w": 1.0,
        "temperature_c": 50.0,
        "sm_clock_mhz": 1980,
        "events": ["idle", "sw_power_cap"],
    }


# --- counter and power ---------------------------------------------------------------------


def reading(energy_j: float | None, gpu: int = 2, method: str = "counter") -> Reading:
    return Reading(
        domain=f"gpu:GPU-{gpu}",
        meter="nvml",
        method="power" if method == "power" else "counter",
        energy_j=energy_j,
        reason=None if energy_j is not None else "lost",
    )


def checked(
    powers: Sequence[float],
    *readings: Reading,
    sources: Sequence[str] = INSTANT,
    duration_s: float = 4.0,
) -> list[str]:
    samples = both(*((power_w, 50.0) for power_w in powers))
    return list(cross_check(samples, GPUS, sources, readings, duration_s))


def test_a_counter_that_says_another_power_is_a_warning_with_both() -> None:
    (text,) = checked([300.0] * 40, reading(800.0), reading(200.0, gpu=5))
    assert text.startswith(
        "GPU 2: its energy counter says 200 W over the window, and 40 samples of its power 300 W"
    )
    assert "compare energies only with those of the same GPU model" in text


@pytest.mark.parametrize("energy_j", [1100.0, 1200.0, 1320.0])
def test_ten_percent_are_no_warning(energy_j: float) -> None:
    assert checked([300.0] * 40, reading(energy_j)) == []


def test_samples_that_scatter_say_less() -> None:
    scattered = [100.0, 500.0] * 12
    assert checked(scattered, reading(1000.0)) == []
    assert checked([300.0] * 24, reading(1000.0)) != []


@pytest.mark.parametrize(
    ("count", "given", "sources", "duration_s"),
    [
        (19, reading(10.0), INSTANT, 4.0),
        (40, reading(None), INSTANT, 4.0),
        (40, reading(10.0, method="power"), INSTANT, 4.0),
        (40, reading(10.0), ("usage", "usage"), 4.0),
        (40, reading(10.0), (), 4.0),
        (40, reading(10.0), INSTANT, 0.0),
    ],
)
def test_what_can_not_be_compared_is_not(
    count: int, given: Reading, sources: Sequence[str], duration_s: float
) -> None:
    assert checked([300.0] * count, given, sources=sources, duration_s=duration_s) == []
