"""The Docker daemon: reached once, and what it says of itself. The only place that makes a client.

Times out after ``TIMEOUT_S`` where the daemon doesn't answer.
"""

from __future__ import annotations

import datetime
import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llem.errors import ContainerError
from pytest_llem.runners.docker.errors import translated

if TYPE_CHECKING:
    import docker

__all__ = ["TIMEOUT_S", "Daemon", "connect"]

TIMEOUT_S = 10.0
_LOCAL = ("unix://", "http+unix://", "npipe://")


@dataclass(frozen=True)
class Daemon:
    """A daemon that answered.

    Attributes:
        client: of docker-py.
        url: where it was reached.
    """

    client: docker.DockerClient
    url: str

    @property
    def api(self) -> Any:
        """Its low-level calls, one for each of the daemon's own."""
        return self.client.api

    @property
    def local(self) -> bool:
        """Whether paths, processes and GPUs of this host are the daemon's too."""
        return self.url.startswith(_LOCAL)

    @functools.cached_property
    def info(self) -> Mapping[str, Any]:
        """What it says of itself and its host; asked once.

        Raises:
            ContainerError: when it doesn't answer.
        """
        with translated("connect", url=self.url):
            found: Mapping[str, Any] = self.client.info()
        return found

    @property
    def name(self) -> str:
        """Of its host."""
        return str(self.info.get("Name", ""))

    @property
    def rootless(self) -> bool:
        """Whether it belongs to a user who is root in its containers."""
        return "name=rootless" in (self.info.get("SecurityOptions") or ())

    def clock(self) -> float:
        """Seconds since 1970 by its own clock, which need not be this host's.

        Raises:
            DockerException: of docker-py, when it doesn't answer.
            RequestException: of requests, the same.
        """
        said = str(self.client.info()["SystemTime"])
        # Nanoseconds, or fewer digits where they end in zeros, are not what Python reads.
        found = re.fullmatch(r"([^.]*?)(\.\d+)?(Z|[+-]\d\d:\d\d)", said)
        assert found is not None, said
        whole, fraction, zone = found.groups()
        moment = datetime.datetime.fromisoformat(whole + zone.replace("Z", "+00:00"))
        return moment.timestamp() + float(fraction or 0)

    def close(self) -> None:
        """Close all connections."""
        self.client.close()


def connect(environ: Mapping[str, str] = os.environ) -> Daemon:
    """Reach the daemon that Docker's own command line would: DOCKER_HOST, else the context's.

    Raises:
        ContainerError: when docker-py is missing, a context doesn't exist, or nobody answers.
    """
    try:
        import docker
    except ImportError as error:
        raise ContainerError(
            f"Python's client for Docker is missing: {error}",
            phase="connect",
            cause="no client",
            fix='Install it with: pip install "pytest-llem[docker]"',
        ) from error
    url = environ.get("DOCKER_HOST") or "the current context"
    with translated("connect", url=url):
        client = docker.from_env(environment=dict(environ), timeout=int(TIMEOUT_S))
        url = client.api.base_url
        client.ping()
    return Daemon(client, url)
