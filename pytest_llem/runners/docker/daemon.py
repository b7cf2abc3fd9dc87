"""The Docker daemon: reached once, and what it says of itself. The only place that makes a client.

Times out after ``TIMEOUT_S`` where the daemon doesn't answer.
"""

from __future__ import annotations

import datetime
import functools
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llem.errors import ContainerError
from pytest_llem.runners.docker.errors import translate, translated

if TYPE_CHECKING:
    import docker

__all__ = ["CALL_S", "TIMEOUT_S", "Daemon", "connect"]

TIMEOUT_S = 10.0
CALL_S = 120.0

_OLDEST = (7, 2)
"""Of docker-py; earlier ones know no contexts, and would use another daemon."""

_LOCAL = ("unix:", "npipe:", "/")


@dataclass(frozen=True)
class Daemon:
    """A daemon that answered.

    Attributes:
        client: of docker-py.
        url: where it was reached, as DOCKER_HOST or the context has it.
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


def connect(environ: Mapping[str, str] = os.environ, timeout_s: float = TIMEOUT_S) -> Daemon:
    """Reach the daemon that Docker's own command line would: DOCKER_HOST, else the context's.

    Args:
        environ: where DOCKER_HOST, DOCKER_CONTEXT and what belongs to them are.
        timeout_s: for its first answer; later ones may take ``CALL_S``, as a daemon that creates or
            removes a container may well.

    Raises:
        ContainerError: when docker-py is missing, a context doesn't exist, or nobody answers.
    """
    docker = _package()
    url = environ.get("DOCKER_HOST") or _of_context(environ.get("DOCKER_CONTEXT"))
    _knock(url, timeout_s)
    with translated("connect", url=url):
        client = docker.from_env(environment=dict(environ), timeout=timeout_s)
        try:
            client.ping()
        except BaseException:
            client.close()
            raise
        client.api.timeout = max(timeout_s, CALL_S)
    return Daemon(client, url)


def _knock(url: str, timeout_s: float) -> None:
    """Look whether somebody listens at a local socket; docker-py would leave its own open.

    Raises:
        ContainerError: when nobody does.
    """
    path = url.removeprefix("unix:").replace("//", "/", 1) if url.startswith("unix:") else url
    if not path.startswith("/") or not hasattr(socket, "AF_UNIX"):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
        knocking.settimeout(timeout_s)
        try:
            knocking.connect(path)
        except OSError as error:
            raise translate(error, "connect", url=url) from error


def _package() -> Any:
    """docker-py, of a version that knows contexts."""
    try:
        import docker
    except ImportError as error:
        raise _no_client(f"is missing: {error}") from error
    found = str(getattr(docker, "__version__", "0"))
    if tuple(int(number) for number in re.findall(r"\d+", found)[:2]) < _OLDEST:
        raise _no_client(f"is too old: {found}, and {'.'.join(map(str, _OLDEST))} is needed")
    return docker


def _no_client(what: str) -> ContainerError:
    return ContainerError(
        f"Python's client for Docker {what}",
        phase="connect",
        cause="no client",
        fix='Install it with: pip install "pytest-llem[docker]"',
    )


def _of_context(name: str | None) -> str:
    """Address of a context, the current one for None.

    Raises:
        ContainerError: when there is no such context; docker-py would take another daemon then.
    """
    from docker.context import ContextAPI

    with translated("connect", url=f"the context {name or 'in use'}"):
        context = ContextAPI.get_context(name)
    if context is None:
        raise ContainerError(
            f"there is no Docker context {name or 'of the name that is set'}",
            phase="connect",
            cause="no context",
            fix="docker context ls  # then set DOCKER_CONTEXT, or docker context use",
        )
    return str(context.Host or "the current context")
