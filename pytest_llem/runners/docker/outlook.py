"""What containers would have to get before they can measure: for a plan, which must come at once.

The daemon is asked what it has; nobody else is, and nothing is fetched, copied or run.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pytest_llem.errors import ContainerError
from pytest_llem.experiment import Experiment
from pytest_llem.runners.docker import hub
from pytest_llem.runners.docker.contents import File, tree
from pytest_llem.runners.docker.daemon import Daemon, connect
from pytest_llem.runners.docker.image import look
from pytest_llem.runners.docker.models import hub_files, is_hub_id
from pytest_llem.runners.docker.volumes import copied
from pytest_llem.runners.fetch import Copy, ImageSupply

__all__ = ["Outlook"]

_TIMEOUT_S = 2.0


class Outlook:
    """Asks one daemon, should it answer soon."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Take what says where the daemon is; it is reached at the first question."""
        self._environ = environ
        self._reason = ""

    def close(self) -> None:
        """Close the connection, if there is one."""
        if "_daemon" in self.__dict__ and self._daemon is not None:
            self._daemon.close()

    @functools.cached_property
    def _daemon(self) -> Daemon | None:
        try:
            return connect(self._environ, timeout_s=_TIMEOUT_S)
        except ContainerError as error:
            self._reason = error.message
            return None

    def image(self, name: str) -> ImageSupply:
        """Whether an image is there, and its size."""
        if self._daemon is None:
            return ImageSupply(name=name, here=None, reason=self._reason)
        try:
            found = look(self._daemon, name)
        except ContainerError as error:
            return ImageSupply(name=name, here=None, reason=error.message)
        if found is None:
            return ImageSupply(name=name, here=False)
        return ImageSupply(name=name, here=True, size_bytes=found.size_bytes)

    def copies(self, experiments: Iterable[Experiment]) -> list[Copy]:
        """Models that a daemon elsewhere would be sent, each once; none for one of this host."""
        daemon = self._daemon
        if daemon is None or daemon.local:
            return []
        found: dict[tuple[str, str | None], Copy] = {}
        for experiment in experiments:
            key = (experiment.model, experiment.revision)
            copy = self._copy(daemon, experiment)
            # Weights that one of several needs are sent.
            if copy is not None and copy.size_bytes >= getattr(found.get(key), "size_bytes", 0):
                found[key] = copy
        return list(found.values())

    def _copy(self, daemon: Daemon, experiment: Experiment) -> Copy | None:
        try:
            files = self._files(experiment)
            if not files:
                return None
            return Copy(
                model=experiment.model,
                daemon=daemon.name or daemon.url,
                size_bytes=sum(file.size_bytes for file in files),
                done=copied(daemon, files) is not None,
            )
        except (OSError, ContainerError):
            # Said of the model itself, or where it is used.
            return None

    def _files(self, experiment: Experiment) -> list[File]:
        if Path(experiment.model).is_absolute():
            return tree(Path(experiment.model), weights=experiment.weights == "pretrained")
        if not is_hub_id(experiment):
            return []
        environ = {**self._environ, **experiment.env}
        return hub_files(experiment, hub.cache_folder(environ))
