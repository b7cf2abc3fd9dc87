"""The daemon's own time, in all the ways that it writes it."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llem.runners.docker.daemon import Daemon


class Saying:
    """A client whose daemon says this time."""

    def __init__(self, time: str) -> None:
        self._time = time

    def info(self) -> dict[str, Any]:
        return {"SystemTime": self._time}


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("2026-11-22T08:33:16.256077405Z", 1795336396.256077),
        ("2026-11-22T08:33:16.25Z", 1795336396.25),
        ("2026-11-22T08:33:16Z", 1795336396.0),
        ("2026-11-22T10:33:16.5+02:00", 1795336396.5),
        ("2026-11-22T03:33:16.5-05:00", 1795336396.5),
    ],
)
def test_the_clock(said: str, seconds: float) -> None:
    daemon = Daemon(Saying(said), "unix:///somewhere")  # type: ignore[arg-type]
    assert daemon.clock() == pytest.approx(seconds, abs=1e-5)
