"""NVML opened, GPUs found by UUID, errors as reasons."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_llem.nvml import Boards, NvmlRefused, board, opened, reason_of
from tests.fakes import Board, FakeNvml, FakeNvmlError

A = Board(uuid="GPU-aa11", power_mw=1500)
B = Board(uuid="GPU-ab22")
SLICE = Board(uuid="MIG-5d5d", part_of=B)
LOST = "the driver can't reach the GPU any more (it is lost); restart the machine"


def test_boards_stay_open_until_they_are_closed() -> None:
    nvml = FakeNvml(A, B)
    boards = Boards(["GPU-ab22", "GPU-aa11"], nvml)
    assert boards.handles == (B, A)
    assert boards.ask(boards.library.nvmlDeviceGetPowerUsage, boards.handles[1]) == 1500
    assert nvml.opened == 1
    boards.close()
    boards.close()
    assert nvml.opened == 0


def test_an_instance_stands_for_its_whole_gpu() -> None:
    boards = Boards(["MIG-5d5d"], FakeNvml(A, B, instances=[SLICE]))
    assert boards.handles == (B,)


@pytest.mark.parametrize(
    ("function", "opens"), [("nvmlInit", 0), ("nvmlDeviceGetHandleByUUID GPU-aa11", 0)]
)
def test_boards_that_can_not_be_had_are_refused_and_leave_nothing_open(
    function: str, opens: int
) -> None:
    nvml = FakeNvml(A, errors={function: 15})
    with pytest.raises(NvmlRefused) as refused:
        Boards(["GPU-aa11"], nvml)
    assert (str(refused.value), nvml.opened) == (LOST, opens)


def test_a_question_that_is_not_answered_is_refused_with_the_reason() -> None:
    boards = Boards(["GPU-aa11"], FakeNvml(A, errors={"nvmlDeviceGetPowerUsage": 3}))
    with pytest.raises(NvmlRefused, match="the GPU, or its driver, doesn't tell that"):
        boards.ask(boards.library.nvmlDeviceGetPowerUsage, boards.handles[0])


def test_an_error_inside_of_the_block_is_refused() -> None:
    nvml = FakeNvml(A, errors={"nvmlDeviceGetPowerUsage": 15})
    with pytest.raises(NvmlRefused, match="it is lost"), opened(nvml) as library:
        library.nvmlDeviceGetPowerUsage(board(library, "GPU-aa11"))
    assert nvml.opened == 0


def test_an_unknown_error_keeps_its_number() -> None:
    text = "NVML failed: number 999 (error 999); see what nvidia-smi says"
    assert reason_of(FakeNvmlError(999)) == text


def test_whether_there_is_a_driver_is_what_the_bindings_say_too() -> None:
    # In a process of its own: in this one a simulated driver may have been loaded.
    code = """
from pytest_llem.nvml import NvmlRefused, driver_is_there, opened
try:
    with opened():
        reason = ""
except NvmlRefused as refused:
    reason = str(refused)
print(driver_is_there(), "no NVIDIA driver was found" not in reason)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told, found = done.stdout.split()
    assert told == found


def test_the_real_bindings_have_all_that_is_used() -> None:
    import pynvml

    names = [name for name in vars(FakeNvml) if name.startswith("nvml")]
    assert len(names) == 24
    assert all(callable(getattr(pynvml, name)) for name in names)
    assert issubclass(pynvml.NVMLError, Exception)
    assert pynvml.NVMLError(15).value == FakeNvmlError(15).value
    assert pynvml.NVML_TEMPERATURE_GPU == 0
