"""The GPUs of a host, as NVML and CUDA's environment variable tell of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.gpus import Found, Gpu, greeting, look, temperatures
from tests.builders import UNHURRIED
from tests.fakes import Board, FakeNvml

A = Board(uuid="GPU-aa11", celsius=40)
B = Board(uuid="GPU-ab22", celsius=55)
C = Board(uuid="GPU-cc33", name="NVIDIA H100", total=94 * 2**30, limit_mw=612_500)
SLICE = Board(uuid="MIG-5d5d", name="NVIDIA A100 MIG 1g.5gb", total=5 * 2**30, part_of=B)

NO_PERMISSION = (
    "no permission to use NVIDIA GPUs; check who may read and write /dev/nvidia*, or give the"
    " container or job access to them"
)
LOST = "the driver can't reach the GPU any more (it is lost); restart the machine"


def uuids(found: Found) -> list[str]:
    return [gpu.uuid for gpu in found.gpus]


def visible(chosen: str, nvml: FakeNvml | None = None) -> Found:
    return look(nvml or FakeNvml(A, B, C), {"CUDA_VISIBLE_DEVICES": chosen})


# --- what is told of a GPU -----------------------------------------------------------------


def test_all_gpus_are_told_with_their_facts() -> None:
    found = look(FakeNvml(A, C), {})
    assert found == Found(
        gpus=(
            Gpu(
                index=0,
                uuid="GPU-aa11",
                name="NVIDIA A100",
                memory_bytes=80 * 2**30,
                power_limit_w=400.0,
            ),
            Gpu(
                index=1,
                uuid="GPU-cc33",
                name="NVIDIA H100",
                memory_bytes=94 * 2**30,
                power_limit_w=612.5,
            ),
        )
    )


def test_what_a_product_does_not_tell_is_none() -> None:
    errors = {"nvmlDeviceGetMemoryInfo": 3, "nvmlDeviceGetEnforcedPowerLimit": 3}
    (gpu,) = look(FakeNvml(A, errors=errors), {}).gpus
    assert (gpu.memory_bytes, gpu.power_limit_w) == (None, None)


def test_nvml_is_closed_again() -> None:
    nvml = FakeNvml(A, B)
    look(nvml, {})
    temperatures(["GPU-aa11"], nvml)
    assert nvml.opened == 0
    assert nvml.calls.count("nvmlInit") == nvml.calls.count("nvmlShutdown") == 2


def test_nvml_is_closed_after_an_error_too() -> None:
    nvml = FakeNvml(A, errors={"nvmlDeviceGetCount": 999})
    look(nvml, {})
    assert nvml.calls[-1] == "nvmlShutdown"


def test_an_error_while_closing_spoils_nothing() -> None:
    found = look(FakeNvml(A, errors={"nvmlShutdown": 1}), {})
    assert (uuids(found), found.reason) == (["GPU-aa11"], "")


# --- why there are none --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (4, NO_PERMISSION),
        (9, "its kernel module isn't loaded; restart the machine"),
        (12, "no NVIDIA driver was found (libnvidia-ml.so.1); install it"),
        (13, "the NVIDIA driver is too old for the installed nvidia-ml-py; update the driver"),
        (15, LOST),
        (18, "the NVIDIA driver was updated while the old one is still loaded"),
        (999, "NVML failed: number 999 (error 999); see what nvidia-smi says"),
    ],
)
def test_a_driver_that_can_not_be_asked_is_a_reason(number: int, words: str) -> None:
    found = look(FakeNvml(A, errors={"nvmlInit": number}), {})
    assert found.gpus == ()
    assert words in found.reason


def test_a_driver_without_a_gpu_is_a_reason() -> None:
    text = "the NVIDIA driver works, but sees no GPU; see what nvidia-smi says"
    assert look(FakeNvml(), {}) == Found(reason=text)
    assert visible("0", FakeNvml()) == Found(reason=text)


@UNHURRIED
@given(number=st.integers(), function=st.sampled_from(["nvmlInit", "nvmlDeviceGetCount"]))
def test_no_error_of_nvml_gets_out(number: int, function: str) -> None:
    nvml = FakeNvml(A, errors={function: number})
    assert look(nvml, {}).reason
    assert temperatures(["GPU-aa11"], FakeNvml(A, errors={"nvmlInit": number})) is None


def test_an_error_that_is_not_of_nvml_is_not_hidden() -> None:
    class Broken(FakeNvml):
        def nvmlDeviceGetCount(self) -> int:  # noqa: N802
            raise ZeroDivisionError

    nvml = Broken(A)
    with pytest.raises(ZeroDivisionError):
        look(nvml, {})
    assert nvml.opened == 0


# --- some of them ---------------------------------------------------------------------------


def test_a_lost_gpu_is_named_beside_those_that_work() -> None:
    found = look(FakeNvml(A, B, C, errors={"nvmlDeviceGetHandleByIndex 1": 15}), {})
    assert uuids(found) == ["GPU-aa11", "GPU-cc33"]
    assert [gpu.index for gpu in found.gpus] == [0, 2]
    assert found.reason == f"GPU 1: {LOST}"


def test_gpus_with_the_same_trouble_share_a_reason() -> None:
    found = look(FakeNvml(A, B, errors={"nvmlDeviceGetName": 15}), {})
    assert found == Found(reason=f"GPU 0, 1: {LOST}")


def test_the_numbers_of_cuda_count_a_lost_gpu_but_not_those_of_other_jobs() -> None:
    lost = FakeNvml(A, B, C, errors={"nvmlDeviceGetHandleByIndex 0": 15})
    assert uuids(visible("1", lost)) == ["GPU-ab22"]
    other = FakeNvml(A, B, C, errors={"nvmlDeviceGetHandleByIndex 0": 4})
    found = visible("1", other)
    assert uuids(found) == ["GPU-cc33"]
    assert (found.gpus[0].index, found.gpus[0].ordinal) == (2, 1)
    assert found.reason == f"GPU 0: {NO_PERMISSION}"


# --- CUDA_VISIBLE_DEVICES --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("0", ["GPU-aa11"]),
        ("2,0", ["GPU-cc33", "GPU-aa11"]),
        (" 1 , 02 ", ["GPU-ab22", "GPU-cc33"]),
        ("0,2,-1,1", ["GPU-aa11", "GPU-cc33"]),
        ("GPU-ab22", ["GPU-ab22"]),
        ("GPU-c,GPU-aa", ["GPU-cc33", "GPU-aa11"]),
    ],
)
def test_only_chosen_gpus_are_told_in_their_order(chosen: str, expected: list[str]) -> None:
    found = visible(chosen)
    assert (uuids(found), found.reason) == (expected, "")


@pytest.mark.parametrize(
    ("chosen", "expected", "words"),
    [
        ("", [], "CUDA_VISIBLE_DEVICES is empty, which hides all GPUs; unset it to use them"),
        (" ", [], "CUDA_VISIBLE_DEVICES is empty"),
        (
            "-1",
            [],
            "CUDA_VISIBLE_DEVICES='-1': '-1' names no single GPU that can be used, so all GPUs are",
        ),
        (
            "-1,0",
            [],
            "'-1' names no single GPU that can be used, so all GPUs are hidden; name GPUs as",
        ),
        ("NoDevFiles", [], "'NoDevFiles' names no single GPU that can be used"),
        ("3", [], "'3' names no single GPU that can be used"),
        ("9" * 5000, [], "names no single GPU that can be used"),
        ("GPU-a", [], "'GPU-a' names no single GPU that can be used"),
        ("GPU-zz", [], "'GPU-zz' names no single GPU that can be used"),
        (
            "0,7,1",
            ["GPU-aa11"],
            "'7' names no single GPU that can be used, so it and all after it are",
        ),
        ("0,,1", ["GPU-aa11"], "'' names no single GPU that can be used"),
        ("1,0,1", [], "CUDA_VISIBLE_DEVICES='1,0,1' names GPU 1 twice, which hides all"),
        ("GPU-ab22,1", [], "names GPU 1 twice"),
        ("MIG-0000", [], "'MIG-0000' names no single GPU that can be used"),
    ],
)
def test_what_hides_gpus_is_said(chosen: str, expected: list[str], words: str) -> None:
    found = visible(chosen)
    assert uuids(found) == expected
    assert words in found.reason


def test_a_mig_instance_has_its_own_memory_and_the_number_of_its_gpu() -> None:
    nvml = FakeNvml(A, B, instances=[SLICE], errors={"nvmlDeviceGetEnforcedPowerLimit MIG-5d5d": 3})
    assert visible("MIG-5d5d", nvml) == Found(
        gpus=(
            Gpu(
                index=1,
                uuid="MIG-5d5d",
                name="NVIDIA A100 MIG 1g.5gb",
                memory_bytes=5 * 2**30,
                power_limit_w=None,
                parent_uuid="GPU-ab22",
            ),
        )
    )


@UNHURRIED
@given(chosen=st.text("0123-,GPUMIabc ", max_size=12))
def test_whatever_is_chosen_each_gpu_comes_once_or_none_has_a_reason(chosen: str) -> None:
    found = visible(chosen)
    assert len(set(uuids(found))) == len(found.gpus)
    assert found.gpus or found.reason


# --- temperatures ----------------------------------------------------------------------------


def test_temperatures_come_in_the_order_asked_for() -> None:
    assert temperatures(["GPU-ab22", "GPU-aa11"], FakeNvml(A, B)) == (55.0, 40.0)


def test_a_mig_instance_is_as_warm_as_its_gpu() -> None:
    assert temperatures(["MIG-5d5d"], FakeNvml(A, B, instances=[SLICE])) == (55.0,)


@pytest.mark.parametrize(
    "errors", [{"nvmlDeviceGetTemperature GPU-ab22": 3}, {"nvmlDeviceGetHandleByUUID GPU-ab22": 15}]
)
def test_one_gpu_that_does_not_answer_leaves_no_temperatures(errors: dict[str, int]) -> None:
    assert temperatures(["GPU-aa11", "GPU-ab22"], FakeNvml(A, B, errors=errors)) is None


# --- the real bindings -----------------------------------------------------------------------


def test_the_real_bindings_give_gpus_or_a_reason() -> None:
    found = look(environ={})
    assert found.gpus or found.reason
    assert temperatures(["GPU-of-nobody"]) is None


def test_without_the_bindings_the_reason_names_the_package() -> None:
    code = """
import sys
sys.modules["pynvml"] = None
from pytest_llem.gpus import look, temperatures
print(look(environ={}).reason, temperatures([]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the package nvidia-ml-py can't be imported (")
    assert done.stdout.endswith("run: pip install nvidia-ml-py None\n")


# --- what a worker says at once ------------------------------------------------------------------


def test_a_worker_greets_with_driver_cuda_and_memory() -> None:
    nvml = FakeNvml(Board(uuid="GPU-a", used=3 * 2**30), Board(uuid="GPU-b", name="NVIDIA L4"))
    found = greeting(nvml)
    assert (found["driver"], found["cuda"]) == ("570.86.15", "12.8")
    assert [gpu["uuid"] for gpu in found["gpus"]] == ["GPU-a", "GPU-b"]
    assert [gpu["index"] for gpu in found["gpus"]] == [0, 1]
    assert found["gpus"][0]["memory_used_bytes"] == 3 * 2**30
    assert found["gpus"][0]["memory_bytes"] == 80 * 2**30
    assert found["gpus"][1]["name"] == "NVIDIA L4"
    assert nvml.opened == 0


def test_one_gpu_that_does_not_answer_hides_no_other() -> None:
    nvml = FakeNvml(
        Board(uuid="GPU-a"), Board(uuid="GPU-b"), errors={"nvmlDeviceGetMemoryInfo GPU-a": 15}
    )
    first, second = greeting(nvml)["gpus"]
    assert "lost" in first["reason"]
    assert second["uuid"] == "GPU-b"


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlSystemGetDriverVersion"])
def test_a_driver_that_refuses_is_greeted_with_the_reason(function: str) -> None:
    assert list(greeting(FakeNvml(errors={function: 18}))) == ["reason"]
