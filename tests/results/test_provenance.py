"""What the host was: versions, system and git commit."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_llem import __version__
from pytest_llem.results.provenance import environment

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@pytest.fixture(autouse=True)
def _git_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep git away from the user's settings and from repositories around the temporary folder."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "file").write_text("one")
    git(folder, "add", "file")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_versions_and_system_are_told(tmp_path: Path) -> None:
    found = environment(tmp_path)
    assert found["pytest_llem"] == __version__
    assert found["python"] == platform.python_version()
    assert found["system"] == platform.platform()


def test_there_is_no_commit_outside_of_a_repository(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    assert environment(folder)["git"] is None


def test_there_is_no_commit_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment(tmp_path)["git"] is None


def test_there_is_no_commit_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert environment(tmp_path / "none")["git"] is None


@needs_git
def test_there_is_no_commit_in_a_repository_without_any(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert environment(tmp_path)["git"] is None


@needs_git
def test_a_clean_repository_is_told_by_its_commit(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert environment(repository)["git"] == {"commit": commit, "dirty": False}


@needs_git
@pytest.mark.parametrize("name", ["file", "new"])
def test_a_changed_or_new_file_makes_it_dirty(repository: Path, name: str) -> None:
    (repository / name).write_text("two")
    commit = git(repository, "rev-parse", "HEAD")
    assert environment(repository)["git"] == {"commit": commit, "dirty": True}


@needs_git
def test_the_repository_is_found_from_a_folder_inside(repository: Path) -> None:
    (repository / "deep" / "er").mkdir(parents=True)
    commit = git(repository, "rev-parse", "HEAD")
    assert environment(repository / "deep" / "er")["git"] == {"commit": commit, "dirty": False}
