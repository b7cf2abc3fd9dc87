"""The runner ``docker``: workers in containers of one daemon."""

from __future__ import annotations

from pytest_llem.errors import ContainerError
from pytest_llem.extensions import Launch, Transport

__all__ = ["DockerRunner"]


class DockerRunner:
    """Starts workers in containers."""

    name = "docker"

    def start(self, launch: Launch) -> Transport:
        """Start a worker in a container.

        Raises:
            ContainerError: when it can't be started, with cause and fix.
        """
        raise ContainerError("not yet", phase="start", cause="unknown", fix=str(launch.image))
