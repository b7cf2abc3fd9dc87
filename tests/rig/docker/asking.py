"""Short questions to daemons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docker.types import DeviceRequest

from tests.rig.docker.images import BASE

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

__all__ = ["HARDENED", "gpus", "output", "running"]

HARDENED: dict[str, Any] = {
    "user": "1000:1000",
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "tmpfs": {"/tmp": "", "/run": ""},
}
"""Arguments of a container that may do as little as possible."""


def gpus(*ids: str, capabilities: tuple[str, ...] = ("gpu",)) -> dict[str, Any]:
    """Arguments of a container that gets GPUs, by index or UUID; all where none is named."""
    which: dict[str, Any] = {"device_ids": list(ids)} if ids else {"count": -1}
    return {"device_requests": [DeviceRequest(capabilities=[list(capabilities)], **which)]}


def running(
    client: docker.DockerClient, *command: str, image: str = BASE, **arguments: Any
) -> Container:
    """A container that was started, without a network.

    It has an init, so that it stops at once; a command that is missing is then no error of its
    start, but exit status 127.
    """
    arguments = {"network_mode": "none", "init": True, **arguments}
    container = client.containers.create(image, list(command) or None, **arguments)
    container.start()
    return container


def output(client: docker.DockerClient, *command: str, image: str = BASE, **arguments: Any) -> str:
    """What a container printed, once it has ended; it is removed."""
    container = running(client, *command, image=image, **arguments)
    try:
        container.wait()
        return str(container.logs().decode())
    finally:
        container.remove(force=True, v=True)
