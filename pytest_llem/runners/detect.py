"""Finds Docker and the NVIDIA toolkit by the file system alone.

Nothing is started and no daemon is asked, so this takes a few milliseconds at most. What it finds
is a hint: whether a daemon answers and hands out GPUs, only a container's start can tell.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Access", "Detected", "detect"]

Access = Callable[[Path, int], bool]
"""Tells whether this user may use a path in a mode: :func:`os.access`, or a test's own."""

_TOOLS = ("nvidia-container-runtime", "nvidia-ctk", "nvidia-container-cli")
_MARKERS = ("/.dockerenv", "/run/.containerenv")
_CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")
_CDI_KIND = re.compile(r"""\bkind["']?\s*:\s*["']?nvidia\.com/gpu\b""")
_CDI_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """What was found, and where.

    Attributes:
        cli: the program ``docker``.
        socket: the socket of a local daemon; not looked for when ``DOCKER_HOST`` is remote.
        accessible: whether this user may read and write the socket.
        remote: the value of ``DOCKER_HOST`` where it isn't a local socket.
        container: the file that says this process is itself inside a container.
        toolkit: a program of the NVIDIA Container Toolkit.
        cdi: a CDI specification of NVIDIA GPUs.
        gpu: a file that says there is an NVIDIA GPU.
    """

    cli: Path | None
    socket: Path | None
    accessible: bool
    remote: str | None
    container: Path | None
    toolkit: Path | None
    cdi: Path | None
    gpu: Path | None = None

    @property
    def usable(self) -> bool:
        """Whether containers can be started here, as far as files tell."""
        here = self.remote is None and self.container is None
        return here and self.cli is not None and self.accessible

    @property
    def with_gpus(self) -> bool:
        """Whether containers can be given GPUs here, as far as files tell."""
        return self.usable and (self.toolkit is not None or self.cdi is not None)


def detect(
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
    access: Access = os.access,
) -> Detected:
    """Look for Docker and the NVIDIA toolkit.

    Args:
        root: the directory that stands for ``/``.
        environ: ``PATH``, ``DOCKER_HOST``, ``HOME`` and ``XDG_RUNTIME_DIR`` are read from it.
        access: whether this user may use a path.
    """
    host = environ.get("DOCKER_HOST", "")
    remote = host if host and not host.startswith("unix://") else None
    socket = None if remote else _socket(root, environ, access)
    tools = (_program(root, environ, name) for name in _TOOLS)
    return Detected(
        cli=_program(root, environ, "docker"),
        socket=socket,
        accessible=socket is not None and access(socket, os.R_OK | os.W_OK),
        remote=remote,
        container=next((path for path in _below(root, _MARKERS) if path.exists()), None),
        toolkit=next((tool for tool in tools if tool), None),
        cdi=next((path for path in _cdi_files(root) if _names_gpus(path)), None),
        gpu=next(_gpu_files(root), None),
    )


def _below(root: Path, paths: tuple[str, ...]) -> list[Path]:
    """Absolute paths, as they are when ``root`` is taken for ``/``."""
    return [root / path.lstrip("/") for path in paths]


def _program(root: Path, environ: Mapping[str, str], name: str) -> Path | None:
    """The first executable of that name on PATH; relative entries are left out."""
    entries = environ.get("PATH", os.defpath).split(os.pathsep)
    absolute = tuple(entry for entry in entries if entry.startswith("/"))
    folders = os.pathsep.join(map(str, _below(root, absolute)))
    found = shutil.which(name, path=folders)
    return Path(found) if found else None


def _socket(root: Path, environ: Mapping[str, str], access: Access) -> Path | None:
    """The first socket that this user may use; else the first there is."""
    found = [path for path in _below(root, _socket_paths(environ)) if _is_socket(path)]
    usable = (path for path in found if access(path, os.R_OK | os.W_OK))
    return next(usable, found[0] if found else None)


def _socket_paths(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where a daemon's socket may be: as told, else root's, a rootless one, Docker Desktop's."""
    if host := environ.get("DOCKER_HOST"):
        return (host.removeprefix("unix://"),)
    paths = ["/var/run/docker.sock"]
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        paths.append(f"{runtime}/docker.sock")
    if home := environ.get("HOME"):
        paths += [f"{home}/.docker/run/docker.sock", f"{home}/.docker/desktop/docker.sock"]
    return tuple(paths)


def _is_socket(path: Path) -> bool:
    # Docker itself makes a directory of that name where a missing socket is mounted; and
    # another user's runtime directory may not even be looked into.
    with contextlib.suppress(OSError):
        return stat.S_ISSOCK(path.stat().st_mode)
    return False


def _cdi_files(root: Path) -> Iterator[Path]:
    for folder in _below(root, _CDI_FOLDERS):
        with contextlib.suppress(OSError):
            for path in sorted(folder.iterdir()):
                if path.suffix in {".json", ".yaml"}:
                    yield path


def _gpu_files(root: Path) -> Iterator[Path]:
    """The driver's own list first: device files are only made at first use."""
    for pattern in (
        "proc/driver/nvidia/gpus/*",
        "dev/nvidia[0-9]*",
        "usr/lib/wsl/lib/libnvidia-ml.so*",
    ):
        with contextlib.suppress(OSError):
            yield from sorted(root.glob(pattern))


def _names_gpus(path: Path) -> bool:
    """Whether a specification is of NVIDIA's GPUs. Its name may be anything: the text decides."""
    with contextlib.suppress(OSError), path.open(errors="replace") as file:
        return _CDI_KIND.search(file.read(_CDI_BYTES)) is not None
    return False
