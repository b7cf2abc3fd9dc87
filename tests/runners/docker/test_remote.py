"""Workers behind a network: another host's daemon, over plain TCP and TLS, and cut wires."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import pytest

from pytest_llem.runners.conversation import converse
from pytest_llem.runners.docker import container, order
from pytest_llem.runners.docker.attached import HEARTBEAT_S
from pytest_llem.runners.docker.container import ContainerTransport
from pytest_llem.runners.docker.runner import DockerRunner
from pytest_llem.runners.docker.settings import Settings
from tests.rig.docker.daemon import Daemon
from tests.runners.docker.boxes import Box, containers, eventually, processes
from tests.runners.docker.wire import Wire

pytestmark = pytest.mark.docker

BEAT_S = 0.5
PATIENCE_S = 6 * BEAT_S


def runner_over(wire: Wire, **environ: str) -> DockerRunner:
    return DockerRunner({**os.environ, "DOCKER_HOST": wire.url, **environ}, heartbeat_s=BEAT_S)


def begun(runner: DockerRunner, box: Box, **options: object) -> ContainerTransport:
    """A worker that is loading."""
    transport = runner.start(box.launch(environment=box.marked))
    assert isinstance(transport, ContainerTransport)
    transport.send(box.request({"hang_in": "load", **options}))
    output = b""
    while b'"load"' not in output:
        chunk = transport.receive(60)
        assert chunk, transport.log_tail(20)
        output += chunk
    return transport


def test_in_earnest_it_is_half_a_minute() -> None:
    assert 6 * HEARTBEAT_S == 30.0


def test_a_measurement(
    remote_daemon: Daemon, box: Box, wired: tuple[Wire, Mapping[str, str]]
) -> None:
    wire, environ = wired
    runner = runner_over(wire, **environ)
    asked = box.experiment(options={"blob": 300_000})
    transport = runner.start(box.launch())
    measurement = converse(transport, asked, "d", 1)
    assert measurement.tokens["requests"] == 2
    assert transport.wait(20.0) == 0
    assert isinstance(transport, ContainerTransport)
    assert transport.about["remote"] is True
    # Half of a connection is closed for that.
    begun(runner, box).stop(20.0)
    runner.close()
    assert containers(remote_daemon) == []


def test_a_short_break_ends_nothing(remote_daemon: Daemon, box: Box) -> None:
    assert remote_daemon.port is not None
    with Wire(remote_daemon.port) as wire:
        runner = runner_over(wire)
        transport = begun(runner, box)
        wire.cut()
        time.sleep(PATIENCE_S / 3)
        wire.mend()
        time.sleep(PATIENCE_S)
        assert transport.receive(0.1) is None
        assert len(processes(box.token)) == 2
        transport.stop(20.0)
        assert transport.wait(20.0) == -15
        runner.close()
    assert containers(remote_daemon) == []


@pytest.mark.parametrize("options", [{}, {"ignore_term": True, "grandchild": True}], ids=str)
def test_a_wire_that_is_cut_for_good_ends_everything(
    remote_daemon: Daemon, box: Box, options: dict[str, object]
) -> None:
    assert remote_daemon.port is not None
    with Wire(remote_daemon.port) as wire:
        runner = runner_over(wire)
        transport = begun(runner, box, **options)
        wire.cut()
        left, took_s = eventually(lambda: [*processes(box.token), *containers(remote_daemon)], 60.0)
        assert left == []
        assert took_s > PATIENCE_S / 2
        # Here nobody is told either, so it asks.
        output: bytes | None = None
        deadline = time.monotonic() + 60
        while output != b"" and time.monotonic() < deadline:
            output = transport.receive(0.5)
        assert output == b""
        why = transport.why_ended()
        assert why is not None
        assert "connection to the Docker daemon was lost" in why[0]
        wire.mend()
        transport.stop(0.0)
        runner.close()


def test_a_wire_that_is_cut_before_the_worker_is_whole(remote_daemon: Daemon, box: Box) -> None:
    assert remote_daemon.port is not None
    with Wire(remote_daemon.port) as wire:
        runner = runner_over(wire)
        daemon = runner.daemon
        launch = box.launch(environment=box.marked)
        runner.start(launch).stop(0.0)
        around = runner.surroundings(runner.provision(launch))
        wanted = order.create(launch, Settings(ulimits={}), around)
        half = b'{"archive_bytes": 1000000, "backend": "fake", "role": "engine"}\nhalf of it'
        transport = container.start(daemon, wanted, launch.log, half, {}, 60.0)
        assert len(containers(remote_daemon)) == 1
        wire.cut()
        left, _ = eventually(lambda: containers(remote_daemon), 60.0)
        assert left == []
        wire.mend()
        transport.stop(0.0)
        runner.close()


def test_gpus_of_another_host_are_leased_by_what_a_container_sees(
    remote_daemon: Daemon, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLEM_LOCK_DIR", str(box.folder / "locks"))
    remote_daemon.driver.set(gpus=2)
    runner = DockerRunner({**os.environ, "DOCKER_HOST": remote_daemon.url})
    launch, on_gpu = box.launch(), box.experiment(device="cuda")
    devices = runner.devices(launch)
    assert devices is not None
    first, second = devices.lease(on_gpu), devices.lease(on_gpu)
    assert [gpu.uuid for gpu in (*first.gpus, *second.gpus)] == list(remote_daemon.driver.uuids)
    assert (first.numbers, second.numbers) == ((0,), (1,))
    first.release()
    second.release()
    # The CPU needs none, and a host without any leaves the engine the last word.
    assert devices.lease(box.experiment()).numbers == ()
    runner.close()
    remote_daemon.driver.set(gpus=0)
    alone = runner.devices(launch)
    assert alone is not None
    assert alone is not devices
    runner.close()
    assert containers(remote_daemon) == []


def test_gpus_of_this_host_are_leased_here(docker_daemon: Daemon, box: Box) -> None:
    runner = DockerRunner({**os.environ, "DOCKER_HOST": docker_daemon.url})
    assert runner.devices(box.launch()) is None
    runner.close()
