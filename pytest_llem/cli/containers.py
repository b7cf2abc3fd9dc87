"""Docker and the NVIDIA toolkit in doctor's words: notes only, as nothing uses them yet."""

from __future__ import annotations

from pytest_llem.cli.check import Check
from pytest_llem.runners.detect import Detected

__all__ = ["check_docker", "check_toolkit"]

_LATER = "containers come with a later version"


def check_docker(found: Detected) -> Check:
    """What would keep containers from being started here, the first reason only."""
    detail, fix = _docker(found)
    return Check("docker", "note", f"{detail}; {_LATER}", fix)


def _docker(found: Detected) -> tuple[str, str | None]:
    if found.container:
        return f"this is itself inside a container ({found.container})", None
    if found.remote:
        return f"DOCKER_HOST is remote ({found.remote}), never used unless asked for", None
    if not found.cli:
        where = f", though there is a socket, {found.socket}" if found.socket else ""
        return f"no program docker on PATH{where}", None
    if not found.socket:
        return f"{found.cli}, but no daemon's socket", "sudo systemctl start docker"
    if not found.accessible:
        fix = 'sudo usermod -aG docker "$USER"  # then log in again'
        return f"{found.cli}, but this user may not use {found.socket}", fix
    return f"{found.cli}, socket {found.socket}", None


def check_toolkit(found: Detected) -> Check:
    """What hands GPUs to containers."""
    places = [str(path) for path in (found.toolkit, found.cdi) if path]
    if not places:
        return Check("nvidia toolkit", "note", "not found; only GPUs in containers need it")
    return Check("nvidia toolkit", "note", f"{' and '.join(places)}, for GPUs in containers")
