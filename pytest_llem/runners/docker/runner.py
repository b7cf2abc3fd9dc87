"""The runner ``docker``: workers in containers of one daemon."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pytest_llem import __version__
from pytest_llem.errors import ContainerError, LlemError, WorkerError
from pytest_llem.extensions import Launch, Transport
from pytest_llem.gpus import Found, Gpu
from pytest_llem.runners.archive import bootstrap, for_launch, opening
from pytest_llem.runners.devices import Devices
from pytest_llem.runners.docker import container, order, reaper
from pytest_llem.runners.docker.attached import HEARTBEAT_S, patience_s
from pytest_llem.runners.docker.daemon import Daemon, connect
from pytest_llem.runners.docker.devices import gpu_requests, started
from pytest_llem.runners.docker.guardian import Guardian
from pytest_llem.runners.docker.image import Image, ensure
from pytest_llem.runners.docker.models import NOTHING, Models, Provision
from pytest_llem.runners.docker.persistent import KEPT_S, Places, Wanted
from pytest_llem.runners.docker.probe import probe
from pytest_llem.runners.docker.settings import Settings

__all__ = ["DockerRunner", "command", "here"]

_T = TypeVar("_T")


def command(heartbeat_s: float | None) -> list[str]:
    """The command of a worker in a container: Python, and the text of its first program.

    Args:
        heartbeat_s: seconds between heartbeats; None where none are sent.
    """
    wait_s = patience_s(heartbeat_s)
    patience = [] if wait_s is None else [str(wait_s)]
    return ["python3", "-u", "-c", bootstrap(), *patience]


def here() -> order.Caller:
    """The user of this process."""
    return order.Caller(uid=os.getuid(), gid=os.getgid(), groups=tuple(os.getgroups()))


class DockerRunner:
    """Starts workers in containers.

    Attributes:
        session: a name that no other session has, on the labels of all it creates.
    """

    name = "docker"

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        heartbeat_s: float = HEARTBEAT_S,
        kept_s: float = KEPT_S,
    ) -> None:
        """Nothing is asked of the daemon before the first worker is started.

        Args:
            environ: says where the daemon is.
            heartbeat_s: how often a worker behind a network is told that its starter is there.
            kept_s: how long a container outlives its session, where it is to be left.
        """
        self._kept_s = kept_s
        self.session = secrets.token_hex(8)
        self._environ = environ
        self._heartbeat_s = heartbeat_s
        self._daemon: Daemon | None = None
        self._guardian: Guardian | None = None
        self._limited = False
        self._models: Models | None = None
        self._devices: Devices | None = None
        self._images: dict[str, Image] = {}
        self._places: Places | None = None

    @property
    def daemon(self) -> Daemon:
        """That of the session; reached, and cleared of what dead sessions left, at first use.

        Raises:
            ContainerError: when nobody answers.
        """
        if self._daemon is None:
            daemon = connect(self._environ)
            reaper.sweep(daemon)
            self._guardian = Guardian(self.session, self._environ)
            self._daemon = daemon
        return self._daemon

    @property
    def heartbeat_s(self) -> float | None:
        """Seconds between heartbeats; None on this host, where a connection can't be cut."""
        return None if self.daemon.local else self._heartbeat_s

    def start(self, launch: Launch) -> Transport:
        """Start a worker in a container.

        Raises:
            ContainerError: when it can't be started, with cause and fix.
            OSError: when its log can't be written.
        """
        settings = Settings.of(launch.settings)
        if launch.image is None:
            raise ContainerError(
                f"backend {launch.backend}: no image to run it in is known",
                phase="create",
                cause="no image",
                fix=f"name one: --llem-runner-{launch.backend}=docker:IMAGE",
            )
        self.image(launch, settings)
        if settings.strategy == "persistent":
            return self._persistent(launch, settings)
        if self._places is not None:
            self._places.elsewhere()
        return self._ephemeral(launch, settings)

    def devices(self, launch: Launch) -> Devices | None:
        """GPUs of the daemon's host; None where it is this one.

        Raises:
            ContainerError: when the daemon doesn't answer.
        """
        if self._devices is None and not self.daemon.local:
            self._devices = Devices(
                find=lambda _: self._gpus_there(launch),
                host=self.daemon.name,
                apart="the Docker daemon is on another host, which other clients measure on too",
            )
        return self._devices

    def _gpus_there(self, launch: Launch) -> Found:
        """What a container with all GPUs of another host sees."""

        def probed() -> list[str]:
            self.image(launch, Settings.of(launch.settings))
            image = self._images[str(launch.image)]
            seen = probe(self.daemon, image, gpus=True, labels=reaper.labels(self.session))
            return list(seen.gpus)

        try:
            uuids = launch.once(f"gpus of {self.daemon.name}", probed)
        except ContainerError as error:
            return Found(reason=error.message)
        return Found(
            gpus=tuple(
                Gpu(index=index, uuid=uuid, name="", memory_bytes=None, power_limit_w=None)
                for index, uuid in enumerate(uuids)
            )
        )

    def reap(self) -> None:
        """End what dead sessions left running, so that their devices are free.

        Raises:
            ContainerError: when the daemon doesn't answer.
        """
        reaper.sweep(self.daemon)

    def mend(self, error: WorkerError) -> bool:
        """Whether a worker that failed may do better in another container, which is started then.

        Only one that is kept can be the cause.
        """
        return self._places is not None and self._places.mend(error)

    def close(self) -> None:
        """Leave nothing behind, and close the connections."""
        if self._places is not None:
            self._places.close()
        if self._daemon is not None:
            with contextlib.suppress(LlemError):  # the next session's sweep does it
                reaper.sweep_session(self._daemon, self.session)
            self._daemon.close()
        if self._guardian is not None:
            self._guardian.dismiss()
        self._daemon = self._guardian = self._models = self._places = self._devices = None

    def _ephemeral(self, launch: Launch, settings: Settings) -> container.ContainerTransport:
        """A container for one worker, gone with it."""
        daemon, beat_s = self.daemon, self.heartbeat_s
        provision = self.provision(launch)
        around = self.surroundings(provision)
        first = opening(launch, for_launch(launch), beat_s)

        def begin(
            wanted: Mapping[str, Any], about: Mapping[str, Any]
        ) -> container.ContainerTransport:
            return container.start(daemon, wanted, launch.log, first, about, beat_s)

        transport = self._begun(launch, settings, provision, around, begin)
        transport.secrets = provision.secrets
        return transport

    def image(self, launch: Launch, settings: Settings) -> dict[str, Any]:
        """An image, fetched where it may be and nobody did so before; for the report.

        Raises:
            ContainerError: when there is no such image.
        """
        name = str(launch.image)
        if name not in self._images:
            # Another process of the session may be fetching it.
            launch.once(f"image {name}", lambda: ensure(self.daemon, name, settings.pull).id)
            self._images[name] = ensure(self.daemon, name, settings.pull)
        found = self._images[name]
        return {"image_id": found.id, "image_digest": found.digest}

    def _persistent(self, launch: Launch, settings: Settings) -> Transport:
        """A worker in a container that is kept."""
        beat_s = self.heartbeat_s
        if self._places is None:
            self._places = Places(self.daemon, beat_s, kept_s=self._kept_s)
        provision = self.provision(launch)
        around = self.surroundings(provision)
        numbers = order.gpu_numbers(launch)
        return self._places.start(
            Wanted(
                key=self._key(launch, order.create(launch, settings, around), numbers),
                backend=launch.backend,
                image=str(launch.image),
                gpus=len(numbers),
                settings=settings,
                begin=lambda take: self._begun(launch, settings, provision, around, take),
                command=around.command,
                opening=opening(launch, for_launch(launch), beat_s),
                log=launch.log,
                secrets=provision.secrets,
            )
        )

    def _key(self, launch: Launch, wanted: Mapping[str, Any], numbers: Sequence[int]) -> str:
        """Containers of one key are as good as each other, for the same user."""
        asked = {name: value for name, value in wanted.items() if name != "labels"}
        image = self.image(launch, Settings.of(launch.settings))["image_id"]
        whose = [socket.gethostname(), os.getuid(), __version__]
        text = json.dumps([whose, launch.backend, image, list(numbers), asked], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _begun(
        self,
        launch: Launch,
        settings: Settings,
        provision: Provision,
        around: order.Surroundings,
        begin: Callable[[Mapping[str, Any], Mapping[str, Any]], _T],
    ) -> _T:
        """Begin with an order that the daemon takes, and what is to be reported of it."""

        def with_settings(said: Settings) -> _T:
            about = order.about(launch, said, around) | self.image(launch, said)
            about |= dict(provision.about) | self._place()
            ways = gpu_requests(self.daemon.info, order.gpu_numbers(launch))
            return started(
                ways, lambda devices: begin(order.create(launch, said, around, devices), about)
            )

        return self.within_limits(launch, settings, with_settings)

    def provision(self, launch: Launch) -> Provision:
        """The model of a launch's experiment, ready for a container.

        Raises:
            ContainerError: when it can't be.
        """
        if launch.experiment is None or launch.image is None:
            return NOTHING
        if self._models is None:
            labels = reaper.labels(self.session)
            self._models = Models(self.daemon, labels=labels, environ=self._environ)
        self._models.tell = launch.tell
        return self._models.provide(launch.experiment, launch.image)

    def within_limits(
        self, launch: Launch, settings: Settings, begin: Callable[[Settings], _T]
    ) -> _T:
        """Start something; without our own limits where the daemon may not set them.

        One that has no right to raise limits (in a container itself, or rootless) can't give what
        engines on GPUs ask for. What a user wrote is never left out.
        """
        lowered = dataclasses.replace(settings, ulimits={})
        if "ulimits" in launch.settings:
            return begin(settings)
        if self._limited:
            return begin(lowered)
        try:
            return begin(settings)
        except ContainerError as error:
            if "rlimit" not in str(error.__cause__):
                raise
            self._limited = True
        return begin(lowered)

    def surroundings(self, provision: Provision) -> order.Surroundings:
        """What a container of this session needs for a model."""
        daemon = self.daemon
        return order.Surroundings(
            command=command(self.heartbeat_s),
            caller=here(),
            labels=reaper.labels(self.session),
            mounts=provision.mounts,
            environment=provision.environment,
            network_needed=provision.network_needed,
            rootless=daemon.rootless,
        )

    def _place(self) -> dict[str, Any]:
        """The daemon, for the report."""
        daemon = self.daemon
        return {
            "daemon": daemon.name,
            "daemon_version": str(daemon.info.get("ServerVersion", "")),
            "remote": not daemon.local,
        }
