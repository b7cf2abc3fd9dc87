"""The figures of accuracy that are promised, in short; perf/energy_accuracy.py has them in full."""

from __future__ import annotations

import itertools
from collections import defaultdict

import pytest

from tests.meters.accuracy import DURATIONS_S, WAVES, figures, random_waves, windows
from tests.meters.windows import Measured
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import A100, H100, SENSOR, V100, Settings

pytestmark = pytest.mark.once

WITHOUT_TAIL = dict(zip(DURATIONS_S, (0.01, 0.003, 0.002, 0.0005), strict=True))
WITH_TAIL = dict(zip(DURATIONS_S, (0.1, 0.025, 0.01, 0.003), strict=True))
SHAPES = ("linear", "exponential", "steps")


def measured(
    nvml_rig: NvmlRig, board: Settings, per_wave: int, seed: int, keys: Settings | None = None
) -> dict[float, list[Measured]]:
    """By the nominal length of windows."""
    found: dict[float, list[Measured]] = defaultdict(list)
    waves = (*WAVES, *random_waves(seed, 1))
    for duration_s, one in windows(
        lambda settings: nvml_rig(board, settings={**settings, **(keys or {})}),
        waves,
        per_wave,
        seed,
    ):
        found[duration_s].append(one)
    return found


@pytest.mark.parametrize("board", [V100, A100, H100])
def test_without_a_tail(board: Settings, nvml_rig: NvmlRig) -> None:
    found = measured(nvml_rig, board, 2, seed=1)
    for duration_s, limit in WITHOUT_TAIL.items():
        assert figures(found[duration_s]).error < limit / 10
    every = list(itertools.chain(*found.values()))
    # A load that ends with much more than its mean may have had a short tail.
    fine = [one for one in every if one.reading.quality == "ok"]
    assert len(fine) >= 0.9 * len(every)
    assert {one.reading.quality for one in every} <= {"ok", "short"}
    whole = figures(every)
    assert whole.held >= 0.93
    assert whole.width <= 3 * whole.error
    assert whole.idle_error < 0.005


def test_with_a_tail(nvml_rig: NvmlRig) -> None:
    found: dict[float, list[Measured]] = defaultdict(list)
    for seed, shape in enumerate(SHAPES):
        keys: Settings = {"tail_ms": 180, "tail_shape": shape}
        for duration_s, some in measured(nvml_rig, H100, 1, seed, keys).items():
            found[duration_s] += some
    for duration_s, limit in WITH_TAIL.items():
        assert figures(found[duration_s]).error < limit
    assert {one.reading.quality for one in found[0.1]} == {"short"}
    assert figures(found[0.5]).idle_error < 0.005
    every = list(itertools.chain(*found.values()))
    assert figures(every).held >= 0.9
    assert figures(every).width <= 3 * figures(every).error


def test_with_a_sensor_that_sees_a_quarter_of_the_time(nvml_rig: NvmlRig) -> None:
    found = measured(nvml_rig, SENSOR, 2, seed=1)
    every = list(itertools.chain(*found.values()))
    # A window or two more may end where it can't be told what kind of counter it is.
    assert sum(one.reading.quality == "degraded" for one in every) >= 0.95 * len(every)
    assert figures(every).held >= 0.93
    assert figures(every).width <= 3.5 * figures(every).error
