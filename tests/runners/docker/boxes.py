"""Workers in containers of the daemons of tests."""

from __future__ import annotations

import dataclasses
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Launch
from pytest_llem.runners.docker.runner import DockerRunner
from tests.builders import experiment, request
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.images import BASE

__all__ = ["Box", "containers", "eventually", "processes", "runner_of", "volumes"]


def runner_of(daemon: Daemon, heartbeat_s: float = 5.0) -> DockerRunner:
    """A runner whose daemon is this one."""
    environ = {**os.environ, "DOCKER_HOST": daemon.url}
    return DockerRunner(environ, heartbeat_s=heartbeat_s)


@dataclasses.dataclass
class Box:
    """What a test starts workers with: the fake backend, and a model that is a folder here.

    Attributes:
        folder: for the model and the log.
        token: marks all processes of its workers.
    """

    folder: Path
    token: str = dataclasses.field(default_factory=lambda: secrets.token_hex(8))

    @property
    def marked(self) -> dict[str, str]:
        """Variables of a worker whose processes are to be found."""
        return {"LLEM_TEST_TOKEN": self.token}

    def experiment(self, **fields: Any) -> Experiment:
        """Of a model that is here; nothing is fetched."""
        model = self.folder / "model"
        if not model.exists():
            model.mkdir()
            (model / "config.json").write_text("{}")
        known = {"device": "cpu", "meters": ("fixed",), "idle": "none", "warmup": "none"}
        base = experiment(backend="fake", model=str(model), weights="random", output_tokens=3)
        return dataclasses.replace(base, **{**known, **fields})

    def launch(self, image: str = BASE, **fields: Any) -> Launch:
        base = Launch(
            backend="fake", log=self.folder / "log", image=image, experiment=self.experiment()
        )
        return dataclasses.replace(base, **fields)

    def request(self, options: Mapping[str, object], **fields: Any) -> bytes:
        """A request whose engine misbehaves as the options say."""
        return request(self.experiment(options=dict(options), **fields))


def containers(daemon: Daemon) -> list[str]:
    """Names of all containers, those too that never ran."""
    found = daemon.client().api.containers(all=True)
    return [container["Names"][0] for container in found]


def volumes(daemon: Daemon) -> list[str]:
    found = daemon.client().api.volumes()["Volumes"] or []
    return [volume["Name"] for volume in found]


def processes(token: str) -> list[int]:
    """Processes of this host, in containers too, with a token in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if token in process.environ().get("LLEM_TEST_TOKEN", ""):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def eventually(
    question: Callable[[], Sequence[object]], limit_s: float = 10.0
) -> tuple[Sequence[object], float]:
    """What a question is answered with once that is nothing, or at the limit; and when that was."""
    begun = time.monotonic()
    while (found := question()) and time.monotonic() - begun < limit_s:
        time.sleep(0.02)
    return found, time.monotonic() - begun
