"""Removes what a session leaves when it is killed: ``python -m`` this, and the session's name.

A container ends when its session does, but one that was only just created has not begun to. This
process waits for the end of its standard input. Where nobody says beforehand that all is well, it
removes the session's containers, those too that the daemon is still about to create.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_llem.errors import LlemError
from pytest_llem.runners.docker.daemon import connect
from pytest_llem.runners.docker.reaper import sweep_session

__all__ = ["Guardian"]

_WELL = b"well\n"
_LOOKS_S = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Between the looks: a busy daemon creates a container long after it was asked to."""


class Guardian:
    """A process that outlives this one for a moment, should that be needed."""

    def __init__(self, session: str, environ: Mapping[str, str] = os.environ) -> None:
        """Start it; without one the next session's sweep has to do.

        Args:
            session: whose containers it removes.
            environ: says where the daemon is.
        """
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, session],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # It finds what this process found; a folder of the user's own called docker must
                # not come first because it happens to be the current one.
                env={**environ, "PYTHONPATH": os.pathsep.join(_absolute(sys.path))},
                cwd="/",
                # What is sent to a whole process group is not for it.
                start_new_session=True,
            )

    def dismiss(self) -> None:
        """All is well: it ends at once."""
        if self._process is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._process.communicate(_WELL, timeout=10)


def _absolute(paths: Sequence[str]) -> list[str]:
    return [str(Path(path).absolute()) for path in paths if path]


def main(session: str) -> None:
    """Wait for the session's end, and remove what it leaves."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    daemon = connect()
    if sys.stdin.buffer.read() == _WELL:
        os._exit(0)
    for look_s in _LOOKS_S:
        time.sleep(look_s)
        with contextlib.suppress(LlemError):
            sweep_session(daemon, session)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
