"""A worker in a container of its own: the transport."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llem.runners.docker import pids
from pytest_llem.runners.docker.attached import Attached, as_signal
from pytest_llem.runners.docker.daemon import Daemon
from pytest_llem.runners.docker.endings import why_ended
from pytest_llem.runners.docker.errors import translate, translated
from pytest_llem.runners.docker.stream import Stream

if TYPE_CHECKING:
    from docker.models.containers import Container

__all__ = ["ContainerTransport", "past", "removed", "start"]

_GONE_S = 10.0
_LOG_LINES = 40
_NO_PROGRAM = (126, 127)
_NO_PYTHON = "exec python3 failed"
"""What the container's init says; the daemon then calls the start a success."""

_FLAGS = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}


def start(
    daemon: Daemon,
    order: Mapping[str, Any],
    log: Path,
    opening: bytes,
    about: Mapping[str, Any],
    heartbeat_s: float | None = None,
) -> ContainerTransport:
    """Create a container, start it and say the first words to it; nothing is left of a failure.

    Args:
        daemon: where.
        order: keyword arguments of docker-py's ``containers.create``; it removes itself at its
            end.
        log: for what it writes to standard error; made new.
        opening: header and archive.
        about: plain data for the report.
        heartbeat_s: seconds between heartbeats; None where none are sent.

    Raises:
        ContainerError: when it can't be created or started, with cause and fix.
        OSError: when the log can't be written.
    """
    image = str(order["image"])
    with translated("create", image=image):
        container = daemon.client.containers.create(**order)
    stream = None
    try:
        with translated("start", image=image):
            # Attached before it runs: nothing of its output is missed, and it lives only as long
            # as this connection does.
            stream = Stream(daemon.api.attach_socket(container.id, params=_FLAGS))
            container.start()
        transport = ContainerTransport(daemon, container, stream, log, about, heartbeat_s)
        transport.send(opening)
    except BaseException:
        if stream is not None:
            stream.close()
        removed(daemon, str(container.id))
        raise
    return transport


def removed(daemon: Daemon, container: str, timeout_s: float = _GONE_S) -> bool:
    """Remove a container and its anonymous volumes, running or not; whether it is gone."""
    import docker.errors
    import requests

    deadline = time.monotonic() + timeout_s
    while True:
        try:
            daemon.api.remove_container(container, force=True, v=True)
        except docker.errors.NotFound:
            return True
        except docker.errors.APIError as error:
            # 409: it is being removed already, by its own end or by another session's sweep.
            if error.status_code != 409 or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        except (docker.errors.DockerException, requests.RequestException):
            return False


def past(daemon: Daemon, container: str, timeout_s: float) -> tuple[int | None, bool]:
    """How a container ended: exit status, and whether memory ran out in it.

    The daemon's past tells of removed containers too. No status where it didn't end in the time.

    Raises:
        DockerException: of docker-py, when the daemon doesn't answer.
        RequestException: of requests, the same.
    """
    code, oom = None, False
    events = daemon.api.events(
        since=0,
        # By its own clock; what is in the past then comes at once.
        until=f"{daemon.clock() + max(timeout_s, 0.05):.6f}",
        filters={"container": container, "event": ["die", "oom", "destroy"]},
        decode=True,
    )
    for event in events:
        if event["Action"] == "oom":
            oom = True
        elif event["Action"] == "die":
            code = int(event["Actor"]["Attributes"]["exitCode"])
        elif event["Action"] == "destroy":
            break
    with contextlib.suppress(Exception):  # it may have ended by itself
        events.close()
    return code, oom


class ContainerTransport(Attached):
    """Bytes to and from the first process of a container.

    Attributes:
        id: of the container.
        oom: whether the kernel ended a process in it for want of memory.
        killed: whether its end was our wish.
        lost: why the daemon can't be asked about its end; empty where it can.
    """

    def __init__(
        self,
        daemon: Daemon,
        container: Container,
        stream: Stream,
        log: Path,
        about: Mapping[str, Any],
        heartbeat_s: float | None = None,
    ) -> None:
        """Take a container that was started and has heard nothing yet."""
        self.id = str(container.id)
        self.oom = False
        self.killed = False
        self.lost = ""
        self._code: int | None = None
        self._daemon = daemon
        self._image = str(about.get("image", "the image"))
        super().__init__(stream, log, about, heartbeat_s)

    def why_ended(self) -> tuple[str, str] | None:
        """What happened and what to do about it, where more is known than the exit status."""
        if self.lost:
            error = translate(RuntimeError(self.lost), "run", url=self._daemon.url)
            return f"the connection to the Docker daemon was lost: {error.message}", error.fix
        if self._code is None:
            return None
        log = self.log_tail(_LOG_LINES)
        if self._code in _NO_PROGRAM and _NO_PYTHON in log:
            fix = "name an image that has Python 3.10 or newer and the engine in it"
            return f"image {self._image} lacks python3", fix
        ending = why_ended(
            self._code,
            self.oom,
            killed_by_us=self.killed,
            log=log,
            shm_size=str(self.about.get("shm_size", "")),
        )
        return None if ending is None else (ending.message, ending.fix)

    def pids(self) -> tuple[list[int], str]:
        """Pids of all its processes on their host, and why they can't be told."""
        return pids.told(self._daemon, self.id)

    def stop(self, grace_s: float) -> None:
        """End it and all that runs in it, and remove it."""
        self.killed = self.killed or self._status is None
        super().stop(grace_s)

    def _ask_status(self, timeout_s: float) -> int | None:
        """From the daemon's past: of a container that is removed it knows nothing else."""
        import docker.errors
        import requests

        try:
            self._code, self.oom = past(self._daemon, self.id, timeout_s)
        except (docker.errors.DockerException, requests.RequestException) as error:
            self.lost = str(error)
        return None if self._code is None else as_signal(self._code)

    def _lives(self) -> bool:
        import docker.errors
        import requests

        try:
            state = self._daemon.api.inspect_container(self.id)["State"]
        except (docker.errors.DockerException, requests.RequestException) as error:
            self.lost = str(error)
            return False
        return bool(state["Running"])

    def _end_surely(self) -> None:
        removed(self._daemon, self.id)
