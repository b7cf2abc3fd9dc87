"""Exclusive leases of GPUs: one engine on a device, whoever else measures on this host.

A lease is a lock on a file named after the GPU, so that it ends with the process that holds it,
however that ends. The files lie in one folder for all users of the host: ``LLEM_LOCK_DIR``, by
default below the system's folder for temporary files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llem.errors import WorkerError
from pytest_llem.experiment import Experiment
from pytest_llem.gpus import Found, Gpu, look

__all__ = ["Devices", "Lease"]

_AGAIN_S = 0.1
_TELL_S = 1.0


@dataclass(frozen=True)
class Lease:
    """GPUs that nobody else gets until :meth:`release`.

    Attributes:
        gpus: in the order in which the worker is to see them; none for other devices.
    """

    gpus: tuple[Gpu, ...] = ()
    _handles: tuple[int, ...] = ()

    @property
    def numbers(self) -> tuple[int, ...]:
        """In the order of the PCI bus."""
        return tuple(gpu.index for gpu in self.gpus)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that show a worker on this host these GPUs and no others.

        By number, as vLLM can't read UUIDs there; a MIG instance has no other name.
        """
        if not self.gpus:
            return {}
        shown = [g.uuid if g.uuid.startswith("MIG-") else str(g.index) for g in self.gpus]
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(shown)}

    def release(self) -> None:
        """Let others have them; to be called once."""
        for handle in self._handles:
            os.close(handle)


class Devices:
    """Leases the GPUs of this host."""

    def __init__(
        self,
        find: Callable[[Mapping[str, str]], Found] = lambda environ: look(environ=environ),
        folder: Path | None = None,
    ) -> None:
        """Take what looks for GPUs, given an environment, and where the locks are."""
        self._find = find
        self._folder = folder or _lock_folder()
        self._found: dict[str | None, Found] = {}

    def lease(
        self, experiment: Experiment, tell: Callable[[float], None] = lambda _: None
    ) -> Lease:
        """The GPUs of an experiment; waits until as many as it needs are free.

        An experiment that leaves the device to the engine gets GPUs where there are any.

        Args:
            experiment: that is about to be measured.
            tell: called now and then while others have them, with the seconds since.

        Raises:
            WorkerError: when there are not as many, or the locks can't be made.
        """
        if experiment.device not in {"auto", "cuda"}:
            return Lease()
        environ = {**os.environ, **experiment.env}
        visible = environ.get("CUDA_VISIBLE_DEVICES")
        if visible not in self._found:
            self._found[visible] = self._find(environ)
        found = self._found[visible]
        if not found.gpus:
            # What NVML doesn't show may still be there for the engine: it has the last word.
            return Lease()
        if len(found.gpus) < experiment.devices:
            raise WorkerError(
                f"{experiment.id} computes on {experiment.devices} GPUs, and this host has"
                f" {len(found.gpus)}{f' ({found.reason})' if found.reason else ''}",
                kind="refused",
                fix="lower gpus, tensor_parallel or pipeline_parallel, or say requires: {gpus: N}"
                " to have it skipped here",
            )
        return self._wait(found.gpus, experiment.devices, tell)

    def _wait(self, gpus: Sequence[Gpu], count: int, tell: Callable[[float], None]) -> Lease:
        begun_s = told_s = time.monotonic()
        while True:
            if (lease := self._take(gpus, count)) is not None:
                return lease
            now_s = time.monotonic()
            if now_s - told_s >= _TELL_S:
                told_s = now_s
                tell(now_s - begun_s)
            time.sleep(_AGAIN_S)

    def _take(self, gpus: Sequence[Gpu], count: int) -> Lease | None:
        """As many of the GPUs as wanted; None, and none of them held, where too few are free."""
        taken: list[tuple[Gpu, int]] = []
        try:
            for gpu in gpus:
                if len(taken) < count and (handle := self._lock(gpu.uuid)) is not None:
                    taken.append((gpu, handle))
            if len(taken) == count:
                lease = Lease(tuple(gpu for gpu, _ in taken), tuple(held for _, held in taken))
                taken = []
                return lease
        finally:
            for _, handle in taken:
                os.close(handle)
        return None

    def _lock(self, uuid: str) -> int | None:
        """The open file of a GPU that is ours from now on; None where it is somebody else's."""
        try:
            handle = _opened(self._folder, f"{uuid.replace('/', '_')}.lock")
        except OSError as error:
            raise WorkerError(
                f"the lock of GPU {uuid} can't be opened: {error.filename}: {error.strerror}",
                kind="start",
                fix="set LLEM_LOCK_DIR to a folder that all who measure on this host may write to",
            ) from error
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        os.close(handle)
        return None


def _lock_folder() -> Path:
    return Path(os.environ.get("LLEM_LOCK_DIR") or Path(tempfile.gettempdir(), "pytest-llem"))


def _opened(folder: Path, name: str) -> int:
    """A lock's file, for reading only: whoever made it, everybody may lock it."""
    with _everybodys():
        folder.mkdir(mode=0o1777, parents=True, exist_ok=True)
        path = folder / name
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
            return os.open(path, flags)


@contextlib.contextmanager
def _everybodys() -> Iterator[None]:
    """Make folders and files with just the permissions that are said."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)
