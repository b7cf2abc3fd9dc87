"""Containers that are kept for a backend, with a real daemon and a simulated GPU."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llem.errors import ContainerError, WorkerError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Launch
from pytest_llem.gpus import Found, Gpu
from pytest_llem.records import Measurement
from pytest_llem.runners.beside import HostMeters
from pytest_llem.runners.conversation import Listener, Progress
from pytest_llem.runners.devices import Devices
from pytest_llem.runners.docker.runner import DockerRunner
from pytest_llem.runners.workers import Task, Workers
from tests.builders import DIGEST, experiment
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.images import BASE

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

THIRD_PARTY = Path(__file__).parents[2] / "third_party"
GIB = 2**30
TOTAL = 80 * GIB
NOW = Listener()

pytestmark = pytest.mark.docker


class During(Listener):
    """Does something once, when a phase is reached."""

    def __init__(self, phase: str, act: Callable[[], object]) -> None:
        self._phase = phase
        self._act = act
        self.done = False

    def progress(self, progress: Progress) -> None:
        if progress.phase == self._phase and not self.done:
            self.done = True
            self._act()


class Session:
    """The workers of a pytest session that keeps containers."""

    def __init__(self, daemon: Daemon, folder: Path, **settings: Any) -> None:
        self.daemon = daemon
        self.client = daemon.client()
        self.folder = folder
        self.settings = {"strategy": "persistent", **settings}
        board = Gpu(index=0, uuid="GPU-0", name="A", memory_bytes=TOTAL, power_limit_w=None)
        self.runner = DockerRunner({"DOCKER_HOST": daemon.url}, kept_s=4.0)
        self.workers = Workers(
            HostMeters(folder / "meters"),
            Devices(lambda _: Found(gpus=(board,)), folder / "locks"),
            _runners={"docker": self.runner},
        )
        self.count = 0

    def measure(
        self,
        options: Mapping[str, Any] | None = None,
        listener: Listener = NOW,
        *,
        backend: str = "fake",
        digest: str = DIGEST,
        **fields: Any,
    ) -> Measurement:
        self.count += 1
        given: Experiment = experiment(
            backend=backend,
            options=dict(options or {}),
            weights="random",
            **{"device": "cpu", "idle": "none", "warmup": "none", "meters": ("fixed",)} | fields,
        )
        task = Task(
            experiment=given,
            digest=digest,
            cycle=1,
            mode="docker",
            key=(backend, str(options), str(fields)),
            launch=Launch(
                backend=backend,
                log=self.folder / f"{self.count}.log",
                image=BASE,
                settings=self.settings,
            ),
            keep=True,
        )
        return self.workers.measure(task, listener)

    def on_gpu(self, listener: Listener = NOW, **options: Any) -> Measurement:
        wanted = {"computes_on": "cuda", **options}
        return self.measure(wanted, listener, device="cuda", power_trace_hz="none")

    @property
    def place(self) -> Mapping[str, Any]:
        return self.workers.place

    @property
    def containers(self) -> list[Container]:
        return list(self.client.containers.list(all=True, ignore_removed=True))

    @property
    def processes(self) -> list[str]:
        """Commands of all processes in all containers, but the first ones and attendants."""
        found = []
        for container in self.containers:
            rows = container.top()["Processes"]
            found += [row[-1] for row in rows if " attend" not in row[-1][-40:]]
        return found

    def close(self) -> None:
        self.workers.close()


@pytest.fixture
def open_session(
    docker_daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Session]]:
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    with contextlib.ExitStack() as opened:

        def make(**settings: Any) -> Session:
            session = Session(docker_daemon, tmp_path, **settings)
            opened.callback(session.close)
            return session

        yield make


def test_an_engine_is_kept_in_a_container(open_session: Callable[..., Session]) -> None:
    session = open_session()
    first, second = session.measure(), session.measure()
    assert [window.phase for window in first.windows] == ["load", "measure"]
    assert [window.phase for window in second.windows] == ["measure"]
    (container,) = session.containers
    assert session.place["container"] == str(container.id)[:12]
    assert session.place["strategy"] == "persistent"
    assert (session.place["attempts"], session.place["restarts"]) == (1, [])
    session.close()
    assert session.containers == []
