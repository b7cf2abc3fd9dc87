"""The precedence chain: which runner a backend gets, and who said so. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from pytest_llem.demands import RunnerSpec
from pytest_llem.errors import RunnerError
from pytest_llem.runners.detect import Detected

__all__ = [
    "DETECTED",
    "MIXED",
    "NOT_DETECTED",
    "elevate",
    "elevated",
    "parse_pairs",
    "refused",
    "resolve",
]

DETECTED = "Docker detected. Using containerised execution for reproducible measurements."
NOT_DETECTED = (
    "Docker not detected. Install Docker + NVIDIA Container Toolkit for reproducible isolated"
    " measurements."
)
MIXED = (
    "Mixed runners detected. For consistent measurements, consider running all backends in Docker."
)


def resolve(
    backend: str,
    sources: Mapping[str, Mapping[str, str]],
    detected: Detected,
    others: Collection[str] = (),
) -> RunnerSpec:
    """The runner of a backend: the first source that sets it wins.

    Where none does, it is ``docker`` if containers with GPUs seem to work here, else ``local``.

    Args:
        backend: its name.
        sources: name of a source (``cli env study ini user_config``), highest first, to what it
            says for each backend. An empty text counts as not set.
        detected: what the file system says of Docker.
        others: names of runners besides ``local`` and ``docker``.

    Raises:
        RunnerError: when the winning value names no runner.
    """
    for source, values in sources.items():
        if value := values.get(backend, "").strip():
            return RunnerSpec.parse(value, source, others)
    if detected.with_gpus:
        return RunnerSpec(mode="docker", source="auto_detected")
    return RunnerSpec(mode="local", source="default")


def elevate(spec: RunnerSpec, detected: Detected, *, gpu: bool) -> RunnerSpec | None:
    """The runner of a backend whose study has others too: isolated, unless somebody chose.

    Args:
        spec: as resolved.
        detected: what the file system says of Docker.
        gpu: whether the experiment may compute on a GPU.

    Returns:
        None where isolation is needed and can't be had.
    """
    if spec.chosen or spec.mode != "local":
        return spec
    if detected.with_gpus or (detected.usable and not gpu):
        return dataclasses.replace(spec, mode="docker", source="auto_elevated")
    return None


def elevated(backends: Collection[str]) -> str:
    """The line about a study that was moved to containers."""
    return (
        f"Multi-backend study detected ({', '.join(sorted(backends))})."
        " Auto-elevating all backends to Docker for isolation."
    )


def refused(backends: Collection[str]) -> str:
    """The error of a study that would need containers where there are none."""
    return (
        "Multi-backend study requires Docker isolation."
        f" Found backends: {', '.join(sorted(backends))}."
        " Install Docker + NVIDIA Container Toolkit, or use a single backend."
    )


def parse_pairs(pairs: Sequence[str], source: str) -> dict[str, str]:
    """``backend=value`` lines as a mapping; spaces around the sign are allowed, the last wins.

    Raises:
        RunnerError: for a line without the sign or without a name.
    """
    found = {}
    for pair in pairs:
        backend, equals, value = pair.partition("=")
        if not equals or not backend.strip():
            raise RunnerError(f"{source}: {pair!r} is not of the form BACKEND=RUNNER")
        found[backend.strip()] = value.strip()
    return found
