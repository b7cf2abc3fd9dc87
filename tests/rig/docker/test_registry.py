"""Pulls from a registry that fails in all the ways that one can."""

from __future__ import annotations

from typing import Any

import docker
import pytest

from tests.rig.docker import registry as routes
from tests.rig.docker.asking import output
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.fixtures import MakeDaemon
from tests.rig.docker.registry import Registry

pytestmark = [pytest.mark.docker, pytest.mark.once]

NOT_FOUND = docker.errors.NotFound
IMAGE_NOT_FOUND = docker.errors.ImageNotFound
API_ERROR = docker.errors.APIError


def pull(client: docker.DockerClient, repository: str, tag: str = "1") -> list[dict[str, Any]]:
    """The events of a pull."""
    return list(client.api.pull(repository, tag=tag, stream=True, decode=True))


@pytest.mark.parametrize(
    ("name", "tag", "kind", "status", "text"),
    [
        (routes.WHOLE, "9", NOT_FOUND, 404, "manifest unknown: manifest unknown"),
        (routes.FORBIDDEN, "1", IMAGE_NOT_FOUND, 404, "pull access denied for {name}, repository"),
        (routes.UNKNOWN, "1", NOT_FOUND, 404, "repository {name} not found: name unknown: "),
        (routes.UNAUTHORIZED, "1", API_ERROR, 500, "unauthorized: authentication required"),
        (routes.RATE_LIMITED, "1", API_ERROR, 500, "toomanyrequests: You have reached your pull"),
        (routes.BROKEN, "1", API_ERROR, 500, "HTTP status: 500 Internal Server Error"),
    ],
)
def test_a_pull_fails_in_the_daemons_words(
    name: str,
    tag: str,
    kind: type[docker.errors.APIError],
    status: int,
    text: str,
    docker_daemon: Daemon,
    registry: Registry,
) -> None:
    repository = registry.repository(name)
    with pytest.raises(API_ERROR) as refused:
        pull(docker_daemon.client(), repository, tag)
    assert type(refused.value) is kind
    assert refused.value.status_code == status
    assert text.format(name=repository) in str(refused.value.explanation)


def test_a_registry_that_is_not_there_refuses(docker_daemon: Daemon, registry: Registry) -> None:
    with pytest.raises(API_ERROR, match="connection refused"):
        pull(docker_daemon.client(), "127.0.0.1:1/some/image")


def test_an_image_of_another_architecture_has_no_manifest(
    docker_daemon: Daemon, registry: Registry
) -> None:
    events = pull(docker_daemon.client(), registry.repository(routes.OTHER_ARCHITECTURE))
    assert str(events[-1]["error"]).startswith("no matching manifest for linux/")


def test_an_image_is_pulled_once(make_daemon: MakeDaemon, registry: Registry) -> None:
    # One that has none of its layers: those of an image that is gone may still be known.
    daemon = make_daemon(gpus=False, base=False)
    client, repository = daemon.client(), registry.repository(routes.SLOW)
    events = pull(client, repository)
    shown = [event["progressDetail"] for event in events if event["status"] == "Downloading"]
    assert len({each["current"] for each in shown}) > 3
    (name,) = client.images.get(f"{repository}:1").attrs["RepoDigests"]
    assert name == f"{repository}@{registry.digest}"
    program = ("python3", "-c", "print('hello')")
    assert output(client, *program, image=f"{repository}:1") == "hello\n"
    again = [event["status"] for event in pull(client, repository)]
    assert f"Status: Image is up to date for {repository}:1" in again
