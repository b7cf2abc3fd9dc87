"""Counters that see only part of the time: found out, and their doubt stated."""

from __future__ import annotations

import dataclasses

import pytest

from pytest_llem.meters.edges import Evidence
from pytest_llem.meters.sampled import SEEN, attribute_sampled, sees_part
from tests.meters.test_edges import PERIOD_S, REST_W, evidence
from tests.meters.windows import CALL, bench
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import A100, H100, SENSOR, V100, Settings

pytestmark = pytest.mark.once

LOAD = [(0.345, 400.0)]
"""Ends in the middle of a period."""


# --- telling them apart --------------------------------------------------------------------


def test_a_counter_that_sees_all_has_the_loads_share_in_its_last_step() -> None:
    assert sees_part(evidence(LOAD), [REST_W]) == "all"


def with_last_step(power_w: float) -> Evidence:
    """The load's last period as a sensor that saw this power at its end has it."""
    seen = evidence(LOAD)
    look = dataclasses.replace(seen.at_end, joules=seen.after[0].joules - power_w * PERIOD_S)
    return dataclasses.replace(seen, at_end=look)


def test_a_counter_whose_last_step_is_what_the_sensor_sees_sees_part() -> None:
    assert sees_part(with_last_step(300.0), [300.0]) == "part"


def test_a_last_step_without_load_may_be_either() -> None:
    assert sees_part(with_last_step(REST_W), [REST_W]) == "either"


def test_at_a_tick_it_cant_be_told() -> None:
    seen = evidence([(0.398, 400.0)])
    assert sees_part(seen, [400.0]) == "unknown"


def test_without_load_it_cant_be_told() -> None:
    assert sees_part(evidence([(0.345, REST_W)]), [REST_W]) == "unknown"


def test_without_a_sensor_it_cant_be_told() -> None:
    assert sees_part(evidence(LOAD), []) == "unknown"


def test_behind_a_load_that_has_not_decayed_it_cant_be_told() -> None:
    seen = evidence(LOAD)
    # The device goes on as under load.
    on = [
        dataclasses.replace(tick, joules=seen.at_end.joules + 38 * number)
        for number, tick in enumerate(seen.after, 1)
    ]
    assert sees_part(dataclasses.replace(seen, after=on), [380.0]) == "unknown"


# --- their energy --------------------------------------------------------------------------


def test_a_window_of_which_nothing_was_seen_is_not_told() -> None:
    assert attribute_sampled(evidence([(0.05, 400.0)]), None) is None


def test_the_more_a_load_varies_the_larger_the_doubt() -> None:
    seen = evidence([(0.845, 400.0)])
    doubts_j = []
    for varies_w in (0.0, 50.0, 150.0):
        found = attribute_sampled(seen, varies_w)
        assert found is not None
        doubts_j.append(found.uncertainty_j)
    assert doubts_j == sorted(doubts_j)
    assert doubts_j[-1] > 2 * doubts_j[0]
    unknown = attribute_sampled(seen, None)
    assert unknown is not None
    assert unknown.uncertainty_j > doubts_j[0]


def test_a_steady_load_is_told_well() -> None:
    found = attribute_sampled(evidence([(0.845, 400.0)]), 0.0)
    assert found is not None
    assert found.energy_j == pytest.approx(0.845 * 400, rel=0.01)


# --- on a board ----------------------------------------------------------------------------


@pytest.mark.parametrize("tail_ms", [0, 180])
def test_such_a_board_is_found_out_and_its_readings_degraded(
    tail_ms: int, nvml_rig: NvmlRig
) -> None:
    keys = {**CALL, "wave": "square:250,550,0.137", "tail_ms": tail_ms}
    with bench(nvml_rig(SENSOR, settings=keys)) as on:
        found = [on.window(0.745 + 0.023 * number) for number in range(12)]
    # The first few may end where it can't be told.
    known = found[2:]
    assert {one.reading.quality for one in known} == {"degraded"}
    assert all(SEEN in (one.reading.reason or "") for one in known)
    assert {one.reading.method for one in known} == {"counter"}
    assert all(one.holds(3) for one in known)


@pytest.mark.parametrize("board", [A100, H100, V100])
@pytest.mark.parametrize("shape", ["linear", "exponential", "steps"])
@pytest.mark.parametrize("tail_ms", [0, 180, 1000])
def test_other_boards_are_not_taken_for_one(
    board: Settings, shape: str, tail_ms: int, nvml_rig: NvmlRig
) -> None:
    keys = {**CALL, "wave": "square:250,550,0.137", "tail_ms": tail_ms, "tail_shape": shape}
    with bench(nvml_rig(board, settings=keys)) as on:
        found = [on.window(0.345 + 0.023 * number, pause_s=1.2) for number in range(8)]
    assert "degraded" not in {one.reading.quality for one in found}


def test_a_load_that_idles_at_its_end_is_not_taken_for_one(nvml_rig: NvmlRig) -> None:
    keys: Settings = {**CALL, "wave": "steps:0.45,500,0.05,70"}
    with bench(nvml_rig(settings=keys)) as on:
        found = [on.window(0.35 + 0.029 * number) for number in range(12)]
    assert sum(one.reading.quality == "degraded" for one in found) <= 1
    assert all(one.holds(4) for one in found if one.reading.quality == "ok")


def test_a_window_too_short_for_such_a_board_says_so(nvml_rig: NvmlRig) -> None:
    with bench(nvml_rig(SENSOR, settings={**CALL, "wave": "const:400"})) as on:
        for number in range(4):
            on.window(0.745 + 0.023 * number)
        reading = on.window(0.03).reading
    assert (reading.energy_j, reading.quality) == (None, "unmeasured")
    assert reading.reason == f"{SEEN}, and none of a window of 0.03 s; make it longer"
