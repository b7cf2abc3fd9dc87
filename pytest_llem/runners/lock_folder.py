"""The folder of the locks: one for all users and sessions of a host.

A lock is the system's own (``flock``) on a file that anybody may open for reading, so that it ends
with the last process that holds it, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pytest_llem.errors import WorkerError

__all__ = ["LockFolder", "host_name", "why_private"]

_VARIABLE = "LLEM_LOCK_DIR"
_EVERYBODYS = Path("/tmp")
_NAME = "pytest-llem"
_MUTEX = "tickets"
_AGAIN_S = 0.002
_MUTEX_S = 30.0
"""Held for a millisecond; a process that was stopped in the middle is not waited for for ever."""

_ONE_OF_MANY = re.compile(r"systemd-private|tmp[-.]inst|/slurm|/job")
_CONTAINER = ("/.dockerenv", "/run/.containerenv")


class LockFolder:
    """Files to be locked, below one folder.

    Attributes:
        path: of the folder; made at first use, with the permissions of ``/tmp``.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Take a folder; by default that of ``LLEM_LOCK_DIR``, else one below ``/tmp``.

        Not below ``TMPDIR``, which many sites set to a folder of each user's or job's own.
        """
        base = _EVERYBODYS if _EVERYBODYS.is_dir() else Path(tempfile.gettempdir())
        self.path = path or Path(os.environ.get(_VARIABLE) or base / _NAME)

    def lock(self, name: str, *, shared: bool = False) -> int | None:
        """The open file of a lock that is ours from now on; None where it is somebody else's.

        Raises:
            WorkerError: when the file can't be opened.
        """
        kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        path = self.path / f"{name.replace('/', '_')}.lock"
        while True:
            handle = self.open(path)
            try:
                fcntl.flock(handle, kind)
            except BlockingIOError:
                os.close(handle)
                return None
            # Whoever tidies up temporary files may have taken away what we just locked.
            if is_same(handle, path):
                return handle
            os.close(handle)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """A block that no other process is in at the same time.

        Raises:
            WorkerError: when the file can't be opened, or somebody sits in the block for 30 s.
        """
        deadline = time.monotonic() + _MUTEX_S
        while (handle := self.lock(_MUTEX)) is None:
            if time.monotonic() > deadline:
                path = self.path / f"{_MUTEX}.lock"
                raise WorkerError(
                    f"a process has held {path} for {_MUTEX_S:g} s, which it should for an instant:"
                    " it was stopped, or hangs",
                    kind="start",
                    fix=f"find it with: fuser -v {path}, and end it",
                )
            time.sleep(_AGAIN_S)
        try:
            yield
        finally:
            os.close(handle)

    def open(self, path: Path) -> int:
        """A file for reading only: whoever made it, everybody may lock it.

        Raises:
            WorkerError: when it can't be.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with _everybodys():
                self.path.mkdir(mode=0o1777, parents=True, exist_ok=True)
                # First without O_CREAT: the kernel refuses that for another user's file in a
                # sticky folder (fs.protected_regular), also to root.
                with contextlib.suppress(FileNotFoundError):
                    return os.open(path, flags)
                with contextlib.suppress(FileExistsError):
                    return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
                return os.open(path, flags)
        except OSError as error:
            raise WorkerError(
                f"the lock {path.name} of a device can't be opened: {error.filename}:"
                f" {error.strerror}",
                kind="start",
                fix=f"set {_VARIABLE} to a folder that all who measure on this host may write to",
            ) from error


def is_same(handle: int, path: Path) -> bool:
    """Whether a path still leads to an open file."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def host_name(proc: Path = Path("/proc")) -> str:
    """A name of this host that no other has, until it is started anew."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.uname().nodename


def why_private(folder: Path, root: Path = Path("/")) -> str:
    """Why others who measure on this host may have other locks; empty where nothing says so.

    Args:
        folder: with the locks.
        root: the directory that stands for ``/``.
    """
    if any((root / marker.lstrip("/")).exists() for marker in _CONTAINER):
        return "this is a container, with files of its own"
    folder = folder.resolve()
    for part in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            if not part.stat().st_mode & stat.S_IXOTH:
                return f"other users can't reach {part.name or part}"
    ours, first = (_mounted(folder, root / f"proc/{who}/mountinfo") for who in ("self", "1"))
    if ours is not None and first is not None and ours != first:
        return "this process sees temporary files that others don't (a mount of its own)"
    if ours is not None and _ONE_OF_MANY.search(ours[1]):
        return "its temporary files are private (as systemd's PrivateTmp makes them)"
    return ""


def _mounted(folder: Path, mountinfo: Path) -> tuple[str, str] | None:
    """Device, and the part of it, that a folder is on; None where the kernel doesn't tell."""
    found: tuple[int, tuple[str, str]] | None = None
    try:
        lines = mountinfo.read_text(errors="replace").splitlines()
    except OSError:
        return None  # another user's process
    for line in lines:
        _, _, device, part, point, *_ = line.split(" ")
        length = len(Path(point).parts)
        # Of two mounts at one place, the later one is seen.
        if folder.is_relative_to(point) and (found is None or length >= found[0]):
            found = length, (device, part)
    return found and found[1]


@contextlib.contextmanager
def _everybodys() -> Iterator[None]:
    """Make folders and files with just the permissions that are said."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)
