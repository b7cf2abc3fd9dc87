"""What the host was when the results were made: for the report, never for a verdict."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

from pytest_llem import __version__

__all__ = ["environment"]


def environment(root: Path) -> dict[str, Any]:
    """Versions, system, and the git commit of the user's project; null where there is none."""
    return {
        "pytest_llem": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "git": _git(root),
    }


def _git(root: Path) -> dict[str, Any] | None:
    commit = _run_git(root, "rev-parse", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "dirty": bool(_run_git(root, "status", "--porcelain"))}


def _run_git(root: Path, *arguments: str) -> str | None:
    """Output of a git command; None where git or a repository is missing."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
