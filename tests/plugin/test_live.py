"""What is said of a wait for devices, once it takes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.plugin.live import LiveLine, Watcher
from pytest_llem.results.side_file import SideFile
from tests.builders import experiment


def test_a_long_wait_is_said_once_with_who_has_the_device(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    said: list[str] = []
    line = LiveLine(pytester.parseconfig())
    watcher = Watcher(line, experiment(), "c2", SideFile(tmp_path / "raw"), said.append)
    for seconds in (1.0, 9.0, 11.0, 12.0):
        watcher.waits("GPU 0, held by pid 7 of alice", seconds)
    assert said == ["a c2 waits for GPU 0, held by pid 7 of alice"]
