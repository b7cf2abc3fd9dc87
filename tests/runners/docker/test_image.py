"""Images of a real daemon: looked at, fetched with progress, and refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from pytest_llem.errors import ContainerError
from pytest_llem.runners.docker.daemon import Daemon as Reached
from pytest_llem.runners.docker.daemon import connect
from pytest_llem.runners.docker.image import ensure, look
from tests.rig.docker import images
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.fixtures import MakeDaemon
from tests.rig.docker.registry import SLOW, STALLED, WHOLE, Registry

pytestmark = [pytest.mark.docker, pytest.mark.once]


@pytest.fixture
def reached(docker_daemon: Daemon) -> Iterator[Reached]:
    with contextlib.closing(connect({"DOCKER_HOST": docker_daemon.url})) as found:
        yield found


def test_an_image_tells_what_it_is(reached: Reached, docker_daemon: Daemon) -> None:
    client = docker_daemon.client()
    name = images.image(client, "llem/told:1", env={"A": "b=c"}, labels={"org.x": "1"})
    image = ensure(reached, name, "never")
    assert image.name == name
    assert image.id == client.images.get(name).id
    assert image.env["A"] == "b=c"
    assert image.labels == {"org.x": "1"}
    assert image.architecture == "amd64"
    assert image.size_bytes > 1e6
    assert image.digest is None
    assert not image.fetched


def test_a_missing_image_is_fetched_with_progress(
    make_daemon: MakeDaemon, registry: Registry
) -> None:
    empty = make_daemon(gpus=False, base=False)  # no layer is there already
    name = f"{registry.repository(SLOW)}:1"
    told: list[tuple[int, int]] = []
    with contextlib.closing(connect({"DOCKER_HOST": empty.url})) as reached:
        image = ensure(reached, name, "missing", lambda done, total: told.append((done, total)))
        again = ensure(reached, name, "missing", lambda *_: told.append((-1, -1)))
    assert image.fetched
    assert image.digest == registry.digest
    size = registry.layer.stat().st_size
    assert len(told) > 4
    assert told == sorted(told)
    assert (told[0], told[-1]) == ((0, 0), (size, size))
    assert not again.fetched


def test_an_image_is_fetched_by_its_digest(reached: Reached, registry: Registry) -> None:
    name = f"{registry.repository(WHOLE)}@{registry.digest}"
    assert ensure(reached, name).digest == registry.digest


def test_a_missing_image_that_may_not_be_fetched_is_an_error_with_the_command(
    reached: Reached, registry: Registry
) -> None:
    asked = len(registry.requests)
    with pytest.raises(ContainerError) as caught:
        ensure(reached, "no/such:1", "never")
    assert (caught.value.phase, caught.value.cause) == ("pull", "no image")
    assert caught.value.fix.startswith("docker pull no/such:1")
    assert len(registry.requests) == asked


def test_an_image_for_another_processor_is_refused(reached: Reached, docker_daemon: Daemon) -> None:
    name = images.image(docker_daemon.client(), "llem/arm:1", architecture="arm64")
    with pytest.raises(ContainerError, match="made for linux/arm64") as caught:
        look(reached, name)
    assert caught.value.cause == "wrong platform"
    assert "linux/amd64" in caught.value.fix


def test_fetching_stops_when_it_is_interrupted(make_daemon: MakeDaemon, registry: Registry) -> None:
    empty = make_daemon(gpus=False, base=False)
    name = f"{registry.repository(SLOW)}:1"

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with contextlib.closing(connect({"DOCKER_HOST": empty.url})) as reached:
        with pytest.raises(KeyboardInterrupt):
            ensure(reached, name, "missing", stop)
        assert look(reached, name) is None


def test_a_fetch_of_which_nothing_is_heard_ends(
    make_daemon: MakeDaemon, registry: Registry
) -> None:
    empty = make_daemon(gpus=False, base=False)
    name = f"{registry.repository(STALLED)}:1"
    told: list[tuple[int, int]] = []
    with contextlib.closing(connect({"DOCKER_HOST": empty.url})) as reached:
        limit_s = reached.api.timeout
        with pytest.raises(ContainerError, match=f"for 5 s .* told nothing of {name}") as caught:
            ensure(reached, name, "missing", lambda *bytes_: told.append(bytes_), silence_s=5)
        # Other calls have the limits that they had.
        assert look(reached, name) is None
        assert reached.api.timeout == limit_s
        assert not [prefix for prefix in reached.api.adapters if "images" in prefix]
    assert (caught.value.phase, caught.value.cause) == ("pull", "pull stalled")
    assert caught.value.fix.startswith(f"docker pull {name}")
    assert 0 < told[-1][0] < told[-1][1]
