"""GPUs in containers, as the NVIDIA toolkit gives them, on a host that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import docker
import pynvml
import pytest

from tests.rig.docker.asking import HARDENED, gpus, output, running
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.images import image, site_packages

pytestmark = [pytest.mark.docker, pytest.mark.once]

UUIDS = ("nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader")
GIB = 2**30


def refused(client: docker.DockerClient, **arguments: Any) -> str:
    """Why a container could not start."""
    with pytest.raises(docker.errors.APIError) as refusal:
        running(client, "nvidia-smi", **arguments)
    assert refusal.value.status_code == 500
    return str(refusal.value.explanation)


# --- who gets GPUs -------------------------------------------------------------------------


def test_a_container_gets_all_gpus(docker_daemon: Daemon) -> None:
    docker_daemon.driver.set(gpus=2, cuda="12.4", version="550.54.15")
    told = output(docker_daemon.client(), "nvidia-smi", **gpus())
    first, second = docker_daemon.driver.uuids
    assert told.splitlines() == [
        "Driver Version: 550.54.15  CUDA Version: 12.4",
        f"GPU 0: NVIDIA H100 80GB HBM3 (UUID: {first})",
        f"GPU 1: NVIDIA H100 80GB HBM3 (UUID: {second})",
    ]


def test_a_container_sees_only_the_gpus_it_asked_for(docker_daemon: Daemon) -> None:
    docker_daemon.driver.set(gpus=4)
    client, uuids = docker_daemon.client(), docker_daemon.driver.uuids
    assert output(client, *UUIDS, **gpus("1")) == f"0, {uuids[1]}\n"
    told = output(client, *UUIDS, **gpus("3", uuids[2]))
    assert told == f"0, {uuids[3]}\n1, {uuids[2]}\n"


def test_a_container_that_asks_for_none_has_no_driver(docker_daemon: Daemon) -> None:
    with pytest.raises(docker.errors.APIError, match="executable file not found"):
        running(docker_daemon.client(), "nvidia-smi", init=False)


def test_nvml_comes_with_the_utility_capability_only(docker_daemon: Daemon) -> None:
    request = gpus(capabilities=("gpu", "compute"))
    with pytest.raises(docker.errors.APIError, match="executable file not found"):
        running(docker_daemon.client(), "nvidia-smi", init=False, **request)


# --- who doesn't ---------------------------------------------------------------------------


def test_without_the_toolkit_there_are_none(plain_daemon: Daemon) -> None:
    why = refused(plain_daemon.client(), **gpus())
    assert 'could not select device driver "" with capabilities: [[gpu]]' in why


def test_a_toolkit_that_was_removed_is_missed(docker_daemon: Daemon) -> None:
    docker_daemon.remove_hook()
    why = refused(docker_daemon.client(), **gpus())
    assert 'exec: "nvidia-container-runtime-hook": executable file not found in $PATH' in why


def test_a_failure_of_the_toolkit_is_told_in_its_words(docker_daemon: Daemon) -> None:
    client = docker_daemon.client()
    text = "initialization error: nvml error: driver not loaded"
    docker_daemon.hook_fails(text)
    assert f"stderr: Auto-detected mode as 'legacy'\nnvidia-container-cli: {text}" in refused(
        client, **gpus()
    )
    docker_daemon.hook_works()
    assert output(client, "nvidia-smi", **gpus()).startswith("Driver Version")


def test_a_gpu_that_is_not_there_is_unknown(docker_daemon: Daemon) -> None:
    why = refused(docker_daemon.client(), **gpus("3"))
    assert "nvidia-container-cli: device error: 3: unknown device" in why


def test_an_image_for_a_later_cuda_is_refused(docker_daemon: Daemon) -> None:
    client = docker_daemon.client()
    docker_daemon.driver.set(cuda="12.8")
    wants = "cuda>=12.9 brand=tesla,driver>=470,driver<471"
    name = image(client, "llem/cuda:12.9", env={"NVIDIA_REQUIRE_CUDA": wants})
    assert (
        "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.9, please update "
        "your driver to a newer version, or use an earlier cuda container: unknown"
    ) in refused(client, image=name, **gpus())
    disabled = {"NVIDIA_DISABLE_REQUIRE": "1"}
    assert output(client, *UUIDS, image=name, environment=disabled, **gpus())
    for cuda, version in (("12.9", "570.86.15"), ("12.8", "470.82.01")):
        docker_daemon.driver.set(cuda=cuda, version=version)
        assert output(client, *UUIDS, image=name, **gpus())


# --- a running container -------------------------------------------------------------------

FOLLOW = """
import pynvml, time

pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
print(pynvml.nvmlDeviceGetUUID(gpu), flush=True)
seen = None
try:
    while True:
        now = pynvml.nvmlDeviceGetMemoryInfo(gpu).used >> 30, pynvml.nvmlDeviceGetPowerUsage(gpu)
        if now != seen:
            print(*now, flush=True)
        seen = now
        time.sleep(0.01)
except pynvml.NVMLError as error:
    print(error.value, flush=True)
"""


def test_a_running_container_follows_what_the_test_does(docker_daemon: Daemon) -> None:
    client, driver = docker_daemon.client(), docker_daemon.driver
    driver.set(gpus=2)
    driver.rig.configure({"usage_window_ms": 0, "usage_period_ms": 0})
    driver.use_memory(3 * GIB, gpu=1)
    real = Path(pynvml.__file__).read_text()
    name = image(client, "llem/nvml:1", files={f"{site_packages()}/pynvml.py": real})
    container = running(client, "python3", "-I", "-c", FOLLOW, image=name, **gpus("1"), **HARDENED)
    lines = (line.decode().strip() for line in container.logs(stream=True, follow=True))
    assert next(lines) == driver.uuids[1]
    assert next(lines) == "3 70000"
    driver.use_memory(60 * GIB, gpu=0)
    driver.use_memory(5 * GIB, gpu=1)
    assert next(lines) == "5 70000"
    driver.rig.mark(1)
    assert next(lines) == "5 600000"
    driver.fail(999)
    assert next(lines) == "999"
    assert list(lines) == []
    assert container.wait()["StatusCode"] == 0


def test_a_container_that_lost_its_gpus_says_so(docker_daemon: Daemon) -> None:
    client, driver = docker_daemon.client(), docker_daemon.driver
    container = running(client, "sleep", "60", **gpus())
    assert container.exec_run("nvidia-smi").exit_code == 0
    driver.fail(999)
    lost = container.exec_run("nvidia-smi")
    assert (lost.exit_code, lost.output) == (231, b"Failed to initialize NVML: Unknown Error\n")
    driver.fail(18)
    mismatch = container.exec_run("nvidia-smi")
    text = b"Failed to initialize NVML: Driver/library version mismatch\n"
    assert (mismatch.exit_code, mismatch.output) == (18, text)
    driver.recover()
    assert container.exec_run("nvidia-smi").exit_code == 0


def test_calls_in_containers_are_counted(docker_daemon: Daemon) -> None:
    before = docker_daemon.driver.rig.calls().get("nvmlDeviceGetMemoryInfo", 0)
    output(docker_daemon.client(), "nvidia-smi", **gpus(), **HARDENED)
    assert docker_daemon.driver.rig.calls()["nvmlDeviceGetMemoryInfo"] == before + 1


def test_what_a_test_did_is_undone_after_it(docker_daemon: Daemon) -> None:
    docker_daemon.driver.set(gpus=3, cuda="11.8")
    docker_daemon.driver.fail(999)
    docker_daemon.hook_fails("no")
    docker_daemon.pause()
    docker_daemon.renew()
    told = output(docker_daemon.client(), "nvidia-smi", **gpus())
    assert told.splitlines()[0] == "Driver Version: 570.86.15  CUDA Version: 12.8"
    assert len(told.splitlines()) == 2
    assert docker_daemon.client().containers.list(all=True) == []
