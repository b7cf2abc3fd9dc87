"""A disk that fills up in mid-run: a clear failure, and nothing measured is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llem.results.journal import read
from tests.acceptance.conftest import Project

pytestmark = pytest.mark.once


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 kB: room for a few measurements."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(mount)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting a file system needs root")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk_stops_the_session_and_keeps_what_was_measured(
    project: Project, small_disk: Path
) -> None:
    project.study("id: a\nexecution: {cycles: 60}\n")
    project.pytester.makeini(f"[pytest]\nllem_results_dir = {small_disk}")
    result = project.run("benchmarks", "--llem-json=report.json")
    result.stdout.fnmatch_lines(
        [
            "benchmarks/s.study.yaml:*: results can't be kept",
            "E   *: No space left on device",
            "E   fix: free space there, or set llem_results_dir to another place",
        ]
    )
    result.stdout.fnmatch_lines(["*llem: *: No space left on device*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    reported = project.report()["measurements"]
    assert all(outcome["measurement"] for outcome in reported)
    (folder,) = small_disk.iterdir()
    kept, problems = read(folder)
    # The one that found the disk full is in the report alone.
    assert [outcome.cycle for outcome in kept] == list(range(1, len(reported)))
    assert problems == []
    assert 1 < len(reported) < 60
