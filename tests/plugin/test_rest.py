"""Gaps: of each device by itself, from process to process where there are several."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_llem.gpus import Gpu, look
from pytest_llem.plugin.naming import SESSION_NAME
from pytest_llem.plugin.rest import Rests
from pytest_llem.study.keys import Gaps
from tests.builders import experiment
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import H100

FIXED = Gaps(between_experiments=0.02, between_cycles=0.01, mode="fixed")
GPUS = [
    Gpu(index=n, uuid=f"GPU-{n}", name="A", memory_bytes=None, power_limit_w=None) for n in range(2)
]


@pytest.fixture
def config(pytester: pytest.Pytester) -> Any:
    """Of a pytest process in a directory of its own."""
    found = pytester.parseconfig()
    found.stash[SESSION_NAME] = "session"
    return found


def waited(rests: Rests, name: str, cycle: int, *gpus: Gpu) -> float:
    asked = experiment(id=name, device="cuda" if gpus else "cpu")
    gap = rests.wait("s", asked, cycle, None, FIXED, gpus)
    return 0.0 if gap is None else float(gap["waited_s"])


def test_there_is_no_gap_before_the_first_measurement_on_each_device(config: Any) -> None:
    rests = Rests(config)
    one, other = GPUS
    assert [waited(rests, "a", 1, one), waited(rests, "b", 1, other), waited(rests, "c", 1)] == [
        *(0.0, 0.0, 0.0),
    ]
    # Of each device, what was there before counts.
    assert waited(rests, "b", 2, other) == 0.01
    assert waited(rests, "b", 2, one) == 0.02
    assert waited(rests, "d", 1, one, other) == 0.02
    assert waited(rests, "d", 1, one, other) == 0.0


def test_processes_of_xdist_tell_each_other_of_devices(config: Any) -> None:
    first, second = Rests(config), Rests(config)
    alone = waited(first, "a", 1, GPUS[0])
    assert (alone, waited(second, "a", 2, GPUS[0])) == (0.0, 0.0)
    cast(Any, config).workerinput = {"workerid": "gw0"}
    folder = Path(config.rootpath) / "results" / "session"
    folder.mkdir(parents=True)
    first, second = Rests(config), Rests(config)
    assert [waited(first, "a", 1, GPUS[0]), waited(second, "a", 2, GPUS[0])] == [0.0, 0.01]
    assert waited(first, "b", 2, GPUS[0]) == 0.02
    assert waited(first, "b", 1) == 0.0
    assert len(list((folder / "devices").iterdir())) == 2


def test_a_gpu_is_as_cool_as_it_was_itself_whatever_the_others_do(
    config: Any, nvml_rig: NvmlRig
) -> None:
    nvml_rig(H100, gpus=2, settings={"gpu0.temp0": 40, "gpu1.temp0": 70, "temp_per_w": 0})
    gpus = look(environ={}).gpus
    rests = Rests(config)
    thermal = dataclasses.replace(FIXED, mode="thermal")
    for cycle in (1, 2):
        found = [
            rests.wait("s", experiment(device="cuda"), cycle, None, thermal, [gpu]) for gpu in gpus
        ]
    assert [each and each["idle_c"] for each in found] == [40.0, 70.0]
    both = rests.wait("s", experiment(device="cuda"), 3, None, thermal, gpus)
    assert both is not None
    assert (both["idle_c"], both["reached"]) == (70.0, True)
