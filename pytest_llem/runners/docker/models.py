"""How the model of an experiment gets into a container, and what else of this host it names.

A daemon that sees this host's files binds them, read-only, at the paths that the experiment names;
nothing is copied. To any other they are copied once for each content, into volumes that are seen at
the same paths. The hub's cache is seen at :data:`HUB`, and the hub isn't asked then.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llem.errors import ContainerError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import WELL_KNOWN
from pytest_llem.runners.docker import hub
from pytest_llem.runners.docker.contents import File, fingerprint, links_out, tree
from pytest_llem.runners.docker.daemon import Daemon
from pytest_llem.runners.docker.order import Mount
from pytest_llem.runners.docker.sight import sees
from pytest_llem.runners.docker.volumes import Place, Tell, put, writable
from pytest_llem.runners.models import asks_hub

__all__ = ["HUB", "NOTHING", "Models", "Provision", "hub_files", "is_hub_id"]

HUB = Path("/llem/hub")
"""The hub's cache in containers."""

_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_CACHES = frozenset({"cache_dir", "download_dir"})
"""Options that name a folder into which an engine fetches."""

_LEAST_PARTS = 3
"""Of a path that an option names: ``/tmp`` or ``/usr`` would hide what the image has there."""

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """What a container needs for the model of an experiment.

    Attributes:
        mounts: in no particular order.
        environment: variables for the container.
        model: as the worker must name it.
        network_needed: whether something is fetched from within.
        secrets: what the worker is told with the request and by no other way.
        about: how the model gets there, for the report: plain data without paths of this host.
    """

    mounts: tuple[Mount, ...]
    environment: Mapping[str, str]
    model: str
    network_needed: bool
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    about: Mapping[str, Any] = field(default_factory=dict)


NOTHING = Provision(mounts=(), environment={}, model="", network_needed=False)
"""For a worker without a model."""


class Models:
    """Gets models to one daemon; what is there already is looked at once."""

    def __init__(
        self,
        daemon: Daemon,
        *,
        labels: Mapping[str, str],
        environ: Mapping[str, str] = os.environ,
        tell: Tell = lambda _: None,
    ) -> None:
        """Take where they are needed.

        Args:
            daemon: of the containers.
            labels: of containers that exist for a moment.
            environ: of the caller: where the hub's cache and the token are.
            tell: takes a line on how far a fetch or a copy is, a few times a second; may be
                changed between two of them.
        """
        self._daemon = daemon
        self._labels = labels
        self._environ = environ
        self.tell = tell
        self._seen: dict[Path, bool] = {}
        self._volumes: dict[str, str] = {}

    def provide(self, experiment: Experiment, image: str) -> Provision:
        """Have what an experiment names ready for a container.

        Args:
            experiment: that is to be measured.
            image: of its container; it is there already.

        Raises:
            ContainerError: when it can't be fetched, read or copied.
        """
        try:
            named = [self._path(path, image, experiment) for path in _paths(experiment)]
            model = self._model(experiment, image)
        except OSError as error:
            raise ContainerError(
                f"{experiment.model}: can't be given to a container: {error}",
                phase="create",
                cause="model unreadable",
                fix="check that you may read every file of it",
            ) from error
        mounts = [mount for part in (*named, model.mounts) for mount in part]
        return Provision(
            mounts=_each_once(mounts),
            environment=model.environment,
            model=experiment.model,
            network_needed=model.network_needed,
            secrets=model.secrets,
            about=model.about,
        )

    # --- paths -----------------------------------------------------------------------------

    def _path(self, path: Path, image: str, experiment: Experiment) -> list[Mount]:
        """A file or directory at its own path."""
        writes = path in _fetched_into(experiment)
        if not self._is_seen(path, image):
            return [] if writes else self._copied(path, image, experiment)
        real = path.resolve()
        own = Mount(source=str(real), target=str(path), read_only=not writes)
        return [own, *_bound(links_out(real, path) if real.is_dir() else ())]

    def _copied(self, path: Path, image: str, experiment: Experiment) -> list[Mount]:
        if path.is_dir():
            weights = str(path) != experiment.model or experiment.weights == "pretrained"
            files, target = tree(path, weights=weights), path
        else:
            # A volume is a directory: that of the file, with nothing else in it but what other
            # volumes need there, for within a read-only one no place can be made for them.
            stat, target = path.stat(), path.parent
            one = File(
                name=path.name,
                path=path.resolve(),
                size_bytes=stat.st_size,
                modified_ns=stat.st_mtime_ns,
            )
            below = [other for other in _paths(experiment) if target in other.parents]
            folders = {other.relative_to(target).as_posix() for other in below if other.is_dir()}
            others = [_plain(other, target) for other in below if not other.is_dir()]
            files = sorted(
                {one, *others, *(File(name=name) for name in folders)}, key=lambda file: file.name
            )
        volume = self._volume(image, path.name, files)
        return [Mount(kind="volume", source=volume, target=str(target))]

    def _is_seen(self, path: Path, image: str) -> bool:
        """Whether the daemon sees a path of this host; asked of it, as a socket may be a VM's."""
        if not self._daemon.local:
            return False
        if path not in self._seen:
            self._seen[path] = sees(self._daemon, path, image, self._labels)
        return self._seen[path]

    def _volume(self, image: str, name: str, files: Sequence[File]) -> str:
        """A volume with these files; asked about once."""
        key = fingerprint(files)
        if key not in self._volumes:
            self._volumes[key] = put(self._place(image), name, files)
        return self._volumes[key]

    def _place(self, image: str) -> Place:
        return Place(daemon=self._daemon, image=image, labels=self._labels, tell=self.tell)

    # --- the hub ---------------------------------------------------------------------------

    def _model(self, experiment: Experiment, image: str) -> Provision:
        """Everything of a model but what its path asks for."""
        model = experiment.model
        if Path(model).is_absolute():
            how = "bound" if self._is_seen(Path(model), image) else "copied"
            return _provision(model, (), {**_OFFLINE}, {"model": how})
        if not is_hub_id(experiment):
            return _provision(model, (), {}, {"model": "left to the engine"}, network=True)
        environ = {**self._environ, **experiment.env}
        cache = hub.cache_folder(environ)
        if not self._here(experiment, cache, environ):
            return self._fetched_within(experiment, image, environ)
        folder = cache / hub.model_folder(model)
        environment = {**_OFFLINE, "HF_HUB_CACHE": str(HUB)}
        if self._is_seen(folder, image):
            mounts = [
                Mount(source=str(cache), target=str(HUB)),
                *_bound(links_out(folder.resolve(), HUB / folder.name, within=[HUB])),
            ]
            return _provision(model, mounts, environment, {"model": "bound from the hub's cache"})
        volume = self._volume(image, model, hub_files(experiment, cache))
        mounts = [Mount(kind="volume", source=volume, target=str(HUB))]
        about = {"model": "copied from the hub's cache", "volume": volume}
        return _provision(model, mounts, environment, about)

    def _here(self, experiment: Experiment, cache: Path, environ: Mapping[str, str]) -> bool:
        """Whether a model is in this host's cache; it is fetched where that can be done."""
        model, revision = experiment.model, experiment.revision
        weights = experiment.weights == "pretrained"
        if hub.snapshot(cache, model, revision, weights=weights):
            return True
        if experiment.backend not in WELL_KNOWN or hub.offline(environ):
            return False
        try:
            token = hub.token(environ)
            fetched = hub.fetch(
                model, revision, cache, weights=weights, token=token, tell=self.tell
            )
        except OSError as error:
            raise ContainerError(
                f"{model}: can't be fetched from the hub: {error}",
                phase="create",
                cause="model not fetched",
                fix="check network, disk and login, or fetch it before: hf download " + model,
            ) from error
        return fetched and hub.snapshot(cache, model, revision, weights=weights) is not None

    def _fetched_within(
        self, experiment: Experiment, image: str, environ: Mapping[str, str]
    ) -> Provision:
        """The engine fetches it, into a volume that stays."""
        token = hub.token(environ)
        volume = writable(self._place(image), os.getuid())
        mounts = [Mount(kind="volume", source=volume, target=str(HUB.parent), read_only=False)]
        return _provision(
            experiment.model,
            mounts,
            {"HF_HUB_CACHE": str(HUB)},
            {"model": "fetched in the container", "volume": volume},
            network=True,
            secrets={"HF_TOKEN": token} if token else {},
        )


def is_hub_id(experiment: Experiment) -> bool:
    """Whether a model is one of the hub, as far as a name tells."""
    model = experiment.model
    if Path(model).is_absolute() or not _ID.fullmatch(model):
        return False
    return asks_hub(experiment) or experiment.backend not in WELL_KNOWN


def hub_files(experiment: Experiment, cache: Path) -> list[File]:
    """A model of the hub's cache, in that cache's own layout.

    Raises:
        OSError: when it can't be read.
    """
    weights = experiment.weights == "pretrained"
    found = hub.snapshot(cache, experiment.model, experiment.revision, weights=weights)
    if found is None:
        return []
    own = found.parents[1]
    prefix = f"{own.name}/snapshots/{found.name}/"
    files = [
        File(
            name=prefix + file.name,
            path=file.path,
            size_bytes=file.size_bytes,
            modified_ns=file.modified_ns,
        )
        for file in tree(found, weights=weights)
    ]
    reference = own / "refs" / (experiment.revision or "main")
    if reference.is_file():
        files.append(_plain(reference, own.parent))
    return files


def _provision(
    model: str,
    mounts: Sequence[Mount],
    environment: Mapping[str, str],
    about: Mapping[str, Any],
    *,
    network: bool = False,
    secrets: Mapping[str, str] = {},
) -> Provision:
    return Provision(
        mounts=tuple(mounts),
        environment=environment,
        model=model,
        network_needed=network,
        secrets=secrets,
        about=about,
    )


def _plain(path: Path, above: Path) -> File:
    stat = path.stat()
    return File(
        name=path.relative_to(above).as_posix(),
        path=path.resolve(),
        size_bytes=stat.st_size,
        modified_ns=stat.st_mtime_ns,
    )


def _paths(experiment: Experiment) -> list[Path]:
    """The paths of this host that an experiment names."""
    texts = [experiment.model, experiment.prompts.source]
    found = {Path(text): None for text in texts if Path(text).is_absolute()}
    for path in map(Path, _texts(experiment.options)):
        if path.is_absolute() and len(path.parts) >= _LEAST_PARTS and path.exists():
            found[path] = None
    return list(found)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)


def _fetched_into(experiment: Experiment) -> set[Path]:
    """Folders into which the engine is told to fetch models."""
    named = (experiment.options.get(key) for key in _CACHES)
    return {Path(value) for value in named if isinstance(value, str)}


def _bound(links: Sequence[tuple[Path, Path]]) -> list[Mount]:
    return [Mount(source=str(source), target=str(target)) for source, target in links]


def _each_once(mounts: Sequence[Mount]) -> tuple[Mount, ...]:
    return tuple({mount.target: mount for mount in mounts}.values())
