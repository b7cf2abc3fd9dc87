"""The simulated driver, as the real pynvml sees it."""

from __future__ import annotations

import pytest

from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import BOARDS

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_is_understood_by_the_library(name: str, nvml_rig: NvmlRig) -> None:
    import pynvml

    nvml_rig(BOARDS[name], gpus=2)
    pynvml.nvmlInit()
    assert pynvml.nvmlDeviceGetCount() == 2
