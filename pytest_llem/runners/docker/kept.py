"""A container that lives longer than its workers: how it is begun, found again, and ended."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_llem.errors import ContainerError
from pytest_llem.runners.docker.attached import HEARTBEAT_S, patience_s
from pytest_llem.runners.docker.attendant import (
    Attendant,
    AttendantError,
    attend_command,
    hold_command,
)
from pytest_llem.runners.docker.container import past, removed
from pytest_llem.runners.docker.daemon import Daemon
from pytest_llem.runners.docker.errors import translated
from pytest_llem.runners.docker.reaper import KEPT
from pytest_llem.runners.docker.stream import Stream

__all__ = ["KEY", "Kept", "begin", "find"]

KEY = "org.llem.key"
"""Label: what the container is good for."""

_FLAGS = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
_FIRST_WORD_S = 30.0


class Kept:
    """A running container, with somebody in it who answers.

    Attributes:
        id: of the container.
        daemon: that has it.
        outlives: whether it is left for the user's next session.
        found: whether it was left by an earlier session.
    """

    def __init__(
        self, daemon: Daemon, container: str, attendant: Attendant, *, outlives: bool, found: bool
    ) -> None:
        """Take a container whose attendant is ours."""
        self.id = container
        self.outlives = outlives
        self.found = found
        self.daemon = daemon
        self._attendant = attendant

    def ask(self, question: str) -> dict[str, Any]:
        """An answer from inside: ``gpus``, ``end`` for the end of all workers, ``alive``.

        Raises:
            AttendantError: when there is none.
        """
        return self._attendant.ask(question)

    def execute(self, command: Sequence[str], image: str) -> tuple[str, Stream]:
        """Start a process in it; the exec's name, and its standard streams.

        Raises:
            ContainerError: when it can't be started.
        """
        with translated("start", image=image):
            return _executed(self.daemon, self.id, command)

    def how_ended(self) -> tuple[int | None, bool]:
        """Exit status, and whether memory ran out in it; nothing where it didn't end."""
        import docker.errors
        import requests

        try:
            return past(self.daemon, self.id, 0.0)
        except (docker.errors.DockerException, requests.RequestException):
            return None, False

    def remove(self) -> None:
        """End it, and all that runs in it."""
        self._attendant.close()
        removed(self.daemon, self.id)

    def leave(self) -> None:
        """Be done with it: what outlives its session stays, without any worker."""
        if not self.outlives:
            self.remove()
            return
        with contextlib.suppress(AttendantError):
            self._attendant.ask("end")
        self._attendant.close()


def begin(
    daemon: Daemon,
    order: Mapping[str, Any],
    key: str,
    *,
    outlives_s: float | None = None,
    heartbeat_s: float | None = HEARTBEAT_S,
) -> Kept:
    """Start a container; nothing is left of a failure.

    Args:
        daemon: where.
        order: as for a worker; what is started instead is an attendant.
        key: what it is good for.
        outlives_s: how long it outlives the last session that used it; None for not at all.
        heartbeat_s: seconds between heartbeats; None where none are sent.

    Raises:
        ContainerError: when it can't be created or started, or doesn't say a word.
    """
    image = str(order["image"])
    attend = attend_command(patience_s(heartbeat_s))
    entry, *arguments = attend if outlives_s is None else hold_command(outlives_s)
    kept = {} if outlives_s is None else {KEPT: "true"}
    wanted = {
        **order,
        "entrypoint": [entry],
        "command": arguments,
        "labels": {**order["labels"], KEY: key, **kept},
        # Its first process does what an init does.
        "init": False,
        "stdin_open": outlives_s is None,
    }
    with translated("create", image=image):
        container = str(daemon.client.containers.create(**wanted).id)
    stream = None
    try:
        with translated("start", image=image):
            if outlives_s is None:
                stream = Stream(daemon.api.attach_socket(container, params=_FLAGS))
                daemon.api.start(container)
            else:
                daemon.api.start(container)
                _, stream = _executed(daemon, container, attend)
        attendant = Attendant(stream, heartbeat_s)
        attendant.is_ours(_FIRST_WORD_S)
    except BaseException as error:
        removed(daemon, container)
        if stream is not None:
            stream.close()
        if isinstance(error, AttendantError):
            raise ContainerError(
                f"Python in a container of {image} doesn't say a word: {error}",
                phase="start",
                cause="no answer",
                fix="name an image that has Python 3.10 or newer and the engine in it",
            ) from error
        raise
    return Kept(daemon, container, attendant, outlives=outlives_s is not None, found=False)


def find(daemon: Daemon, key: str, heartbeat_s: float | None = HEARTBEAT_S) -> Kept | None:
    """A container that an earlier session left, good for the same, and used by nobody now.

    Raises:
        ContainerError: when the daemon doesn't answer.
    """
    wanted = {"label": [f"{KEY}={key}", KEPT], "status": "running"}
    with translated("connect", url=daemon.url):
        names = [row["Id"] for row in daemon.api.containers(filters=wanted)]
    for name in names:
        # It may end just now.
        with contextlib.suppress(ContainerError, AttendantError):
            with translated("start"):
                _, stream = _executed(daemon, name, attend_command(patience_s(heartbeat_s)))
            attendant = Attendant(stream, heartbeat_s)
            if attendant.is_ours(_FIRST_WORD_S):
                return Kept(daemon, name, attendant, outlives=True, found=True)
            attendant.close()
    return None


def _executed(daemon: Daemon, container: str, command: Sequence[str]) -> tuple[str, Stream]:
    name = str(
        daemon.api.exec_create(container, list(command), stdin=True, stdout=True, stderr=True)["Id"]
    )
    return name, Stream(daemon.api.exec_start(name, socket=True))
