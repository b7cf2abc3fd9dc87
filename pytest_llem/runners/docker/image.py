"""Images: looked at, fetched with progress where they are missing, and what they need of a GPU.

Through the daemon's own calls: ``images.pull`` of docker-py throws the daemon's reasons away.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_llem.errors import ContainerError
from pytest_llem.runners.docker.daemon import Daemon
from pytest_llem.runners.docker.errors import translate, translated

__all__ = ["Image", "Progress", "ensure", "look"]

Progress = Callable[[int, int], None]
"""Told of bytes that are here, and of bytes in all; the latter grows while layers are found.

Told at the beginning, when both are 0, and whenever there is news."""

_SILENCE_S = 600.0
"""A daemon tells of each piece that it fetches or unpacks; longest it checks a layer's hash."""

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
"""Names of processors as Linux has them, to those of images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that the daemon has.

    Attributes:
        name: by which it was asked for.
        id: hash of its configuration, ``sha256:…``.
        digest: hash in its registry, ``sha256:…``; None for one that was made or loaded here.
        size_bytes: of all layers, unpacked.
        env: variables that it sets.
        architecture: ``amd64``, ``arm64``, …
        fetched: whether it was missing, and fetched now.
    """

    name: str
    id: str
    digest: str | None
    size_bytes: int
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    architecture: str = ""
    fetched: bool = False


def ensure(
    daemon: Daemon,
    name: str,
    pull: Literal["missing", "never"] = "missing",
    progress: Progress | None = None,
    silence_s: float = _SILENCE_S,
) -> Image:
    """An image, fetched where it is missing and may be.

    Registries that want to know the user get the user's own ``docker login``.

    Args:
        daemon: that is to run it.
        name: ``[registry/]repository[:tag][@digest]``.
        pull: whether it may be fetched.
        progress: told now and then while it is.
        silence_s: so long the daemon may tell nothing of it.

    Raises:
        ContainerError: when there is no such image, or none that this daemon can run.
    """
    image = look(daemon, name)
    if image is None and pull == "never":
        raise ContainerError(
            f"there is no image {name} here, and none is to be fetched",
            phase="pull",
            cause="no image",
            fix=f"docker pull {name}  # or allow it: --llem-pull=missing",
        )
    if image is None:
        _fetch(daemon, name, progress, silence_s)
        image = look(daemon, name)
        if image is None:
            raise translate(_Said(f"no such image: {name}"), "create", image=name)
        image = dataclasses.replace(image, fetched=True)
    return image


def look(daemon: Daemon, name: str) -> Image | None:
    """An image if the daemon has it.

    Raises:
        ContainerError: when the daemon can't run it, or doesn't answer.
    """
    import docker.errors

    with translated("create", url=daemon.url, image=name):
        try:
            found: Mapping[str, Any] = daemon.api.inspect_image(name)
        except docker.errors.NotFound:
            return None
    config = found.get("Config") or {}
    image = Image(
        name=name,
        id=str(found["Id"]),
        digest=_digest(name, found.get("RepoDigests") or []),
        size_bytes=int(found.get("Size") or 0),
        env=dict(entry.partition("=")[::2] for entry in config.get("Env") or []),
        labels=dict(config.get("Labels") or {}),
        architecture=str(found.get("Architecture") or ""),
    )
    _check_platform(daemon, image, str(found.get("Os") or "linux"))
    return image


class _Said(Exception):
    """Something the daemon wrote into a stream of events instead of refusing."""


def _fetch(daemon: Daemon, name: str, progress: Progress | None, silence_s: float) -> None:
    about = {
        "silence": f"{silence_s:g} s",
        "url": daemon.url,
        "image": name,
        "root": daemon.info.get("DockerRootDir"),
        "platform": _platform(daemon),
    }
    layers = _Layers()
    told = progress or (lambda _done, _total: None)
    with (
        translated("pull", **about),
        _limited(daemon.api, "/images/create", silence_s),
        contextlib.closing(_events(daemon, name)) as events,
    ):
        told(0, 0)
        for event in events:
            if error := event.get("errorDetail") or event.get("error"):
                text = error.get("message") if isinstance(error, dict) else error
                raise translate(_Said(str(text)), "pull", **about)
            if layers.changed_by(event):
                told(layers.done_bytes, layers.total_bytes)


def _events(daemon: Daemon, name: str) -> Generator[dict[str, Any], None, None]:
    """What the daemon tells while it fetches; closed early, it stops fetching."""
    events: Generator[dict[str, Any], None, None] = daemon.api.pull(name, stream=True, decode=True)
    yield from events


@contextlib.contextmanager
def _limited(api: Any, path: str, silence_s: float) -> Iterator[None]:
    """Have calls of a path fail when nothing is heard for so long: docker-py waits for ever."""
    from requests.adapters import BaseAdapter

    inner = api.get_adapter(api.base_url)

    class Limited(BaseAdapter):
        """A transport of requests for what begins with its prefix."""

        def send(self, *request: Any, **how: Any) -> Any:
            return inner.send(*request, **{**how, "timeout": silence_s})

        def close(self) -> None:
            """Leave the other one open."""

    prefix = f"{api.base_url}/v{api.api_version}{path}"
    api.mount(prefix, Limited())
    try:
        yield
    finally:
        del api.adapters[prefix]


class _Layers:
    """Sums up what is told of single layers."""

    def __init__(self) -> None:
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}

    @property
    def done_bytes(self) -> int:
        return sum(self._done.values())

    @property
    def total_bytes(self) -> int:
        return sum(self._total.values())

    def changed_by(self, event: Mapping[str, Any]) -> bool:
        """Take an event; whether it told of bytes."""
        layer, status = str(event.get("id", "")), event.get("status")
        detail = event.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total"):
            self._done[layer] = int(detail.get("current") or 0)
            self._total[layer] = int(detail["total"])
            return True
        if status in {"Download complete", "Extracting", "Pull complete"} and layer in self._total:
            before, self._done[layer] = self._done[layer], self._total[layer]
            return before != self._total[layer]
        return False


def _digest(name: str, digests: list[str]) -> str | None:
    """Of the repository that was asked for, should the image be in several."""
    repository = name.partition("@")[0]
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    known = dict(entry.partition("@")[::2] for entry in digests)
    return known.get(repository) or next(iter(known.values()), None)


def _platform(daemon: Daemon) -> str:
    """Of the daemon's host, as images name it: ``linux/amd64``."""
    machine = str(daemon.info.get("Architecture") or "")
    return f"{daemon.info.get('OSType') or 'linux'}/{_MACHINES.get(machine, machine)}"


def _check_platform(daemon: Daemon, image: Image, system: str) -> None:
    """Refuse an image for another processor: emulated, no figure of it would mean anything."""
    wanted, found = _platform(daemon), f"{system}/{image.architecture}"
    if image.architecture and not wanted.endswith("/") and found != wanted:
        raise ContainerError(
            f"{image.name} is made for {found}, and the Docker daemon's host is {wanted}",
            phase="create",
            cause="wrong platform",
            fix=f"name an image that is made for {wanted}",
        )
