"""Being run as soon as there is something to do."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

__all__ = ["prompt"]


@contextlib.contextmanager
def prompt() -> Iterator[None]:
    """Ask the system to run this thread as soon as it is ready, where that is allowed.

    Others on a busy host would otherwise keep it from seeing a tick for tens of milliseconds.
    """
    if sys.platform != "linux":
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, policy, priority)
