"""Containers that are kept behind a network: plain TCP and TLS, and a wire that is cut."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from pytest_llem.errors import WorkerError
from pytest_llem.runners.conversation import Worker, converse
from pytest_llem.runners.docker.execed import ExecTransport
from tests.rig.docker.daemon import Daemon
from tests.runners.docker.boxes import Box, containers, eventually, processes
from tests.runners.docker.test_remote import PATIENCE_S, runner_over
from tests.runners.docker.wire import Wire

pytestmark = pytest.mark.docker

PERSISTENT = {"strategy": "persistent"}


def test_measurements_in_a_kept_container(
    remote_daemon: Daemon, box: Box, wired: tuple[Wire, Mapping[str, str]]
) -> None:
    wire, environ = wired
    runner = runner_over(wire, **environ)
    transport = runner.start(box.launch(settings=PERSISTENT, environment=box.marked))
    assert isinstance(transport, ExecTransport)
    worker = Worker(transport)
    asked = box.experiment(options={"blob": 300_000})
    for cycle in (1, 2):
        assert worker.measure(asked, "d", cycle, keep=True).cycle == cycle
        assert transport.unwell() == ""
    worker.close()
    assert transport.wait(20.0) == 0
    assert processes(box.token) == []
    assert len(containers(remote_daemon)) == 1
    runner.close()
    assert containers(remote_daemon) == []


def test_a_short_break_ends_nothing(remote_daemon: Daemon, box: Box) -> None:
    assert remote_daemon.port is not None
    with Wire(remote_daemon.port) as wire:
        runner = runner_over(wire)
        transport = runner.start(box.launch(settings=PERSISTENT))
        worker = Worker(transport)
        worker.measure(box.experiment(), "d", 1, keep=True)
        wire.cut()
        time.sleep(PATIENCE_S / 3)
        wire.mend()
        time.sleep(PATIENCE_S)
        worker.measure(box.experiment(), "d", 2, keep=True)
        worker.close()
        runner.close()
    assert containers(remote_daemon) == []


def test_a_wire_that_is_cut_for_good_ends_everything(remote_daemon: Daemon, box: Box) -> None:
    assert remote_daemon.port is not None
    with Wire(remote_daemon.port) as wire:
        runner = runner_over(wire)
        transport = runner.start(box.launch(settings=PERSISTENT, environment=box.marked))
        transport.send(box.request({"hang_in": "load", "grandchild": True}))
        assert transport.receive(60)
        wire.cut()
        left, took_s = eventually(lambda: [*processes(box.token), *containers(remote_daemon)], 60.0)
        assert left == []
        assert took_s > PATIENCE_S / 2
        wire.mend()
        with pytest.raises(WorkerError) as error:
            converse(transport, box.experiment(), "d", 1)
        assert runner.mend(error.value)
        again = runner.start(box.launch(settings=PERSISTENT))
        assert converse(again, box.experiment(), "d", 1).cycle == 1
        assert isinstance(again, ExecTransport)
        assert (again.about["attempts"], len(again.about["restarts"])) == (2, 1)
        runner.close()
    assert containers(remote_daemon) == []
