"""Pids of a container's processes, as its host calls them."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from pytest_llem.runners.docker.daemon import Daemon

__all__ = ["told"]

_PROC = Path("/proc")


def told(daemon: Daemon, container: str, proc: Path = _PROC) -> tuple[list[int], str]:
    """Pids, and why they can't be told; one of both is empty.

    The daemon runs ``ps`` where it lives. Its numbers are NVML's only where that isn't a namespace
    of its own: of those, this host has no such process, or one of another control group.
    """
    import docker.errors
    import requests

    if not daemon.local or sys.platform != "linux":
        return [], "the container isn't on this host"
    try:
        rows = daemon.api.top(container, ps_args="-eo pid")["Processes"]
        pids = [int(row[0]) for row in rows]
    except (docker.errors.DockerException, requests.RequestException, ValueError) as error:
        return [], f"the Docker daemon can't tell the container's pids: {error}"
    if not _are_here(pids, container, proc):
        return [], "the Docker daemon has pids of its own, and NVML tells those of the host"
    return pids, ""


def _are_here(pids: list[int], container: str, proc: Path) -> bool:
    """Whether this host's processes of these pids are the container's; those that ended aside."""
    groups = []
    for pid in pids:
        with contextlib.suppress(OSError):
            groups.append((proc / str(pid) / "cgroup").read_text(errors="replace"))
    return bool(groups) and all(container in group for group in groups)
