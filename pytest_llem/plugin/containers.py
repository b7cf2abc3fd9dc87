"""Before the first container: whether containers work here, found out once for a session.

Under pytest-xdist one of the workers looks, and the others wait for its verdict.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from typing import TypedDict

import pytest

from pytest_llem.plugin.collect import ExperimentNode, LlemItem
from pytest_llem.plugin.live import LiveLine, uncaptured
from pytest_llem.plugin.once import once
from pytest_llem.plugin.session import KEY
from pytest_llem.runners.docker.image import Progress
from pytest_llem.runners.docker.preflight import Host, Use, examine, listed
from pytest_llem.runners.docker.settings import Settings, given

__all__ = ["Fetching", "Preflight", "uses"]

_EVERY_S = 10.0
"""Between lines about an image that is being fetched, where there is no terminal."""


class _Verdict(TypedDict):
    """What was found, as plain data.

    ``text`` is empty where containers work; ``first`` is the item that was the first to need one.
    """

    text: str
    first: str


class Preflight:
    """Lets items into containers, or fails them with the reason."""

    def __init__(self, session: pytest.Session) -> None:
        """Wait for the first item that wants one."""
        self._session = session
        self._verdict: _Verdict | None = None

    def admit(self, item: LlemItem) -> None:
        """Fail an item if containers don't work here: the first in full, others in short.

        Raises:
            pytest.fail.Exception: with all that is wrong.
        """
        llem = item.experiment.llem
        if llem.choices.skips_preflight(item.experiment.study):
            return
        if self._verdict is None:
            self._verdict = self._find(item)
        text, first = self._verdict["text"], self._verdict["first"]
        if text and first != item.nodeid:
            text = f"Docker pre-flight failed: see {first}"
        if text:
            pytest.fail(text, pytrace=False)

    def _find(self, item: LlemItem) -> _Verdict:
        """The session's verdict: another process's, or our own."""
        found: _Verdict = once(item.config, "preflight", lambda: self._look(item))
        return found

    def _look(self, item: LlemItem) -> _Verdict:
        llem = item.experiment.llem
        host = Host(detected=llem.choices.detected)
        found = examine(uses(self._session), host, functools.partial(Fetching, item.config))
        for line in found.notices:
            llem.notice(line)
        return {"text": listed(found.issues) if found.issues else "", "first": item.nodeid}


def uses(session: pytest.Session) -> list[Use]:
    """All images that the session's containers are made from, each with what it must be able to."""
    choices = session.config.stash[KEY].choices
    found: dict[str, Use] = {}
    for node, image in _images(session):
        if choices.skips_preflight(node.study):
            continue
        experiment = node.planned.experiment
        gpus = 0 if experiment.device == "cpu" else experiment.devices
        pull = Settings.of(given(*choices.containers(node.study))).pull
        if known := found.get(image):
            # One container tells of all its uses: fetched if any may, with GPUs if any needs them.
            gpus = max(gpus, known.gpus)
            pull = "missing" if "missing" in (pull, known.pull) else "never"
        found[image] = Use(image=image, gpus=gpus, pull=pull)
    return list(found.values())


def _images(session: pytest.Session) -> Iterator[tuple[ExperimentNode, str]]:
    """Experiments that are going to be measured in containers, and of which image."""
    nodes = dict.fromkeys(
        item.experiment
        for item in session.items
        if isinstance(item, LlemItem) and item.get_closest_marker("skip") is None
    )
    for node in nodes:
        arms = dict.fromkeys(arm for _, arm in node.to_make)
        runners = [] if node.unmet or node.refused else map(node.runner_of, arms)
        yield from ((node, runner.image or "") for runner in runners if runner.mode == "docker")


class Fetching(contextlib.AbstractContextManager[Progress]):
    """Shows how much of an image is here while it is fetched.

    On a terminal a line that is taken away again, elsewhere a line now and then; in a worker of
    pytest-xdist, which has neither, nothing.
    """

    def __init__(self, config: pytest.Config, image: str) -> None:
        """Say nothing yet: most images are there."""
        self._config = config
        self._image = image
        self._line = LiveLine(config)
        self._began_s = self._said_s = 0.0
        self._total_bytes = 0

    def __enter__(self) -> Progress:
        """What is told of the bytes."""
        return self._told

    def __exit__(self, *raised: object) -> None:
        """Say so if something was fetched."""
        self._line.clear()
        if self._began_s and raised[0] is None:
            took_s = time.monotonic() - self._began_s
            self._say(f"llem: fetched {self._image}, {_size(self._total_bytes)}, {took_s:.0f} s")

    def _told(self, done_bytes: int, total_bytes: int) -> None:
        now_s = time.monotonic()
        self._total_bytes = total_bytes
        text = f"fetching {self._image}"
        if total_bytes:
            text += f": {_size(done_bytes)} of {_size(total_bytes)}"
            text += ", unpacking" if done_bytes == total_bytes else ""
        self._line.show(text)
        if not self._began_s:
            self._began_s = self._said_s = now_s
            self._say(f"llem: fetching {self._image}", terminal=False)
        elif now_s - self._said_s >= _EVERY_S:
            self._said_s = now_s
            self._say(f"llem: {text}", terminal=False)

    def _say(self, text: str, *, terminal: bool = True) -> None:
        """Write a line; one that isn't for terminals only where there is none."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        quiet = self._config.getoption("verbose") < 0 or hasattr(self._config, "workerinput")
        if reporter is None or quiet or (reporter.isatty and not terminal):
            return
        with uncaptured(self._config):
            reporter.ensure_newline()
            reporter.write_line(text)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
