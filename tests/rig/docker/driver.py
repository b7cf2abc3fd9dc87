"""The driver of a daemon's simulated GPUs, and the toolkit that gives them to containers.

The machine is a :class:`tests.rig.nvml.Rig`; containers that asked for GPUs have its folder at
``/run/simnvml``. What the test changes there is true in running containers from the next call on.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import uuid
from pathlib import Path

from tests.rig.nvml import H100, Rig, build

__all__ = ["Driver", "install_hook"]

_HERE = Path(__file__).parent
_EVERY_CALL = "err.*"


class Driver:
    """GPUs of one machine, as their driver shows them in containers.

    Args:
        folder: for its files; made where it isn't there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failure = folder / "failure"
        """Where it is there, the toolkit fails with its text."""
        (folder / "containers").mkdir(parents=True, exist_ok=True)
        machine = folder / "machine"
        self.rig = Rig(machine, H100)
        self._at_first = dict(self.rig.settings)
        """The machine: ``with rig.load():`` is a load that containers measure."""
        # Any user of a container counts calls and marks loads.
        machine.chmod(0o755)
        (machine / "container.conf").touch()  # another for each container is mounted over it
        (machine / "calls").touch()
        for name in ("calls", "marks"):
            (machine / name).chmod(0o666)
        self.renew()

    def renew(self) -> None:
        """Be as at the start: one GPU that nobody uses, and its driver knows CUDA 12.8."""
        self.rig.settings = dict(self._at_first)
        self.set(cuda="12.8", version="570.86.15", gpus=1)

    def set(
        self, *, cuda: str | None = None, version: str | None = None, gpus: int | None = None
    ) -> None:
        """Another driver, or another number of GPUs.

        Args:
            cuda: the latest CUDA that the driver knows, such as ``12.4``.
            version: of the driver.
            gpus: how many the machine has, up to 16.
        """
        if cuda is not None:
            major, minor = cuda.split(".")
            self.rig.configure({"cuda": int(major) * 1000 + int(minor) * 10})
        if version is not None:
            self.rig.configure({"driver": version})
        if gpus is not None:
            ids = {f"gpu{gpu}.uuid": self._uuid(gpu) for gpu in range(gpus)}
            self.rig.configure({"ngpus": gpus, **ids})

    def _uuid(self, gpu: int) -> str:
        return f"GPU-{uuid.uuid5(uuid.NAMESPACE_URL, f'{self.folder}#{gpu}')}"

    @property
    def uuids(self) -> list[str]:
        """Of all GPUs, as the machine counts them."""
        return [self._uuid(gpu) for gpu in range(int(self.rig.setting("ngpus")))]

    def use_memory(self, used_bytes: float, gpu: int = 0) -> None:
        """Memory in use on a GPU from now on, by whomever."""
        self.rig.configure({f"gpu{gpu}.mem_used": used_bytes})

    def fail(self, code: int = 999) -> None:
        """All calls of NVML fail from now on; 999 is what a container that lost its GPUs sees."""
        self.rig.configure({_EVERY_CALL: code})

    def recover(self) -> None:
        """The end of :meth:`fail`."""
        self.rig.configure({_EVERY_CALL: 0})


def install_hook(folder: Path, driver: Driver) -> None:
    """Install the toolkit: the program that runtimes call before they start a container.

    Args:
        folder: on the PATH of the daemon.
        driver: the GPUs that it gives. Its folder takes copies of all that the hook needs, for the
            daemon may be where this repository isn't.
    """
    library = driver.folder / "libnvidia-ml.so.1"
    _copy(build(), library, 0o755)
    _copy(_HERE / "nvidia_smi.py", driver.folder / "nvidia-smi", 0o755)
    _copy(_HERE / "hook.py", driver.folder / "hook.py", 0o644)
    python = os.path.realpath(sys.executable)
    program = folder / "nvidia-container-runtime-hook"
    command = (python, "-I", "-S", str(driver.folder / "hook.py"), str(driver.folder))
    program.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
    program.chmod(0o755)


def _copy(source: Path, target: Path, mode: int) -> None:
    shutil.copyfile(source, target)
    target.chmod(mode)
