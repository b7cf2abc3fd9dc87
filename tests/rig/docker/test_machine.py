"""What the simulated driver shows of a machine to a container; needs no daemon."""

from __future__ import annotations

import pynvml
import pytest

from tests.rig.asking import handle, power_mw
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import Rig

pytestmark = pytest.mark.once


def replace(rig: Rig, more: str) -> None:
    """Add a line to the settings behind the back of a process that has opened the GPUs."""
    other = rig.config_path.with_suffix(".other")
    other.write_text(rig.config_path.read_text() + more)
    other.replace(rig.config_path)


def used_bytes() -> int:
    return int(pynvml.nvmlDeviceGetMemoryInfo(handle()).used)


def test_visible_gpus_are_counted_anew_and_keep_what_is_theirs(nvml_rig: NvmlRig) -> None:
    lost = {f"gpu{gpu}.err.nvmlDeviceGetPowerUsage": 15 for gpu in (0, 1)}
    nvml_rig(gpus=4, settings={**lost, "visible": "3,1", "gpu3.name": "the last"})
    third, first = handle(0), handle(1)
    assert pynvml.nvmlDeviceGetCount() == 2
    assert pynvml.nvmlDeviceGetName(third) == "the last"
    assert [pynvml.nvmlDeviceGetIndex(gpu) for gpu in (third, first)] == [0, 1]
    assert [pynvml.nvmlDeviceGetMinorNumber(gpu) for gpu in (third, first)] == [3, 1]
    assert pynvml.nvmlDeviceGetPciInfo(third).bus == 4
    assert power_mw(third) > 0
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        power_mw(first)


def test_a_watched_file_is_followed_without_opening_anew(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings={"watch": 1, "mem_used": 1000})
    handle()
    before = used_bytes()
    replace(rig, "mem_used=2000\n")
    assert (before, used_bytes()) == (1000, 2000)
    replace(rig, "mem_used=3000\n")
    assert used_bytes() == 3000


def test_a_file_that_is_not_watched_is_read_once(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(settings={"mem_used": 1000})
    handle()
    replace(rig, "mem_used=2000\n")
    assert used_bytes() == 1000


def test_every_call_can_fail(nvml_rig: NvmlRig) -> None:
    nvml_rig(settings={"err.*": 999})
    with pytest.raises(pynvml.NVMLError_Unknown):
        pynvml.nvmlInit()
