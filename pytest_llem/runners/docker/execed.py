"""A worker in a container that was there before it and stays when it ends: the transport.

Docker has no way to end what was started in a running container. A worker ends when its standard
input does; one that doesn't is killed from inside by the container's attendant; and where nobody
answers there, the container is removed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_llem.runners.docker import pids
from pytest_llem.runners.docker.attached import Attached, as_signal
from pytest_llem.runners.docker.attendant import AttendantError
from pytest_llem.runners.docker.endings import why_ended
from pytest_llem.runners.docker.errors import translate
from pytest_llem.runners.docker.kept import Kept
from pytest_llem.runners.docker.stream import Stream

__all__ = ["ExecTransport"]

_AGAIN_S = 0.01
_LOG_LINES = 40
_KILLED = 128 + 9


class ExecTransport(Attached):
    """Bytes to and from a worker in a container that is kept."""

    def __init__(
        self,
        kept: Kept,
        name: str,
        stream: Stream,
        log: Path,
        about: Mapping[str, Any],
        heartbeat_s: float | None,
        *,
        unwell: Callable[[], str],
        measured: Callable[[str], None],
    ) -> None:
        """Take a worker that was started and has heard nothing yet.

        Args:
            kept: its container.
            name: of the exec.
            stream: of the worker.
            log: is made new.
            about: plain data for the report.
            heartbeat_s: seconds between heartbeats; None where none are sent.
            unwell: looks whether the container does for another measurement.
            measured: told the digest of each that was made.
        """
        super().__init__(stream, log, about, heartbeat_s)
        self.measured = measured
        self._kept = kept
        self._name = name
        self._unwell = unwell
        self._lost = ""
        self._code: int | None = None
        self._killed = False
        self._oom_kills = self._count_oom_kills() or 0

    def unwell(self) -> str:
        """Why it doesn't do for another measurement; empty where it does."""
        if not self._pump(0.0):
            return "the worker ended after its measurement"
        return self._unwell()

    def why_ended(self) -> tuple[str, str] | None:
        """What happened and what to do about it, where more is known than the exit status."""
        if self._lost:
            error = translate(RuntimeError(self._lost), "run", url=self._kept.daemon.url)
            return f"the connection to the Docker daemon was lost: {error.message}", error.fix
        kills = self._count_oom_kills()
        code, oom = self._kept.how_ended() if kills is None else (self._code, False)
        if code is None:
            return None
        ending = why_ended(
            code,
            oom,
            oom_kills=None if kills is None else kills - self._oom_kills,
            killed_by_us=self._killed,
            log=self.log_tail(_LOG_LINES),
            shm_size=str(self.about.get("shm_size", "")),
        )
        if kills is not None and code == _KILLED and not kills - self._oom_kills:
            message = "somebody killed the worker with SIGKILL, and its container had memory left"
            return message, "see the log of the Docker daemon's host: dmesg, journalctl -k"
        if ending is not None:
            return ending.message, ending.fix
        if kills is None:
            return f"its container ended (exit status {code})", "run again; see its log"
        return None

    def pids(self) -> tuple[list[int], str]:
        """Pids of all processes of its container on their host, and why they can't be told."""
        return pids.told(self._kept.daemon, self._kept.id)

    def stop(self, grace_s: float) -> None:
        """End it and all that it started; its container stays."""
        self._killed = self._killed or self._status is None
        super().stop(grace_s)

    def _ask_status(self, timeout_s: float) -> int | None:
        import docker.errors
        import requests

        deadline = time.monotonic() + timeout_s
        while True:
            try:
                state = self._kept.daemon.api.exec_inspect(self._name)
            except docker.errors.APIError:
                # It is gone with its container.
                self._code = self._kept.how_ended()[0]
                break
            except (docker.errors.DockerException, requests.RequestException) as error:
                self._lost = str(error)
                return None
            if not state["Running"]:
                self._code = state["ExitCode"]
                break
            if time.monotonic() > deadline:
                return None
            time.sleep(_AGAIN_S)
        return None if self._code is None else as_signal(self._code)

    def _lives(self) -> bool:
        import docker.errors
        import requests

        try:
            return bool(self._kept.daemon.api.exec_inspect(self._name)["Running"])
        except (docker.errors.DockerException, requests.RequestException) as error:
            self._lost = str(error)
            return False

    def _end_surely(self) -> None:
        try:
            self._kept.ask("end")
        except AttendantError:
            self._kept.remove()

    def _count_oom_kills(self) -> int | None:
        """Processes of its container that were killed for want of memory; None where it ended."""
        with contextlib.suppress(AttendantError):
            return int(self._kept.ask("alive")["oom_kills"])
        return None
