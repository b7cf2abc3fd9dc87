"""What a container is created with: a launch and settings in the words of docker-py. Pure.

Nothing of ours is in the image: its own first program is put aside for a Python that reads ours
from its standard input. The container's root is read-only, it has no capabilities and no network,
it runs as the caller, and what it writes is gone with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from pytest_llem.errors import ContainerError
from pytest_llem.extensions import Launch
from pytest_llem.runners.docker.settings import Settings

__all__ = ["Caller", "Mount", "Surroundings", "about", "create", "gpu_numbers"]

_SCRATCH = "/tmp"
_CACHE = f"{_SCRATCH}/.cache"
_PIDS = 16384
"""Threads count too, and several processes of a hundred each are nothing unusual."""

_NAME = "llem"

ENVIRONMENT: Mapping[str, str] = {
    # A user without an entry in the image's passwd has neither, and torch asks for both.
    "HOME": _SCRATCH,
    "USER": _NAME,
    "LOGNAME": _NAME,
    # Everything that is cached goes where something can be written.
    "TMPDIR": _SCRATCH,
    "XDG_CACHE_HOME": _CACHE,
    "XDG_CONFIG_HOME": f"{_SCRATCH}/.config",
    "XDG_DATA_HOME": f"{_SCRATCH}/.local/share",
    "CUDA_CACHE_PATH": f"{_CACHE}/cuda",
    "FLASHINFER_WORKSPACE_BASE": _SCRATCH,
    "HF_HOME": f"{_CACHE}/huggingface",
    "MPLCONFIGDIR": f"{_CACHE}/matplotlib",
    "NUMBA_CACHE_DIR": f"{_CACHE}/numba",
    "OUTLINES_CACHE_DIR": f"{_CACHE}/outlines",
    "TORCHINDUCTOR_CACHE_DIR": f"{_CACHE}/inductor",
    "TORCH_EXTENSIONS_DIR": f"{_CACHE}/torch_extensions",
    "TORCH_HOME": f"{_CACHE}/torch",
    "TRITON_CACHE_DIR": f"{_CACHE}/triton",
    "VLLM_CACHE_ROOT": f"{_CACHE}/vllm",
    "VLLM_CONFIG_ROOT": f"{_SCRATCH}/.config/vllm",
    # As for workers on this host.
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
    # Numbers of GPUs mean the same to everybody.
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
}
"""Of every container; an image's own values are overridden, and an experiment's override these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Something of the daemon's host, or a volume, to be seen in a container.

    Attributes:
        source: an absolute path on the daemon's host, or a volume's name.
        target: an absolute path in the container.
        kind: ``bind`` for a path, ``volume`` for a volume.
    """

    source: str
    target: str
    read_only: bool = True
    kind: Literal["bind", "volume"] = "bind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whom a container runs as.

    Attributes:
        uid: the caller's.
        gid: the caller's.
        groups: others that the caller is in: a model may be readable for one of them only.
    """

    uid: int
    gid: int
    groups: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a container needs beyond what a launch and settings say.

    Attributes:
        command: entry point with all its arguments.
        caller: whom it runs as, where the settings don't say.
        labels: tell whose it is.
        mounts: models.
        environment: that goes with the mounts.
        network_needed: something must be fetched from within.
        rootless: the daemon belongs to the caller, who is root in its containers.
    """

    command: Sequence[str]
    caller: Caller
    labels: Mapping[str, str]
    mounts: Sequence[Mount] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    network_needed: bool = False
    rootless: bool = False


def create(
    launch: Launch, settings: Settings, around: Surroundings, devices: Sequence[Any] = ()
) -> dict[str, Any]:
    """Keyword arguments of docker-py's ``containers.create``.

    Args:
        launch: with an image.
        settings: how.
        around: and with what.
        devices: requests for GPUs.

    Raises:
        ContainerError: for a volume that can't be understood.
    """
    from docker.types import LogConfig, Ulimit

    assert launch.image is not None
    entry, *arguments = around.command
    order: dict[str, Any] = {
        "image": launch.image,
        "entrypoint": [entry],
        "command": arguments,
        "environment": _environment(launch.environment, around, gpus=bool(devices)),
        "labels": dict(around.labels),
        "working_dir": _SCRATCH,
        "user": _user(settings, around),
        "read_only": settings.read_only,
        # Compiled kernels are loaded from there.
        "tmpfs": {_SCRATCH: "rw,exec,nosuid,nodev,mode=1777"},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "pids_limit": _PIDS,
        "network_mode": network(settings, around),
        "ipc_mode": settings.ipc,
        "ulimits": [Ulimit(name=k, soft=v, hard=v) for k, v in settings.ulimits.items()],
        "mounts": [_mounted(m) for m in (*around.mounts, *map(_volume, settings.volumes))],
        "device_requests": list(devices),
        # It lives as long as its standard input, and removes itself whoever is left to see it.
        "stdin_open": True,
        "init": True,
        "auto_remove": True,
        # Its output comes over the connection; a copy on the daemon's disk is of no use.
        "log_config": LogConfig(type="none"),
    }
    if settings.ipc != "host":
        order["shm_size"] = settings.shm_size
    if settings.user is None and around.caller.groups and not around.rootless:
        order["group_add"] = [str(group) for group in around.caller.groups]
    return order


def gpu_numbers(launch: Launch) -> tuple[int, ...]:
    """Numbers of the GPUs that a container gets, in the order of the PCI bus.

    The leased ones; where nobody leases them, as many as the experiment needs, from the first on.
    """
    experiment = launch.experiment
    if experiment is not None and experiment.device in ("cpu", "mps"):
        return ()
    if launch.gpus is not None:
        return launch.gpus
    if experiment is not None and experiment.device == "cuda":
        return tuple(range(experiment.devices))
    return ()


def about(launch: Launch, settings: Settings, around: Surroundings) -> dict[str, Any]:
    """How a container is run, for the report: plain data without paths of this host."""
    said = dataclasses.asdict(settings)
    kept = ("strategy", "read_only", "shm_size", "ipc", "ulimits")
    return {
        "image": launch.image,
        "user": _user(settings, around),
        "network": network(settings, around),
        "gpus": list(gpu_numbers(launch)),
        **{key: said[key] for key in kept},
        "capabilities": "none",
        "no_new_privileges": True,
        "pids_limit": _PIDS,
        "volumes": [mount.target for mount in map(_volume, settings.volumes)],
    }


def network(settings: Settings, around: Surroundings) -> str:
    """The network that a container is in."""
    return settings.network or ("bridge" if around.network_needed else "none")


def _user(settings: Settings, around: Surroundings) -> str:
    if settings.user is not None:
        return settings.user
    return "0:0" if around.rootless else f"{around.caller.uid}:{around.caller.gid}"


def _environment(
    environment: Mapping[str, str], around: Surroundings, *, gpus: bool
) -> dict[str, str]:
    # Images for GPUs ask for all of them, which a daemon may obey without being told to.
    none = {} if gpus else {"NVIDIA_VISIBLE_DEVICES": "void"}
    return {**ENVIRONMENT, **none, **around.environment, **_at_creation(environment)}


def _at_creation(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that are read when a container is made, by NVIDIA's toolkit.

    All others reach the worker over its standard input: these here can be read by whoever may ask
    the daemon.
    """
    return {name: text for name, text in environment.items() if name.startswith("NVIDIA_")}


def _mounted(mount: Mount) -> Any:
    from docker.types import Mount as DockerMount

    return DockerMount(
        target=mount.target, source=mount.source, type=mount.kind, read_only=mount.read_only
    )


def _volume(text: str) -> Mount:
    """``source:target[:ro]`` as a mount, which unlike a volume makes no folder that is missing."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    known = mode in ("", "ro", "rw")
    if not source or not PurePosixPath(target).is_absolute() or not known:
        raise ContainerError(
            f"volume {text!r} can't be understood",
            phase="create",
            cause="bad volume",
            fix="write /path/on/the/host:/path/in/the/container, with :ro for one that is only"
            " read",
        )
    if source.startswith(("/", "~")):
        return Mount(source=source, target=target, read_only=mode == "ro")
    return Mount(source=source, target=target, read_only=mode == "ro", kind="volume")
