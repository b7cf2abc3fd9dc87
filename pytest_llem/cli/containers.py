"""Docker and the NVIDIA toolkit in doctor's words: the checks that need no container.

Measuring on this host needs neither, so what is missing is a note. It is a problem only where
somebody said which Docker to use, and that one can't be; and where one hangs, which was found.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Literal

from pytest_llem.cli.check import Check
from pytest_llem.errors import ContainerError
from pytest_llem.runners.detect import Detected
from pytest_llem.runners.docker.daemon import Daemon, connect
from pytest_llem.runners.docker.preflight import has_toolkit
from pytest_llem.runners.docker.sayings_container import INSTALL_TOOLKIT

__all__ = ["check_containers"]

_LIMIT_S = 3.0
_CHOSEN = ("DOCKER_HOST", "DOCKER_CONTEXT")


def check_containers(
    found: Detected,
    environ: Mapping[str, str] = os.environ,
    reach: Callable[[Mapping[str, str], float], Daemon] = connect,
) -> list[Check]:
    """Rows for the daemon and for what hands GPUs to its containers.

    Args:
        found: what the file system says of Docker and the toolkit.
        environ: says which daemon to use.
        reach: reaches it, given how many seconds it may take to answer.
    """
    try:
        daemon = reach(environ, _LIMIT_S)
        with contextlib.closing(daemon):
            return [_answering(daemon), _toolkit(found, daemon)]
    except ContainerError as error:
        chosen = any(environ.get(name) for name in _CHOSEN)
        return [_silent(found, error, chosen=chosen), _toolkit(found, None)]


def _answering(daemon: Daemon) -> Check:
    version, name = daemon.info.get("ServerVersion", "of no version"), daemon.name or "?"
    return Check("docker", "ok", f"{version} at {daemon.url}, on host {name}")


def _silent(found: Detected, error: ContainerError, *, chosen: bool) -> Check:
    hangs = error.cause == "no answer"
    status: Literal["problem", "note"] = "problem" if chosen or hangs else "note"
    if chosen or found.socket or error.cause == "no client":
        return Check("docker", status, error.message, error.fix or None)
    if found.container:
        detail = f"this is itself inside a container ({found.container}), and Docker isn't in it"
        return Check("docker", status, detail)
    if not found.cli:
        return Check("docker", status, "no program docker on PATH, and no daemon's socket")
    return Check("docker", status, f"{found.cli}, but {error.message}", error.fix)


def _toolkit(found: Detected, daemon: Daemon | None) -> Check:
    name = "nvidia toolkit"
    places = [str(path) for path in (found.toolkit, found.cdi) if path]
    if places:
        return Check(name, "ok", f"{' and '.join(places)}, for GPUs in containers")
    if daemon is not None and not daemon.local:
        return Check(name, "note", "not looked for: the daemon is on another host")
    if has_toolkit(found, daemon):
        return Check(name, "ok", "Docker knows it, for GPUs in containers")
    detail = "not found; only GPUs in containers need it"
    return Check(name, "note", detail, f"# {INSTALL_TOOLKIT}" if found.gpu else None)
