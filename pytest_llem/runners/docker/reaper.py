"""Labels that tell whose a container is, and the removal of what dead sessions left.

Containers end by themselves when their session does: their standard input is its lifeline. What
can be left is one that was created and never started. It is removed by the session's guardian
(:mod:`~pytest_llem.runners.docker.guardian`), and by the sweep at the next session's start.

The rule of the sweep:

* Owner on this kernel, in this namespace of processes: whether it lives can be told by its PID and
  the time it was started. All that a dead one left is removed, nothing of a living one.
* Owner elsewhere (another host of a shared daemon, an earlier boot): a running container has its
  lifeline, with heartbeats where there is a network, and ends by itself within a minute of its
  owner. So what runs is left alone, and what doesn't run is removed once it is an hour old.
* What says ``kept`` and runs is left for the user's next session; its own first process ends it.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llem.runners.docker.container import removed
from pytest_llem.runners.docker.daemon import Daemon
from pytest_llem.runners.docker.errors import translated

__all__ = ["KEPT", "SESSION", "Owner", "labels", "sweep", "sweep_session"]

SESSION = "org.llem.session"
KEPT = "org.llem.kept"
"""Of a container that is there for the user's next session."""

_OWNER_PID = "org.llem.owner-pid"
_OWNER_START = "org.llem.owner-start"
_OWNER_PLACE = "org.llem.owner-place"
_OWNER_HOST = "org.llem.owner-host"
_OLD_S = 3600.0
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process that owns containers.

    Attributes:
        pid: of the process.
        start: when it was started, in clock ticks since boot; empty where there is no /proc.
        place: where its PID means something: the kernel's boot and the namespace of processes.
    """

    pid: int
    start: str
    place: str

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        return cls(pid=os.getpid(), start=_started(os.getpid()), place=_place())

    def is_dead(self) -> bool | None:
        """Whether it is gone; None where that can't be told from here."""
        if self.place != _place():
            return None
        if self.start:
            return _started(self.pid) != self.start
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


def labels(session: str, *, kept: bool = False) -> dict[str, str]:
    """Labels of a container, or of a volume, that this process owns."""
    owner = Owner.here()
    found = {
        SESSION: session,
        _OWNER_PID: str(owner.pid),
        _OWNER_START: owner.start,
        _OWNER_PLACE: owner.place,
        _OWNER_HOST: socket.gethostname(),
    }
    return found | ({KEPT: "true"} if kept else {})


def sweep(daemon: Daemon) -> list[str]:
    """Remove what dead sessions left at a daemon.

    Returns:
        Names of the removed containers and volumes.

    Raises:
        ContainerError: when the daemon doesn't answer.
    """
    gone = []
    with translated("connect", url=daemon.url):
        found = _containers(daemon, SESSION)
        now_s = daemon.clock() if found else 0.0
        for container in found:
            age_s = now_s - float(container["Created"])
            runs = container["State"] in ("running", "paused", "restarting")
            if _is_left(container["Labels"], age_s, runs=runs) and removed(daemon, container["Id"]):
                gone.append(container["Id"][:12])
        for volume in _volumes(daemon, SESSION):
            # A volume has no state of its own: in use, it can't be removed.
            if _is_left(volume["Labels"], 0.0, runs=False) and _removed_volume(daemon, volume):
                gone.append(volume["Name"])
    return gone


def sweep_session(daemon: Daemon, session: str) -> list[str]:
    """Remove what a session has at a daemon, but for what is kept; names of what was removed.

    Raises:
        ContainerError: when the daemon doesn't answer.
    """
    label = f"{SESSION}={session}"
    with translated("connect", url=daemon.url):
        gone = [
            container["Id"][:12]
            for container in _containers(daemon, label)
            if not (KEPT in container["Labels"] and container["State"] == "running")
            and removed(daemon, container["Id"])
        ]
        return gone + [
            volume["Name"]
            for volume in _volumes(daemon, label)
            if KEPT not in volume["Labels"] and _removed_volume(daemon, volume)
        ]


def _is_left(labels: Mapping[str, str], age_s: float, *, runs: bool) -> bool:
    """Whether a dead session left something with these labels."""
    if KEPT in labels and runs:
        return False
    try:
        owner = Owner(
            pid=int(labels[_OWNER_PID]), start=labels[_OWNER_START], place=labels[_OWNER_PLACE]
        )
    except (KeyError, ValueError):
        # Of a version that wrote other labels, or of somebody else.
        return not runs and age_s > _OLD_S
    dead = owner.is_dead()
    return not runs and age_s > _OLD_S if dead is None else dead


def _containers(daemon: Daemon, label: str) -> list[Mapping[str, Any]]:
    # Of the low-level call: the other one looks at each again, and stumbles over one that is
    # being removed meanwhile.
    found: list[Mapping[str, Any]] = daemon.api.containers(all=True, filters={"label": label})
    return found


def _volumes(daemon: Daemon, label: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] | None = daemon.api.volumes(filters={"label": label})["Volumes"]
    return found or []


def _removed_volume(daemon: Daemon, volume: Mapping[str, Any]) -> bool:
    import docker.errors

    try:
        daemon.api.remove_volume(volume["Name"])
    except docker.errors.APIError:  # in use, or gone
        return False
    return True


def _started(pid: int) -> str:
    """When a process was started, in clock ticks since boot; empty where nothing tells."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return ""
    # The name in brackets may hold anything, so count fields from its end: the 22nd of all.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _place() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {re.sub('[^0-9]', '', str((_PROC / 'self/ns/pid').readlink()))}"
    except OSError:
        return socket.gethostname()
