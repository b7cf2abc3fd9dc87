"""What is found out once for a session on a host, whichever of its processes needs it first."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pytest_llem.plugin.session import results_folder
from pytest_llem.runners.lock_folder import host_name

__all__ = ["once"]


def once(config: pytest.Config, name: str, find: Callable[[], Any]) -> Any:
    """Plain data that ``find`` returned, here or in another worker of pytest-xdist.

    Who comes second waits for the first; where that one fails, the next one tries itself.

    Args:
        config: pytest's.
        name: of what is found; no two things share one.
        find: finds it.

    Raises:
        Exception: whatever ``find`` raises.
    """
    if not hasattr(config, "workerinput"):
        return find()
    # The results may be in a directory that several hosts share.
    path = results_folder(config) / "found" / f"{quote(f'{name} {host_name()}', safe='')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path.with_suffix(".lock")):
        if not path.exists():
            unfinished = path.with_suffix(".new")
            unfinished.write_text(json.dumps(find()))
            unfinished.replace(path)
        return json.loads(path.read_text())


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep the session's other processes out of a block; a process that dies keeps nobody out."""
    try:
        import fcntl
    except ImportError:  # Windows: each process looks for itself
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
