"""How containers are run: what studies and users say, over defaults that are safe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_llem.study.keys import DockerSettings
from pytest_llem.wire import to_dict

__all__ = ["Settings", "given", "keeps_engine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be said about a container, with what holds where nobody says it.

    Attributes:
        strategy: ``ephemeral``: a container for each measurement; ``persistent``: one for each
            backend.
        pull: ``missing``: an image that isn't there is fetched; ``never``: it is an error.
        warmup_delay: seconds to wait after a start of a persistent container.
        auto_teardown: remove a persistent container at the session's end.
        max_restarts: of a persistent container that is unwell.
        gpu_memory_threshold_pct: GPU memory in use above which a container is unwell; None for 5 %
            above what was in use once the engine was loaded.
        user: ``uid[:gid]``; None for the caller's own.
        network: None for ``none`` where model and image are here, else ``bridge``.
        shm_size: of /dev/shm; Docker's own 64 MB are too small for engines of several processes.
        ulimits: both vLLM and TensorRT-LLM ask for these.
        volumes: binds, ``host:container[:ro]``.
    """

    strategy: Literal["ephemeral", "persistent"] = "ephemeral"
    pull: Literal["missing", "never"] = "missing"
    warmup_delay: float = 0.0
    auto_teardown: bool = True
    max_restarts: int = 3
    gpu_memory_threshold_pct: float | None = None
    user: str | None = None
    read_only: bool = True
    network: str | None = None
    shm_size: str = "8g"
    ipc: str = "private"
    ulimits: Mapping[str, int] = field(default_factory=lambda: {"memlock": -1, "stack": 67108864})
    volumes: tuple[str, ...] = ()

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Settings:
        """Settings from what :func:`given` found; unknown keys are of no concern to containers."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in said.items() if key in known})


def given(*sources: DockerSettings) -> dict[str, Any]:
    """What several sources say of containers, the first that says a key wins; plain data."""
    found: dict[str, Any] = {}
    for source in reversed(sources):
        found |= {key: value for key, value in to_dict(source).items() if value is not None}
    return found


def keeps_engine(said: Mapping[str, Any]) -> bool:
    """Whether containers are kept, and engines in them."""
    return Settings.of(said).strategy == "persistent"
