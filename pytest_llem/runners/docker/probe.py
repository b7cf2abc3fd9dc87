"""A container of an image, for a second: whether Python starts there, and what NVML says."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llem.errors import ContainerError
from pytest_llem.runners.docker import probe_script
from pytest_llem.runners.docker.container import removed
from pytest_llem.runners.docker.daemon import Daemon
from pytest_llem.runners.docker.devices import gpu_requests, started
from pytest_llem.runners.docker.errors import said, translate, translated
from pytest_llem.runners.docker.image import Image
from pytest_llem.runners.docker.stream import STDERR, STDOUT, Stream

if TYPE_CHECKING:
    from docker.types import DeviceRequest

__all__ = ["LIMIT_S", "Probe", "probe"]

LIMIT_S = 30.0

_FLAGS = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
_HARDENED: Mapping[str, Any] = {
    "auto_remove": True,
    "cap_drop": ["ALL"],
    "init": True,
    "log_config": {"Type": "none"},
    "network_mode": "none",
    "pids_limit": 64,
    "read_only": True,
    "security_opt": ["no-new-privileges"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What was found inside of a container.

    Attributes:
        python: its version.
        gpus: UUIDs of all GPUs that NVML shows there.
        driver: version of the driver; empty where NVML doesn't work.
        cuda: latest version of CUDA that the driver supports; None as well.
        nvml: NVML's own number for what went wrong; 0 for nothing.
        missing: why NVML can't be loaded at all; empty where it can.
    """

    python: str
    gpus: tuple[str, ...] = ()
    driver: str = ""
    cuda: tuple[int, int] | None = None
    nvml: int = 0
    missing: str = ""


def probe(
    daemon: Daemon,
    image: Image,
    *,
    gpus: bool,
    labels: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    limit_s: float = LIMIT_S,
) -> Probe:
    """Look into an image's container.

    Args:
        daemon: that runs it.
        image: that it has.
        gpus: whether the container is given all GPUs, and NVML is asked.
        labels: of the container.
        environment: variables to set in it.
        limit_s: for all of it.

    Raises:
        ContainerError: when it can't be started, has no Python, or doesn't answer in time.
    """
    deadline = time.monotonic() + limit_s
    ways = gpu_requests(daemon.info, None if gpus else ())
    order = {
        **_HARDENED,
        "entrypoint": ["python3", "-I", "-", *(["--gpus"] if gpus else [])],
        "environment": dict(environment or {}),
        "labels": dict(labels or {}),
    }
    try:
        return _read(image, started(ways, functools.partial(_run, daemon, image, order, deadline)))
    except ContainerError as error:
        if error.cause != "no command":
            raise
        raise ContainerError(
            f"{image.name} has no Python: python3 isn't on its PATH",
            phase="start",
            cause="no python",
            fix="name an image that has Python 3.10 or newer and the engine in it",
        ) from error


def _run(
    daemon: Daemon,
    image: Image,
    order: Mapping[str, Any],
    deadline: float,
    devices: list[DeviceRequest],
) -> tuple[bytes, bytes]:
    """What the script wrote to standard output and standard error."""
    about = {"url": daemon.url, "image": image.name}
    with translated("create", **about):
        container = daemon.client.containers.create(
            image.id, stdin_open=True, device_requests=devices, **order
        )
    try:
        with translated("start", **about):
            stream = Stream(daemon.api.attach_socket(container.id, params=_FLAGS))
            with contextlib.closing(stream):
                container.start()
                return _converse(stream, deadline)
    finally:
        # It removes itself at its end, but not when it was never started.
        removed(daemon, str(container.id))


def _converse(stream: Stream, deadline: float) -> tuple[bytes, bytes]:
    """Send the script, and take what it writes."""
    stream.send(inspect.getsource(probe_script).encode())
    stream.end_input()
    written = {STDOUT: b"", STDERR: b""}
    while not stream.ended:
        pieces = stream.receive(deadline - time.monotonic())
        if pieces is None:
            raise TimeoutError("a probe container timed out")
        for kind, data in pieces:
            written[kind] += data
    return written[STDOUT], written[STDERR]


def _read(image: Image, written: tuple[bytes, bytes]) -> Probe:
    out, log = (data.decode(errors="replace") for data in written)
    for line in out.splitlines():
        if line.startswith(probe_script.MARK):
            found = json.loads(line[len(probe_script.MARK) :])
            cuda = found.get("cuda")
            return Probe(
                python=found["python"],
                gpus=tuple(found["gpus"]),
                driver=found.get("driver", ""),
                cuda=(cuda // 1000, cuda % 1000 // 10) if cuda else None,
                nvml=found.get("nvml", 0),
                missing=found.get("missing", ""),
            )
    words = said(log) or "it ended without a word"
    raise translate(RuntimeError(f"a probe in it failed: {words}"), "start", image=image.name)
