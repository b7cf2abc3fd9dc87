"""What the daemon's words mean: cause and fix, by what was being done when it said them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

from pytest_llem.errors import ContainerError

__all__ = ["Phase", "translate", "translated"]

Phase = Literal["connect", "pull", "create", "start", "run"]


def translate(error: Exception, phase: Phase, **about: Any) -> ContainerError:
    """An error of docker-py, of requests or of the operating system in the user's words.

    Args:
        error: as it was raised.
        phase: what was being done.
        about: what the words may need: ``url`` of the daemon, ``image``, ``driver``, …
    """
    del about
    text = str(getattr(error, "explanation", None) or error)
    return ContainerError(text, phase=phase, cause="unknown", fix="")


@contextlib.contextmanager
def translated(phase: Phase, **about: Any) -> Iterator[None]:
    """Raise whatever the body raises of Docker as a :class:`ContainerError`."""
    import docker.errors
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise translate(error, phase, **about) from error
