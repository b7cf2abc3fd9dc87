"""Leases of GPUs: exclusive among processes, in the order that the worker is to see."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_llem.errors import WorkerError
from pytest_llem.gpus import Found, Gpu
from pytest_llem.runners.devices import Devices
from tests.builders import experiment

TWO = (3, 5)
HOLD = """
import sys
from pathlib import Path
from pytest_llem.gpus import Found, Gpu
from pytest_llem.runners.devices import Devices
from tests.builders import experiment
gpu = Gpu(index=3, uuid="GPU-3", name="A", memory_bytes=None, power_limit_w=None)
devices = Devices(lambda _: Found(gpus=(gpu,)), Path(sys.argv[1]))
devices.lease(experiment(device="cuda"))
print("held", flush=True)
sys.stdin.read()
"""


def gpu(index: int, uuid: str | None = None) -> Gpu:
    return Gpu(
        index=index, uuid=uuid or f"GPU-{index}", name="A", memory_bytes=None, power_limit_w=None
    )


def devices(folder: Path, *numbers: int, reason: str = "") -> Devices:
    gpus = tuple(gpu(number) for number in numbers)
    return Devices(lambda _: Found(gpus=gpus, reason=reason), folder)


def test_one_engine_on_a_device(tmp_path: Path) -> None:
    host = devices(tmp_path, *TWO)
    first = host.lease(experiment(device="cuda"))
    second = host.lease(experiment(device="auto"))
    assert (first.numbers, second.numbers) == ((3,), (5,))
    assert first.environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "3"}
    first.release()
    assert host.lease(experiment(device="cuda")).numbers == (3,)


def test_several_gpus_are_leased_together(tmp_path: Path) -> None:
    lease = devices(tmp_path, *TWO).lease(experiment(device="cuda", tensor_parallel=2))
    assert lease.numbers == TWO
    assert lease.environment["CUDA_VISIBLE_DEVICES"] == "3,5"


def test_a_lease_that_is_too_small_is_no_lease(tmp_path: Path) -> None:
    host = devices(tmp_path, *TWO)
    held = host.lease(experiment(device="cuda"))
    told: list[float] = []

    def tell(seconds: float) -> None:
        told.append(seconds)
        # Nobody waits with one of two: somebody who needs just one gets it meanwhile.
        other = host.lease(experiment(device="cuda"))
        assert other.numbers == (5,)
        other.release()
        held.release()

    assert host.lease(experiment(device="cuda", gpus=2), tell).numbers == TWO
    assert len(told) == 1
    assert told[0] >= 1.0


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_need_no_lease(tmp_path: Path, device: str) -> None:
    lease = devices(tmp_path / "locks", *TWO).lease(experiment(device=device))
    assert (lease.numbers, lease.environment) == ((), {})
    assert not (tmp_path / "locks").exists()


def test_what_nvml_does_not_show_is_left_to_the_engine(tmp_path: Path) -> None:
    assert devices(tmp_path).lease(experiment(device="cuda")).numbers == ()


def test_too_few_gpus_are_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"computes on 2 GPUs, and this host has 1 \(GPU 4: x\)"):
        devices(tmp_path, 3, reason="GPU 4: x").lease(experiment(device="cuda", gpus=2))


def test_a_mig_instance_has_no_number_of_its_own(tmp_path: Path) -> None:
    host = Devices(lambda _: Found(gpus=(gpu(0, "MIG-a/1"),)), tmp_path)
    lease = host.lease(experiment(device="cuda"))
    assert lease.environment["CUDA_VISIBLE_DEVICES"] == "MIG-a/1"


def test_the_studys_own_choice_of_gpus_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    def find(environ: Mapping[str, str]) -> Found:
        seen.append(environ.get("CUDA_VISIBLE_DEVICES"))
        return Found()

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    host = Devices(find, tmp_path)
    for env in ({}, {"CUDA_VISIBLE_DEVICES": "2"}, {}):
        host.lease(experiment(device="cuda", env=env))
    assert seen == ["1", "2"]


def test_a_lease_ends_with_its_process_and_everybody_may_have_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    told: list[float] = []

    def tell(seconds: float) -> None:
        told.append(seconds)
        process.kill()

    lease = devices(folder, 3).lease(experiment(device="cuda"), tell)
    process.communicate()
    assert lease.numbers == (3,)
    assert told
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    assert os.access(folder / "GPU-3.lock", os.R_OK)


def test_locks_that_cannot_be_made_are_an_error_with_its_fix(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkerError, match="can't be opened") as error:
        devices(tmp_path / "file", 3).lease(experiment(device="cuda"))
    assert "LLEM_LOCK_DIR" in error.value.fix
