"""What a real daemon says when something is wrong: each case is made, and has cause and fix."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.types import DeviceRequest, Mount

from pytest_llem.errors import ContainerError
from pytest_llem.runners.docker.daemon import Daemon as Reached
from pytest_llem.runners.docker.daemon import connect
from pytest_llem.runners.docker.devices import gpu_requests
from pytest_llem.runners.docker.endings import why_ended
from pytest_llem.runners.docker.errors import translate, translated
from pytest_llem.runners.docker.image import ensure
from tests.rig.docker import images
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.fixtures import MakeDaemon
from tests.rig.docker.registry import (
    BROKEN,
    FORBIDDEN,
    OTHER_ARCHITECTURE,
    RATE_LIMITED,
    UNAUTHORIZED,
    UNKNOWN,
    WHOLE,
    Registry,
)

pytestmark = [pytest.mark.docker, pytest.mark.once]

GPU = DeviceRequest(count=-1, capabilities=[["gpu"]])


@contextlib.contextmanager
def reached(daemon: Daemon) -> Iterator[Reached]:
    """A daemon of the rig, as the project reaches it."""
    with contextlib.closing(connect({"DOCKER_HOST": daemon.url})) as found:
        yield found


def run(daemon: Daemon, *command: str, **order: Any) -> tuple[int, bool]:
    """Run a container; its exit status, and whether the daemon says that memory was wanting.

    Raises:
        ContainerError: as the transport would.
    """
    client = daemon.client()
    about = {"url": daemon.url, "image": order.pop("image", images.BASE)}
    order.setdefault("network_mode", "none")
    with translated("create", **about):
        container = client.containers.create(about["image"], entrypoint=[*command], **order)
    try:
        with translated("start", **about):
            container.start()
        status = container.wait(timeout=60)["StatusCode"]
        container.reload()
        return status, container.attrs["State"]["OOMKilled"]
    finally:
        container.remove(force=True, v=True)


def refusal(body: Callable[[], object]) -> ContainerError:
    with pytest.raises(ContainerError) as caught:
        body()
    error = caught.value
    assert error.fix
    assert error.cause != "unknown"
    return error


# --- connect -------------------------------------------------------------------------------


def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    error = refusal(lambda: connect({"DOCKER_HOST": f"unix://{tmp_path}/no.sock"}))
    assert (error.cause, error.phase) == ("not running", "connect")
    assert str(tmp_path) in error.message


def test_a_daemon_that_was_killed(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(gpus=False, base=False)
    daemon.kill()
    assert daemon.socket.exists()
    assert refusal(lambda: connect({"DOCKER_HOST": daemon.url})).cause == "refused"


def test_a_port_that_nobody_listens_at() -> None:
    assert refusal(lambda: connect({"DOCKER_HOST": "tcp://127.0.0.1:9"})).cause == "refused"


def test_a_host_that_does_not_exist() -> None:
    error = refusal(lambda: connect({"DOCKER_HOST": "tcp://no-such-host.invalid:2375"}))
    assert error.cause == "unknown host"


@pytest.mark.parametrize("address", ["foo://x", "tcp://x"])
def test_an_address_that_is_none(address: str) -> None:
    assert refusal(lambda: connect({"DOCKER_HOST": address})).cause == "bad address"


def test_a_context_that_does_not_exist_is_not_another_daemon() -> None:
    error = refusal(lambda: connect({"DOCKER_CONTEXT": "no-such-context"}))
    assert error.cause == "no context"


def test_a_user_who_may_not_use_the_socket(plain_daemon: Daemon) -> None:
    plain_daemon.socket.chmod(0o600)
    # Its folders let everybody in, or nobody would get as far as the socket.
    for folder in (plain_daemon.folder, plain_daemon.folder.parent):
        folder.chmod(0o755)
    text = (
        "import os, docker\n"
        "os.setuid(65534)\n"
        f"try: docker.DockerClient(base_url={plain_daemon.url!r}, version='auto')\n"
        "except docker.errors.DockerException as error: print(error)\n"
    )
    words = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True).stdout
    error = translate(RuntimeError(words), "connect", url=plain_daemon.url)
    assert error.cause == "no permission"
    assert "usermod -aG docker" in error.fix


def test_a_daemon_that_hangs(docker_daemon: Daemon) -> None:
    with docker_daemon.paused():
        began = time.monotonic()
        error = refusal(lambda: connect({"DOCKER_HOST": docker_daemon.url}, 1.0))
    assert error.cause == "no answer"
    assert time.monotonic() - began < 8


def test_a_client_that_is_too_new(docker_daemon: Daemon) -> None:
    def call() -> None:
        with translated("connect", url=docker_daemon.url):
            docker.DockerClient(base_url=docker_daemon.url, version="1.99").ping()

    assert refusal(call).cause == "wrong version"


def test_ssh_without_its_package() -> None:
    if "paramiko" in sys.modules:
        pytest.skip("paramiko is installed")
    assert refusal(lambda: connect({"DOCKER_HOST": "ssh://me@far"})).cause == "no ssh"


# --- pull ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("repository", "tag", "cause"),
    [
        (WHOLE, "9", "no tag"),
        (UNAUTHORIZED, "1", "not logged in"),
        (FORBIDDEN, "1", "no access"),
        (UNKNOWN, "1", "no repository"),
        (RATE_LIMITED, "1", "rate limit"),
        (BROKEN, "1", "registry failed"),
        (OTHER_ARCHITECTURE, "1", "wrong platform"),
    ],
)
def test_a_registry_that_refuses(
    docker_daemon: Daemon, registry: Registry, repository: str, tag: str, cause: str
) -> None:
    name = f"{registry.repository(repository)}:{tag}"
    with reached(docker_daemon) as daemon:
        error = refusal(lambda: ensure(daemon, name))
    assert (error.cause, error.phase) == (cause, "pull")
    assert name in error.message or repository in error.message


def test_a_registry_that_is_not_there(docker_daemon: Daemon) -> None:
    with reached(docker_daemon) as daemon:
        error = refusal(lambda: ensure(daemon, "127.0.0.1:9/x/y:1"))
    assert error.cause == "no registry"


def test_a_name_that_is_none(docker_daemon: Daemon) -> None:
    with reached(docker_daemon) as daemon:
        assert refusal(lambda: ensure(daemon, "Upper/Case:1")).cause == "bad name"


def test_a_disk_that_is_full(make_daemon: MakeDaemon, registry: Registry) -> None:
    small = make_daemon(gpus=False, base=False, disk_bytes=30 << 20)
    with reached(small) as daemon:
        name = f"{registry.repository(WHOLE)}:1"
        error = refusal(lambda: ensure(daemon, name))
    assert (error.cause, error.phase) == ("disk full", "pull")
    assert str(small.folder / "data") in error.fix


# --- create --------------------------------------------------------------------------------


def test_an_image_that_is_not_there(docker_daemon: Daemon) -> None:
    error = refusal(lambda: run(docker_daemon, "x", image="no/such:1"))
    assert (error.cause, error.fix) == ("no image", "docker pull no/such:1")


def test_a_runtime_that_is_not_there(docker_daemon: Daemon) -> None:
    assert refusal(lambda: run(docker_daemon, "x", runtime="nvidia")).cause == "no runtime"


def test_a_bind_of_nothing(docker_daemon: Daemon) -> None:
    mount = Mount("/m", "/no/such/model", type="bind")
    error = refusal(lambda: run(docker_daemon, "x", mounts=[mount]))
    assert error.cause == "no bind source"
    assert error.message.startswith("there is no /no/such/model on ")


def test_a_name_that_is_taken(docker_daemon: Daemon) -> None:
    docker_daemon.client().containers.create(images.BASE, ["x"], name="taken")
    error = refusal(lambda: run(docker_daemon, "x", name="taken"))
    assert error.cause == "name in use"


def test_a_setting_that_docker_does_not_take(docker_daemon: Daemon) -> None:
    assert refusal(lambda: run(docker_daemon, "x", shm_size="8x")).cause == "bad setting"
    assert refusal(lambda: run(docker_daemon, "x", working_dir="here")).cause == "bad setting"


def test_a_root_that_is_read_only(docker_daemon: Daemon) -> None:
    container = docker_daemon.client().containers.create(images.BASE, ["x"], read_only=True)

    def put() -> None:
        with translated("create", image=images.BASE):
            container.put_archive("/", b"\0" * 1024)

    assert refusal(put).cause == "read-only"


# --- start ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "cause"),
    [("nope", "no command"), ("/no/python", "no command"), ("/etc", "not executable")],
)
def test_a_command_that_does_not_run(docker_daemon: Daemon, command: str, cause: str) -> None:
    error = refusal(lambda: run(docker_daemon, command))
    assert (error.cause, error.phase) == (cause, "start")
    assert command in error.message


def test_a_network_that_is_not_there(docker_daemon: Daemon) -> None:
    error = refusal(lambda: run(docker_daemon, "x", network_mode="nonet"))
    assert error.cause == "no network"


def test_a_user_that_is_not_there(docker_daemon: Daemon) -> None:
    assert refusal(lambda: run(docker_daemon, "python3", user="who")).cause == "no user"


def test_a_device_that_is_not_there(docker_daemon: Daemon) -> None:
    devices = ["/dev/nvidia77:/dev/nvidia77"]
    error = refusal(lambda: run(docker_daemon, "python3", devices=devices))
    assert (error.cause, error.message.endswith("/dev/nvidia77")) == ("no device", True)


def test_a_daemon_without_the_toolkit(plain_daemon: Daemon) -> None:
    error = refusal(lambda: run(plain_daemon, "python3", device_requests=[GPU]))
    assert (error.cause, error.phase) == ("no toolkit", "start")
    assert "nvidia-ctk runtime configure" in error.fix


def test_a_toolkit_that_was_removed(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    daemon.remove_hook()
    error = refusal(lambda: run(daemon, "python3", device_requests=[GPU]))
    assert error.cause == "toolkit removed"


def test_cdi_where_there_is_none(docker_daemon: Daemon) -> None:
    cdi = DeviceRequest(driver="cdi", device_ids=["nvidia.com/gpu=all"])
    assert refusal(lambda: run(docker_daemon, "python3", device_requests=[cdi])).cause == "no cdi"


def test_a_gpu_that_is_not_there(docker_daemon: Daemon) -> None:
    [ways] = gpu_requests({}, (7,))
    error = refusal(lambda: run(docker_daemon, "python3", device_requests=ways))
    assert error.cause == "no such gpu"
    assert error.message.endswith("no GPU 7")


def test_an_image_for_a_later_cuda(docker_daemon: Daemon) -> None:
    docker_daemon.driver.set(cuda="12.4")
    env = {"NVIDIA_REQUIRE_CUDA": "cuda>=12.9"}
    name = images.image(docker_daemon.client(), "llem/cuda:12.9", env=env)
    error = refusal(lambda: run(docker_daemon, "python3", image=name, device_requests=[GPU]))
    assert error.cause == "driver too old"
    assert error.message.startswith("llem/cuda:12.9 needs cuda>=12.9")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("initialization error: nvml error: driver not loaded", "driver not loaded"),
        ("initialization error: driver error: failed to process request", "driver not loaded"),
        (
            (
                "initialization error: load library failed: libnvidia-ml.so.1: cannot open shared"
                " object file: no such file or directory"
            ),
            "no driver",
        ),
        ("initialization error: nvml error: driver/library version mismatch", "driver mismatch"),
        ("mount error: no space", "toolkit failed"),
    ],
)
def test_a_toolkit_that_fails(docker_daemon: Daemon, text: str, cause: str) -> None:
    docker_daemon.hook_fails(text)
    error = refusal(lambda: run(docker_daemon, "python3", device_requests=[GPU]))
    assert (error.cause, error.phase) == (cause, "start")


# --- run -----------------------------------------------------------------------------------


def test_a_container_that_does_not_run_any_more(docker_daemon: Daemon) -> None:
    container = docker_daemon.client().containers.create(images.BASE, ["x"])

    def call() -> None:
        with translated("run", image=images.BASE):
            container.exec_run("ls")

    assert refusal(call).cause == "ended"
    container.remove()
    assert refusal(call).cause == "removed"


def test_memory_that_is_full(docker_daemon: Daemon) -> None:
    text = "data = bytearray(10**9)"
    status, oom = run(docker_daemon, "python3", "-c", text, mem_limit="64m", memswap_limit="64m")
    ending = why_ended(status, oom)
    assert ending is not None
    assert (status, ending.cause) == (137, "out of memory")


def test_memory_that_is_full_in_a_child(docker_daemon: Daemon) -> None:
    text = (
        "import subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-c', 'data = bytearray(10**9)'])\n"
        "sys.exit(9 if done.returncode == -9 else 0)"
    )
    status, oom = run(docker_daemon, "python3", "-c", text, mem_limit="64m", memswap_limit="64m")
    ending = why_ended(status, oom)
    assert ending is not None
    assert (status, ending.cause) == (9, "child out of memory")


def test_shared_memory_that_is_full(docker_daemon: Daemon) -> None:
    text = (
        "import mmap\n"
        "file = open('/dev/shm/x', 'w+b')\n"
        "file.truncate(4 << 20)\n"
        "shared = mmap.mmap(file.fileno(), 0)\n"
        "for at in range(0, 4 << 20, 4096): shared[at] = 1"
    )
    status, oom = run(docker_daemon, "python3", "-c", text, shm_size="1m")
    ending = why_ended(status, oom, shm_size="1m")
    assert ending is not None
    assert (status, ending.cause) == (135, "shared memory")


def test_a_container_that_somebody_kills(docker_daemon: Daemon) -> None:
    container = docker_daemon.client().containers.create(
        images.BASE, entrypoint=["python3", "-c", "import time; time.sleep(60)"], init=True
    )
    container.start()
    container.kill()
    status = container.wait(timeout=30)["StatusCode"]
    ending = why_ended(status, oom_killed=False)
    assert ending is not None
    assert (status, ending.cause) == (137, "killed")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_daemon_that_ends_meanwhile(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(gpus=False)
    with reached(daemon) as found:
        daemon.kill()

        def call() -> None:
            with translated("run", url=found.url):
                found.client.containers.list()

        assert refusal(call).cause == "daemon lost"
    # docker-py leaves a socket open that nobody listened to: that must be no other test's affair.
    gc.collect()
