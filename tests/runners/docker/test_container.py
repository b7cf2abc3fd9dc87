"""Workers in containers of images that have nothing of ours, with a real daemon."""

from __future__ import annotations

import dataclasses
import gc
import json
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import pytest_llem
from pytest_llem.errors import ContainerError, EngineMissing, WorkerError
from pytest_llem.runners.conversation import Listener, Progress, converse
from pytest_llem.runners.docker.container import ContainerTransport
from pytest_llem.runners.docker.runner import DockerRunner
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.fixtures import MakeDaemon
from tests.rig.docker.images import BASE, image, shell_image
from tests.runners.docker.boxes import (
    Box,
    containers,
    eventually,
    processes,
    runner_of,
    volumes,
)

pytestmark = pytest.mark.docker

MODELS = Path(pytest_llem.__file__).parent / "cli" / "templates" / "models"


@pytest.fixture
def runner(docker_daemon: Daemon) -> Iterator[DockerRunner]:
    made = runner_of(docker_daemon)
    yield made
    made.close()


def start(runner: DockerRunner, box: Box, **fields: Any) -> ContainerTransport:
    transport = runner.start(box.launch(**{"environment": box.marked, **fields}))
    assert isinstance(transport, ContainerTransport)
    return transport


def loading(transport: ContainerTransport, box: Box, **options: object) -> None:
    """Have a worker load, and wait until it does."""
    transport.send(box.request(options))
    output = b""
    while b'"load"' not in output:
        chunk = transport.receive(60)
        assert chunk, transport.log_tail(20)
        output += chunk
    time.sleep(0.5)


def test_a_measurement_in_a_stock_image(
    runner: DockerRunner, box: Box, docker_daemon: Daemon
) -> None:
    transport = start(runner, box)
    asked = box.experiment()
    measurement = converse(transport, asked, "d", 1)
    assert measurement.tokens["requests"] == asked.prompts.count
    assert measurement.metrics["energy_j"].value is not None
    assert transport.wait(20.0) == 0
    assert transport.about["image"] == BASE
    assert transport.about["image_id"].startswith("sha256:")
    assert transport.about["network"] == "none"
    assert transport.about["remote"] is False
    assert containers(docker_daemon) == []


def test_one_daemon_serves_one_session_after_another(
    runner: DockerRunner, box: Box, docker_daemon: Daemon
) -> None:
    first = converse(start(runner, box), box.experiment(), "d", 1)
    second = converse(start(runner, box), box.experiment(), "d", 2)
    assert (first.cycle, second.cycle) == (1, 2)
    assert containers(docker_daemon) == []


def test_a_user_whom_the_image_does_not_know(runner: DockerRunner, box: Box) -> None:
    launch = box.launch(settings={"user": "54321:54321"}, environment=box.marked)
    box.folder.chmod(0o755)
    found = converse(runner.start(launch), box.experiment(options={"hang_in": ""}), "d", 1)
    assert found.tokens["requests"] == 2
    transport = runner.start(launch)
    assert isinstance(transport, ContainerTransport)
    loading(transport, box, hang_in="load")
    uids = [psutil.Process(pid).uids().real for pid in processes(box.token)]
    transport.stop(0.0)
    assert uids == [54321, 54321]


def test_what_an_experiment_sets_is_seen_by_the_worker_and_by_nobody_else(
    runner: DockerRunner, box: Box
) -> None:
    word = secrets.token_hex(8)
    transport = start(runner, box, environment={"LLEM_FAKE_WORD": word})
    transport.secrets = {"HF_TOKEN": f"hf_{word}"}
    inspected = runner.daemon.api.inspect_container(transport.id)
    disk = json.dumps(inspected) + json.dumps(runner.daemon.api.top(transport.id))
    measurement = converse(transport, box.experiment(), "d", 1)
    assert measurement.subject["engine"]["word"] == word
    assert word not in disk
    assert word not in Path(box.folder / "log").read_text()
    assert f"hf_{word}" not in json.dumps(dataclasses.asdict(measurement), default=str)


def test_the_log_is_here_while_the_worker_runs(runner: DockerRunner, box: Box) -> None:
    transport = start(runner, box)
    transport.send(box.request({"print_in": "load", "hang_in": "run"}))
    deadline = time.monotonic() + 60
    while transport.log_size() < len("engine chatter\n") and time.monotonic() < deadline:
        transport.receive(0.1)
    assert "engine chatter" in transport.log_tail(5)
    transport.stop(0.0)


def test_the_listener_hears_every_phase(runner: DockerRunner, box: Box) -> None:
    class Phases(Listener):
        def __init__(self) -> None:
            self.seen: dict[str, None] = {}

        def progress(self, progress: Progress) -> None:
            self.seen[progress.phase] = None

    listener = Phases()
    converse(start(runner, box), box.experiment(), "d", 1, listener)
    assert [phase for phase in listener.seen if phase != "start"] == ["load", "measure", "close"]


# --- ends ----------------------------------------------------------------------------------


def test_stop_ends_a_worker_that_obeys_politely(
    runner: DockerRunner, box: Box, docker_daemon: Daemon
) -> None:
    transport = start(runner, box)
    loading(transport, box, hang_in="load", grandchild=True)
    assert len(processes(box.token)) == 3
    transport.stop(20.0)
    assert transport.wait(20.0) == -signal.SIGTERM
    assert processes(box.token) == []
    assert containers(docker_daemon) == []
    assert transport.why_ended() is None
    transport.stop(20.0)


@pytest.mark.parametrize("options", [{"ignore_term": True}, {"gil_thread": True}], ids=str)
def test_stop_ends_a_worker_that_does_not(
    runner: DockerRunner, box: Box, docker_daemon: Daemon, options: dict[str, object]
) -> None:
    transport = start(runner, box)
    loading(transport, box, hang_in="load", grandchild=True, **options)
    assert len(processes(box.token)) == 3
    transport.stop(0.3)
    assert transport.wait(20.0) is not None
    assert processes(box.token) == []
    assert containers(docker_daemon) == []


@pytest.mark.parametrize(
    ("way", "expected"), [("exit", "exit status 3"), ("segv", "SIGSEGV"), ("kill", "killed")]
)
def test_how_a_worker_ended_is_told(
    runner: DockerRunner, box: Box, docker_daemon: Daemon, way: str, expected: str
) -> None:
    asked = box.experiment(options={f"{way}_in": "run"})
    with pytest.raises(WorkerError, match=expected):
        converse(start(runner, box), asked, "d", 1)
    assert containers(docker_daemon) == []


def test_a_worker_without_memory_is_told_from_one_that_was_killed(
    runner: DockerRunner, box: Box, docker_daemon: Daemon
) -> None:
    transport = start(runner, box)
    update = runner.daemon.api.update_container
    update(transport.id, mem_limit="48m", memswap_limit="48m")
    asked = box.experiment(options={"blob": 200_000_000})
    with pytest.raises(WorkerError, match="no memory left") as caught:
        converse(transport, asked, "d", 1)
    assert "memory" in caught.value.fix
    assert transport.oom
    assert containers(docker_daemon) == []


def test_the_watch_itself_is_killed(runner: DockerRunner, box: Box, docker_daemon: Daemon) -> None:
    transport = start(runner, box)
    loading(transport, box, hang_in="load", grandchild=True)
    every = processes(box.token)
    (watch,) = [pid for pid in every if psutil.Process(pid).ppid() not in every]
    psutil.Process(watch).kill()
    assert transport.wait(20.0) == -signal.SIGKILL
    assert processes(box.token) == []
    transport.stop(0.0)
    assert containers(docker_daemon) == []


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_the_daemon_ends_while_a_worker_runs(make_daemon: MakeDaemon, box: Box) -> None:
    daemon = make_daemon(gpus=False)
    runner = runner_of(daemon)
    transport = start(runner, box)
    loading(transport, box, hang_in="load", grandchild=True)
    assert len(processes(box.token)) == 3
    daemon.kill()
    assert transport.receive(20.0) == b""
    assert transport.wait(5.0) is None
    why = transport.why_ended()
    assert why is not None
    assert "connection to the Docker daemon was lost" in why[0]
    transport.stop(0.0)
    left, _ = eventually(lambda: processes(box.token))
    assert left == []
    runner.close()
    # docker-py leaves a socket open that nobody listened to: that must be no other test's affair.
    gc.collect()


# --- what an image lacks ---------------------------------------------------------------------


def test_an_image_without_python(runner: DockerRunner, box: Box, docker_daemon: Daemon) -> None:
    name = shell_image(docker_daemon.client())
    with pytest.raises(WorkerError, match=f"image {name} lacks python3") as caught:
        converse(start(runner, box, image=name), box.experiment(), "d", 1)
    assert "Python 3.10" in caught.value.fix
    assert containers(docker_daemon) == []


def test_an_image_whose_python_is_too_old(
    runner: DockerRunner, box: Box, docker_daemon: Daemon
) -> None:
    # The first thing that this Python does is to forget how new it is.
    forgetful = "import sys\nsys.version_info = (3, 8, 10, 'final', 0)\n"
    name = image(
        docker_daemon.client(),
        "llem/old:1",
        env={"PYTHONPATH": "/opt/old"},
        files={"/opt/old/sitecustomize.py": forgetful},
    )
    wanted = "Python 3.8 where the worker runs, 3.10 or newer is needed"
    with pytest.raises(WorkerError, match=wanted) as caught:
        converse(start(runner, box, image=name), box.experiment(), "d", 1)
    assert caught.value.fix == "use an image, or an environment, with Python 3.10 or newer"


def test_an_image_without_the_engine(runner: DockerRunner, box: Box, docker_daemon: Daemon) -> None:
    asked = box.experiment(backend="pytorch", meters=("estimate",))
    with pytest.raises(EngineMissing) as caught:
        converse(start(runner, box, backend="pytorch", experiment=asked), asked, "d", 1)
    assert "torch" in caught.value.message
    assert f"in image {BASE}" in caught.value.message
    assert caught.value.fix == ("name an image that has it: --llem-runner-pytorch=docker:IMAGE")


def test_an_engine_is_seen_by_its_metadata(
    runner: DockerRunner, box: Box, docker_daemon: Daemon
) -> None:
    found = {"torch": "2.9.0", "transformers": "5.0.0"}
    name = image(docker_daemon.client(), "llem/stub:1", distributions=found)
    asked = box.experiment(backend="pytorch", meters=("estimate",))
    transport = start(runner, box, image=name, backend="pytorch", experiment=asked)
    output = b""
    while b"\n" not in output:
        output += transport.receive(60) or b""
    hello = json.loads(output.splitlines()[0])
    transport.stop(0.0)
    assert hello["versions"] == found
    assert "nvidia" not in hello


# --- GPUs ------------------------------------------------------------------------------------


def test_a_worker_gets_its_leased_gpus_and_says_what_it_sees(
    runner: DockerRunner, box: Box, docker_daemon: Daemon
) -> None:
    docker_daemon.driver.set(gpus=3, cuda="12.4", version="550.54.15")
    docker_daemon.driver.use_memory(5 * 2**30, gpu=2)
    asked = box.experiment(device="cuda")
    transport = start(runner, box, experiment=asked, gpus=(2,))
    output = b""
    while b"\n" not in output:
        output += transport.receive(60) or b""
    transport.stop(0.0)
    nvidia = json.loads(output.splitlines()[0])["nvidia"]
    assert (nvidia["driver"], nvidia["cuda"]) == ("550.54.15", "12.4")
    (gpu,) = nvidia["gpus"]
    assert gpu["uuid"] == docker_daemon.driver.uuids[2]
    assert gpu["memory_used_bytes"] == 5 * 2**30
    assert transport.about["gpus"] == [2]


def test_a_worker_on_the_cpu_gets_no_gpu(
    runner: DockerRunner, box: Box, docker_daemon: Daemon
) -> None:
    name = image(docker_daemon.client(), "llem/all:1", env={"NVIDIA_VISIBLE_DEVICES": "all"})
    transport = start(runner, box, image=name, gpus=(0,))
    host = runner.daemon.api.inspect_container(transport.id)
    transport.stop(0.0)
    assert not host["HostConfig"]["DeviceRequests"]
    assert "NVIDIA_VISIBLE_DEVICES=void" in host["Config"]["Env"]


def test_a_start_that_fails_leaves_nothing(
    runner: DockerRunner, box: Box, docker_daemon: Daemon
) -> None:
    asked = box.experiment(device="cuda")
    with pytest.raises(ContainerError):
        start(runner, box, experiment=asked, gpus=(7,))
    with pytest.raises(ContainerError):
        start(runner, box, image="llem/none:1")
    with pytest.raises(ContainerError):
        start(runner, box, settings={"volumes": ("/no/such/folder:/x",)})
    assert containers(docker_daemon) == []


def test_a_container_needs_an_image(runner: DockerRunner, box: Box) -> None:
    with pytest.raises(ContainerError, match="no image") as caught:
        runner.start(box.launch(image=None))  # type: ignore[arg-type]
    assert "--llem-runner-fake=docker:IMAGE" in caught.value.fix


def test_anonymous_volumes_go_with_their_container(
    runner: DockerRunner, box: Box, docker_daemon: Daemon
) -> None:
    name = "llem/volume:1"
    client = docker_daemon.client()
    made = client.containers.create(BASE, ["true"])
    made.commit("llem/volume", "1", changes="VOLUME /some/where")
    made.remove()
    transport = start(runner, box, image=name)
    assert len(volumes(docker_daemon)) == 1
    converse(transport, box.experiment(), "d", 1)
    left, _ = eventually(lambda: volumes(docker_daemon))
    assert left == []


# --- a real engine -------------------------------------------------------------------------------


@pytest.mark.engine
def test_torch_runs_for_an_unknown_user_who_can_write_nowhere(
    torch_daemon: Daemon, box: Box
) -> None:
    box.folder.chmod(0o755)
    shutil.copytree(MODELS / "tiny-llama", box.folder / "model")
    asked = box.experiment(backend="pytorch", meters=("estimate",), dtype="float32")
    launch = box.launch(
        "llem/torch:1", backend="pytorch", experiment=asked, settings={"user": "54321:54321"}
    )
    runner = runner_of(torch_daemon)
    measurement = converse(runner.start(launch), asked, "d", 1)
    assert measurement.tokens["output"] == asked.prompts.count * asked.output_tokens
    runner.close()
