"""The user's secrets where the engine runs: for the libraries that ask for them, for nobody else.

They come with the request and stay in memory. What is in an environment is seen by every process
below, and what is in a file by whoever finds it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

from pytest_llem.errors import LlemError

__all__ = ["HUB_TOKEN", "take"]

HUB_TOKEN = "HF_TOKEN"
"""Under which the request has the hub's token."""


def take(secrets: Mapping[str, str]) -> None:
    """Have huggingface_hub find the token: in a file without a name, whose path it is told.

    Must run before the first import of huggingface_hub, which looks once for the path. Processes
    below this one find it there too.

    Raises:
        LlemError: where the system has no such files.
    """
    token = secrets.get(HUB_TOKEN)
    if token is None:
        return
    if not hasattr(os, "memfd_create"):
        raise LlemError("a token can't be handed to the engine here without writing it to a disk")
    handle = _nameless()
    os.ftruncate(handle, 0)
    os.pwrite(handle, token.encode(), 0)


@functools.cache
def _nameless() -> int:
    """A file in memory, and huggingface_hub pointed at it; always the same."""
    handle = os.memfd_create("llem-secret")
    os.environ["HF_TOKEN_PATH"] = f"/proc/{os.getpid()}/fd/{handle}"
    return handle
