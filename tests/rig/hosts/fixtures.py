"""Fixtures of hosts that are reached by ssh, for all tests.

Only root may make them: for others such a test is skipped. Where a program is missing it is skipped
with the command that mends it, and where ``CI`` is set, or ``LLEM_HOSTS=required``, it fails.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tests.rig.hosts.host import Host, HostUnavailable

__all__ = ["MakeHost", "make_host"]


class MakeHost(Protocol):
    """Starts hosts."""

    def __call__(
        self,
        name: str,
        environment: Mapping[str, str] | None = None,
        shared: Sequence[Path] = (),
    ) -> Host:
        """As :class:`Host`, closed at the end of the test."""


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    """Hosts of a test's own."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may make network namespaces; run: sudo python -m pytest")
    with contextlib.ExitStack() as opened:

        def make(
            name: str,
            environment: Mapping[str, str] | None = None,
            shared: Sequence[Path] = (),
        ) -> Host:
            temporary = tempfile.TemporaryDirectory(prefix="llem-host-")
            folder = Path(opened.enter_context(temporary))
            try:
                return opened.enter_context(Host(folder, name, environment, shared))
            except HostUnavailable as unavailable:
                if os.environ.get("CI") or os.environ.get("LLEM_HOSTS") == "required":
                    pytest.fail(str(unavailable))
                pytest.skip(str(unavailable))

        yield make
