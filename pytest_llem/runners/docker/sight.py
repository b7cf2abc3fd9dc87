"""Whether a daemon sees the files of this host.

One behind a socket of this host may all the same run elsewhere: in a virtual machine, or with
mounts of its own. Then a path isn't there, or what is there is something else.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_llem.runners.docker.container import removed
from pytest_llem.runners.docker.daemon import Daemon
from pytest_llem.runners.docker.errors import translated

__all__ = ["sees"]

_TARGET = "/llem"
_MISSING = "bind source path does not exist"


def sees(daemon: Daemon, path: Path, image: str, labels: Mapping[str, str]) -> bool:
    """Whether a daemon has the very file that is here, at the same path of its own host.

    Nothing is run for it: a container is created, looked into and removed.

    Args:
        daemon: to be asked.
        path: a file, or a directory of which one file is looked at.
        image: of any kind, at the daemon.
        labels: of the container.

    Raises:
        ContainerError: when the daemon can't say.
        OSError: when the path can't be read here.
    """
    import docker.errors

    file = _smallest(path.resolve())
    if file is None:
        return True
    with translated("create", url=daemon.url, image=image):
        try:
            found = _looked_at(daemon, file, image, labels)
        except docker.errors.NotFound:
            return False
        except docker.errors.APIError as error:
            if _MISSING in str(error.explanation):
                return False
            raise
    stat = file.stat()
    modified = datetime.datetime.fromtimestamp(int(stat.st_mtime), datetime.timezone.utc)
    return int(found["size"]) == stat.st_size and _seconds(str(found["mtime"])) == modified


def _looked_at(
    daemon: Daemon, file: Path, image: str, labels: Mapping[str, str]
) -> Mapping[str, Any]:
    """What the daemon says of a file."""
    from docker.types import Mount

    api = daemon.api
    mount = Mount(target=_TARGET, source=str(file.parent), type="bind", read_only=True)
    container = api.create_container(
        image,
        ["true"],
        labels=dict(labels),
        host_config=api.create_host_config(mounts=[mount], network_mode="none"),
    )["Id"]
    try:
        content, found = api.get_archive(container, f"{_TARGET}/{file.name}")
        for _ in content:  # read to its end, the connection can be used again
            pass
    finally:
        removed(daemon, str(container))
    said: Mapping[str, Any] = found
    return said


def _smallest(path: Path) -> Path | None:
    """A file that is quick to look at, links followed; None where there is none."""
    if path.is_file():
        return path
    files = [file.resolve() for file in path.rglob("*") if file.is_file()]
    return min(files, key=lambda file: file.stat().st_size, default=None)


def _seconds(text: str) -> datetime.datetime:
    """The daemon's time, whose fractions have more digits than Python 3.10 reads."""
    return datetime.datetime.fromisoformat(re.sub(r"\.\d+", "", text).replace("Z", "+00:00"))
