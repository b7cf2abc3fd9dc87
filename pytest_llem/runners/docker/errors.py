"""What the daemon's words mean: cause and fix, by what was being done when it said them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_llem.errors import ContainerError
from pytest_llem.runners.docker import sayings_container, sayings_daemon
from pytest_llem.runners.docker.saying import Phase, Saying

__all__ = ["SAYINGS", "Phase", "said", "translate", "translated"]

SAYINGS: tuple[Saying, ...] = (
    *sayings_daemon.CONNECT,
    *sayings_daemon.PULL,
    *sayings_container.GPUS,
    *sayings_container.CREATE_AND_START,
    *sayings_container.RUN,
    # The words that may be said in any phase come last.
    *sayings_daemon.DAEMON,
)
"""All rows; of two that fit, the first counts."""

_LONGEST = 300
_PREAMBLES = re.compile(
    r"failed to create (?:shim )?task(?: for container)?: |OCI runtime create failed: |"
    r"runc create failed: |unable to start container process: |error during container init: |"
    r"Error while fetching server API version: |Error response from daemon: "
)
_SECRETS = re.compile(
    r"(?P<head>\bhttps?://)[^/\s:@]+:[^/\s@]+@"
    r"|\bhf_\w{8,}"
    r"|(?P<scheme>\b(?:bearer|basic) )[\w.~+/=-]{8,}"
    r"|(?P<key>\b\w*(?:token|password|secret|api_?key)\w*[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+",
    re.IGNORECASE,
)
_UNTOLD = {
    "url": "its address",
    "image": "the image",
    "registry": "",
    "platform": "it",
    "root": "Docker's own directory",
    "silence": "long",
    "command": "such command",
    "device": "such device",
    "devices": "see nvidia-smi -L",
    "driver": "unknown",
}
"""What stands for a word that nobody told."""


def translate(error: Exception, phase: Phase, **about: Any) -> ContainerError:
    """An error of docker-py, of requests or of the operating system in the user's words.

    Args:
        error: as it was raised.
        phase: what was being done.
        about: what the words may need: ``url`` of the daemon, ``image``, ``platform`` of its host,
            ``root``, where it keeps images.
    """
    whole = str(getattr(error, "explanation", None) or error) or type(error).__name__
    for saying in SAYINGS:
        if phase in saying.phases and (match := re.search(saying.words, whole.lower())):
            return _known(saying, phase, said(whole), {**_told(about), **_groups(whole, match)})
    return ContainerError(
        f"Docker refused to {_doing(phase, _told(about))}: {said(whole)}",
        phase=phase,
        cause="unknown",
        fix="see the Docker daemon's log: journalctl -u docker on its host",
    )


@contextlib.contextmanager
def translated(phase: Phase, **about: Any) -> Iterator[None]:
    """Raise whatever the body raises of Docker as a :class:`ContainerError`.

    Args:
        phase: what the body does.
        about: as in :func:`translate`.
    """
    import docker.errors
    import requests
    import urllib3.exceptions

    try:
        yield
    except (
        docker.errors.DockerException,
        requests.RequestException,
        # Streams are read past requests.
        urllib3.exceptions.HTTPError,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise translate(error, phase, **about) from error


def said(words: str) -> str:
    """Words of Docker for a message: one line, without preambles and without secrets."""
    line = " ".join(_PREAMBLES.sub("", words).split())
    line = _SECRETS.sub(_hidden, line)
    # What matters comes last: each layer puts its own words before those of the one below.
    return line if len(line) <= _LONGEST else f"…{line[-_LONGEST:]}"


def _hidden(match: re.Match[str]) -> str:
    return f"{match['head'] or match['scheme'] or match['key'] or ''}***" + (
        "@" if match["head"] else ""
    )


def _known(saying: Saying, phase: Phase, words: str, told: Mapping[str, str]) -> ContainerError:
    known = {**_UNTOLD, **told, "words": words}
    return ContainerError(
        saying.message.format_map(known),
        phase=phase,
        cause=saying.cause,
        fix=saying.fix.format_map(known).strip(),
    )


def _told(about: Mapping[str, Any]) -> dict[str, str]:
    """What is known of the case, as text; an image tells its registry."""
    told = {key: said(str(value)) for key, value in about.items() if value}
    first, slash, _ = told.get("image", "").partition("/")
    if slash and (set(first) & {".", ":"} or first == "localhost"):
        told.setdefault("registry", first)
    return told


def _groups(whole: str, match: re.Match[str]) -> dict[str, str]:
    """Groups of an expression, as Docker wrote them; a command has several."""
    found = {
        name: whole[slice(*match.span(name))] for name, text in match.groupdict().items() if text
    }
    for name in ("absolute", "by_init"):
        if name in found:
            found["command"] = found.pop(name)
    return {name: said(text) for name, text in found.items()}


def _doing(phase: Phase, told: Mapping[str, str]) -> str:
    image = told.get("image", "an image")
    return {
        "connect": f"connect at {told.get('url', 'its address')}",
        "pull": f"fetch {image}",
        "create": f"create a container of {image}",
        "start": f"start a container of {image}",
        "run": "go on with a container",
    }[phase]
