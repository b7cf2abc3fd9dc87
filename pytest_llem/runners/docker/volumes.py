"""Volumes of a daemon that hold models: filled once for each content, found by later sessions.

A container of the experiment's own image writes what comes over its standard input, which is also
its lifeline: a copy that breaks off leaves no container, and a volume that nobody takes for
complete. Its name makes it the only one that fills a volume, whoever else tries.
"""

from __future__ import annotations

import contextlib
import functools
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pytest_llem.errors import ContainerError
from pytest_llem.metrics import show
from pytest_llem.runners.docker.container import removed
from pytest_llem.runners.docker.contents import File, digest, fingerprint
from pytest_llem.runners.docker.daemon import Daemon
from pytest_llem.runners.docker.errors import translated
from pytest_llem.runners.docker.stream import STDOUT, Stream

__all__ = ["MODEL", "Place", "copied", "put", "writable"]

MODEL = "org.llem.model"
"""Label of a volume with a model: its name."""

_PLACE = "org.llem.model-place"
_BYTES = "org.llem.model-bytes"
_CACHE = "org.llem.cache"
_TARGET = "/llem"
_MARK = ".llem-complete"
_CONFLICT = 409

_ANSWER_S = 60.0
_DISK_S = 600.0
"""Other containers write to the daemon's disk too, and what we sent is to be on it."""

_BUSY_S = 0.25
_TOLD_S = 0.5
_CHUNK_BYTES = 1 << 20

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where volumes are filled.

    Attributes:
        daemon: that has them.
        image: of the containers that fill them; it has a Python.
        labels: of these containers; not of the volumes, which stay.
        tell: takes a line on how far a copy is.
    """

    daemon: Daemon
    image: str
    labels: Mapping[str, str]
    tell: Tell


def put(place: Place, model: str, files: Sequence[File]) -> str:
    """Have files in a volume; returns its name.

    Args:
        place: where.
        model: what they are, for the user.
        files: named as they are to be in the volume.

    Raises:
        ContainerError: when they can't be copied.
        OSError: when they can't be read.
    """
    labels = {MODEL: model, _PLACE: fingerprint(files), _BYTES: str(_size(files))}
    content = copied(place.daemon, files)
    if content is None:
        content = _name(digest(files))
        _make(place.daemon, content, labels)
    _fill(place, content, model, files)
    return content


def copied(daemon: Daemon, files: Sequence[File]) -> str | None:
    """The volume that these very files were copied to before, as far as its labels tell.

    Nothing is read but names, sizes and times.

    Raises:
        ContainerError: when the daemon doesn't answer.
    """
    with translated("connect", url=daemon.url):
        found = daemon.api.volumes(filters={"label": f"{_PLACE}={fingerprint(files)}"})
    return next((str(volume["Name"]) for volume in found["Volumes"] or ()), None)


def writable(place: Place, owner: int) -> str:
    """A volume of a user's own that engines fetch models into; they find a folder ``hub`` there."""
    name = f"llem-cache-{owner}"
    _make(place.daemon, name, {_CACHE: str(owner)})
    _fill(place, name, "", [File(name="hub")])
    return name


def _name(content: str) -> str:
    return f"llem-model-{content[:32]}"


def _size(files: Sequence[File]) -> int:
    return sum(file.size_bytes for file in files)


def _make(daemon: Daemon, name: str, labels: Mapping[str, str]) -> None:
    """Make a volume, should it not be there; its labels stay those of the first."""
    with translated("create", url=daemon.url):
        daemon.api.create_volume(name=name, labels=dict(labels))


def _fill(place: Place, volume: str, model: str, files: Sequence[File]) -> None:
    """Have the volume filled, by us or by whoever is at it already."""
    with _unpacking(place, volume) as stream:
        said = _answer(stream, _ANSWER_S)
        if said == "send":
            if model:
                place.tell(f"copying {model} to {place.daemon.name or place.daemon.url}")
            whole = _send(stream, model, files, place.tell)
            said = _answer(stream, _DISK_S)
            if not whole and said == "":
                said = "the connection broke off"
        if said in ("here", "done"):
            return
        raise _failed(place, volume, said)


@contextlib.contextmanager
def _unpacking(place: Place, volume: str) -> Iterator[Stream]:
    """A container that fills the volume; it is gone afterwards, whatever happens."""
    api = place.daemon.api
    container = _only_one(place, volume)
    stream: Stream | None = None
    try:
        with translated("start", url=place.daemon.url, image=place.image):
            wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            stream = Stream(api.attach_socket(container, params=wanted))
            api.start(container)
        yield stream
    finally:
        if stream is not None:
            stream.close()
        removed(place.daemon, container)


def _only_one(place: Place, volume: str) -> str:
    """Create the container that fills a volume; wait as long as another one does."""
    import docker.errors

    told = False
    while True:
        try:
            return _create(place, volume)
        except docker.errors.APIError as error:
            if error.status_code != _CONFLICT:
                with translated("create", url=place.daemon.url, image=place.image):
                    raise
        if not told:
            place.tell(f"waiting for another session that copies to {volume}")
            told = True
        time.sleep(_BUSY_S)


def _create(place: Place, volume: str) -> str:
    from docker.types import LogConfig, Mount

    found = place.daemon.api.create_container(
        place.image,
        entrypoint=["python3", "-I", "-c", _program()],
        command=[_TARGET, volume],
        name=f"{volume}-copy",
        user="0:0",
        labels=dict(place.labels),
        stdin_open=True,
        host_config=place.daemon.api.create_host_config(
            mounts=[Mount(target=_TARGET, source=volume, type="volume", no_copy=True)],
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            pids_limit=16,
            auto_remove=True,
            init=True,
            log_config=LogConfig(type="none"),
        ),
    )
    return str(found["Id"])


@functools.cache
def _program() -> str:
    return (resources.files("pytest_llem") / "worker" / "unpack.py").read_text("utf-8")


def _answer(stream: Stream, timeout_s: float) -> str:
    """The next line that it says; empty where it ends, or says nothing in time."""
    line = b""
    deadline = time.monotonic() + timeout_s
    while not line.endswith(b"\n") and (left := deadline - time.monotonic()) > 0:
        pieces = stream.receive(left)
        if not pieces:
            break
        line += b"".join(data for kind, data in pieces if kind == STDOUT)
    return line.decode(errors="replace").strip()


def _send(stream: Stream, model: str, files: Sequence[File], tell: Tell) -> bool:
    """Send everything as a tar archive, piece by piece; False when the other side is gone."""
    total, done, told_s = _size(files), 0, time.monotonic()
    for data in _archive(files):
        if not stream.send(data):
            return False
        done += len(data)
        if model and time.monotonic() - told_s >= _TOLD_S:
            told_s = time.monotonic()
            size = show(min(done, total), "bytes")
            tell(f"copying {model}: {size} of {show(total, 'bytes')}")
    return True


def _archive(files: Sequence[File]) -> Iterator[bytes]:
    """A tar archive that everybody may read, its last member the mark of its end."""
    for file in files:
        info = tarfile.TarInfo(file.name)
        if file.path is None:
            info.type, info.mode = tarfile.DIRTYPE, 0o777
            yield _header(info)
            continue
        info.size, info.mode = file.size_bytes, 0o644
        yield _header(info)
        yield from _content(file.path, file.size_bytes)
    yield _header(tarfile.TarInfo(_MARK))
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(format=tarfile.PAX_FORMAT)


def _content(path: Path, size_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        left = size_bytes
        while left:
            data = file.read(min(left, _CHUNK_BYTES))
            if not data:
                raise OSError(f"{path} became shorter while it was copied")
            left -= len(data)
            yield data
    yield bytes(-size_bytes % tarfile.BLOCKSIZE)


def _failed(place: Place, volume: str, said: str) -> ContainerError:
    name = place.daemon.name or place.daemon.url
    reason = said.removeprefix("failed: ") or "the container that writes it ended early"
    fix = "see whether the image has python3, and what the daemon's log says"
    if "space" in reason:
        fix = f"free space on {name}: docker volume ls --filter label={MODEL}, docker system df"
    return ContainerError(
        f"a model could not be copied to the volume {volume} of {name}: {reason}",
        phase="create",
        cause="no space" if "space" in reason else "copy failed",
        fix=fix,
    )
