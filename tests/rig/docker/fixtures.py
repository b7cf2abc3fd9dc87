"""Fixtures of Docker daemons, for all tests.

A test that uses one is marked ``docker``. Where no daemon can be started it is skipped, with the
command that mends it; where ``CI`` is set, or ``LLEM_DOCKER=required``, it fails.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.rig.docker import images
from tests.rig.docker.daemon import Daemon, DockerUnavailable
from tests.rig.docker.registry import Registry

if TYPE_CHECKING:
    import docker

__all__ = [
    "MakeDaemon",
    "docker_cache",
    "docker_client",
    "docker_daemon",
    "make_daemon",
    "plain_daemon",
    "registry",
    "remote_daemon",
    "torch_daemon",
]

_CACHE = Path(__file__).parents[3] / "build" / "docker"


class MakeDaemon(Protocol):
    """Starts daemons of a test's own."""

    def __call__(
        self,
        *,
        gpus: bool = True,
        tcp: int | None = None,
        hidden: Sequence[Path] = (),
        disk_bytes: int | None = None,
        base: bool = True,
    ) -> Daemon:
        """As :class:`Daemon`, closed at the end; ``base``: with the base image."""


def _unavailable(why: str) -> None:
    # Where nobody looks at what was skipped, it must not be.
    if os.environ.get("CI") or os.environ.get("LLEM_DOCKER") == "required":
        pytest.fail(why)
    pytest.skip(why)


def _memory() -> str | None:
    """A folder in memory, which knows no waiting for a disk; None where it wouldn't do."""
    folder = "/dev/shm"
    if not Path(folder).is_dir():
        return None
    about = os.statvfs(folder)
    room = about.f_bavail * about.f_frsize >= 2 * 2**30
    return folder if room and not about.f_flag & os.ST_NOEXEC else None


@contextlib.contextmanager
def _daemons(cache: Path, place: str | None) -> Iterator[MakeDaemon]:
    """Daemons in short folders of their own: a socket's path can't be long."""
    with contextlib.ExitStack() as opened:

        def make(
            *,
            gpus: bool = True,
            tcp: int | None = None,
            hidden: Sequence[Path] = (),
            disk_bytes: int | None = None,
            base: bool = True,
        ) -> Daemon:
            temporary = tempfile.TemporaryDirectory(prefix="llem-docker-", dir=place)
            folder = Path(opened.enter_context(temporary), "d")
            daemon = Daemon(folder, gpus=gpus, tcp=tcp, hidden=hidden, disk_bytes=disk_bytes)
            try:
                opened.enter_context(daemon)
            except DockerUnavailable as unavailable:
                daemon.close()
                _unavailable(str(unavailable))
            if base:
                images.base_image(daemon.client(), cache)
            return daemon

        yield make


@pytest.fixture(scope="session")
def docker_cache() -> Path:
    """Where what images are made of is kept, from session to session."""
    try:
        import docker  # noqa: F401 - only whether it is there
    except ImportError:
        _unavailable('the docker package is missing; install with: pip install -e ".[docker]"')
    return _CACHE


@pytest.fixture
def make_daemon(docker_cache: Path) -> Iterator[MakeDaemon]:
    """Daemons that a test breaks."""
    with _daemons(docker_cache, _memory()) as make:
        yield make


@pytest.fixture(scope="session")
def _docker_daemon(docker_cache: Path, simnvml: Path) -> Iterator[Daemon]:
    with _daemons(docker_cache, _memory()) as make:
        yield make()


@pytest.fixture
def docker_daemon(_docker_daemon: Daemon) -> Iterator[Daemon]:
    """A daemon with the toolkit and GPUs, one for each xdist worker; as new for each test."""
    yield _docker_daemon
    _docker_daemon.renew()


@pytest.fixture(scope="session")
def _plain_daemon(docker_cache: Path) -> Iterator[Daemon]:
    with _daemons(docker_cache, _memory()) as make:
        yield make(gpus=False)


@pytest.fixture
def plain_daemon(_plain_daemon: Daemon) -> Iterator[Daemon]:
    """As :func:`docker_daemon`, on a machine without the toolkit."""
    yield _plain_daemon
    _plain_daemon.renew()


@pytest.fixture(scope="session")
def _remote_daemon(
    docker_cache: Path, simnvml: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    with _daemons(docker_cache, _memory()) as make:
        yield make(tcp=0, hidden=[tmp_path_factory.getbasetemp()])


@pytest.fixture
def remote_daemon(_remote_daemon: Daemon) -> Iterator[Daemon]:
    """As :func:`docker_daemon`, by TCP, on a machine that has no test's ``tmp_path``."""
    yield _remote_daemon
    _remote_daemon.renew()


@pytest.fixture
def docker_client(docker_daemon: Daemon) -> docker.DockerClient:
    """A client of ``docker_daemon``."""
    return docker_daemon.client()


@pytest.fixture(scope="session")
def _torch_daemon(docker_cache: Path, simnvml: Path) -> Iterator[Daemon]:
    # On a disk: there the packages can be linked into the image.
    with _daemons(docker_cache, None) as make:
        daemon = make()
        images.torch_image(daemon.client())
        yield daemon


@pytest.fixture
def torch_daemon(_torch_daemon: Daemon) -> Iterator[Daemon]:
    """As :func:`docker_daemon`, with the image ``images.TORCH`` too."""
    yield _torch_daemon
    _torch_daemon.renew()


@pytest.fixture(scope="session")
def registry(docker_cache: Path) -> Iterator[Registry]:
    """A registry whose image is the base image."""
    with Registry(images.base_tar(docker_cache)) as serving:
        yield serving
