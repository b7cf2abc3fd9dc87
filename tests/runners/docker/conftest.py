"""What tests of workers in containers have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.acceptance.conftest import THIRD_PARTY
from tests.rig.docker.daemon import Daemon
from tests.runners.docker.boxes import Box
from tests.runners.docker.wire import Wire, certificates


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    """What workers are started with, the fake backend being installed."""
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    return Box(tmp_path)


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def wired(
    request: pytest.FixtureRequest,
    remote_daemon: Daemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Wire, Mapping[str, str]]]:
    """A wire to the remote daemon, and the variables of a client that speaks as it does."""
    # requests prefers these to the daemon's own.
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    assert remote_daemon.port is not None
    folder = tmp_path / "tls" if request.param else None
    environ = certificates(folder) if folder else {}
    with Wire(remote_daemon.port, folder) as wire:
        yield wire, environ
