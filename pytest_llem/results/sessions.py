"""Sessions in the results folder, and which of them were resumed from which."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pytest_llem.errors import ResultsError
from pytest_llem.results.journal import journals, written_to

__all__ = ["POINTER", "find", "is_running", "lineage", "pointer", "refuse_running", "sessions"]

POINTER = "resumes.json"
"""In a session's folder: the one that it resumed, which may hold what it has not yet taken over."""

_NAMED = 10


def sessions(root: Path) -> list[Path]:
    """Folders of the sessions with a journal, newest first: they are named by when they began."""
    found = {path.parent for path in root.glob("*/journal.*.jsonl")}

    def began(path: Path) -> tuple[str, int, str]:
        # Of those that began in the same second their files tell.
        return path.name.partition("-")[0], path.stat().st_mtime_ns, path.name

    return sorted(found, key=began, reverse=True)


def find(text: str, root: Path, base: Path) -> Path:
    """The session that somebody means.

    Args:
        text: its name, or a path to its folder.
        root: folder of all sessions.
        base: folder that paths are relative to.

    Raises:
        ResultsError: for what is none, naming those that are.
    """
    for path in (root / text, base / text):
        if _is_there(path) and journals(path):
            return path.resolve()
    known = [path.name for path in sessions(root)]
    listed = ", ".join(known[:_NAMED])
    if more := len(known) - _NAMED:
        listed += f" and {more} older" if more > 0 else ""
    hint = f"sessions there: {listed}" if known else "no session is there"
    also = ""
    if _is_there(base / text):
        also = "; to resume the latest session write --llem-resume last, or --llem-resume=SESSION"
    raise ResultsError(f"{text!r} is no session in {root}; {hint}{also}")


def _is_there(path: Path) -> bool:
    """Whether there is such a file; a name that is too long for any has none."""
    return os.path.exists(path)  # noqa: PTH110


def is_running(folder: Path) -> bool:
    """Whether a living process writes a journal of a session."""
    return written_to(folder) is not None


def refuse_running(folder: Path) -> None:
    """Keep from resuming a session that isn't over.

    Raises:
        ResultsError: when a living process writes its journal.
    """
    if (path := written_to(folder)) is not None:
        raise ResultsError(
            f"{folder.name} is still running: another pytest writes {path};"
            " wait until it has ended, or end it"
        )


def pointer(folder: Path, root: Path) -> str:
    """What stands in the pointer of a session that resumes the one of this folder."""
    near = folder.parent == root.resolve()
    return json.dumps({"session": folder.name if near else str(folder)}) + "\n"


def lineage(folder: Path) -> tuple[list[Path], list[str]]:
    """A session and those that it was resumed from, newest first; and what of it is missing."""
    found: list[Path] = []
    problems: list[str] = []
    following: Path | None = folder
    while following is not None and following not in found:
        if found and not journals(following):
            problems.append(
                f"{found[-1].name} resumed {following.name}, which isn't there any more"
            )
            break
        found.append(following)
        following = _pointed(following, problems)
    return found, problems


def _pointed(folder: Path, problems: list[str]) -> Path | None:
    path = folder / POINTER
    try:
        data = json.loads(path.read_bytes())
        # An absolute path stays what it is.
        return folder.parent / str(data["session"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problems.append(f"{path}: can't be read: {error}")
        return None
