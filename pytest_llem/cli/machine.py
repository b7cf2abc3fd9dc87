"""What this host is and has, told by its files. The root directory is a parameter everywhere."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from pathlib import Path

from pytest_llem.cli.check import Check
from pytest_llem.runners.detect import Access

__all__ = ["check_cpu", "check_gpus", "check_platform", "check_python"]

_PYTHON = (3, 10)
_DRIVER = re.compile(r"Kernel Module(?: for \S+)?\s+(\d[\d.]*)")
_MODEL = re.compile(r"^Model:\s*(.+?)\s*$", re.MULTILINE)


def check_python(version: tuple[int, int, int], executable: str) -> Check:
    """Whether this Python is new enough; also which one it is, as there may be many."""
    detail = f"{'.'.join(map(str, version))} at {executable}"
    if version[:2] >= _PYTHON:
        return Check("python", "ok", detail)
    needed = ".".join(map(str, _PYTHON))
    fix = f"python{needed} -m venv .venv"
    return Check("python", "problem", f"{detail}; {needed} or later is needed", fix)


def check_platform(system: str, release: str, machine: str) -> Check:
    """Whether workers can run on this operating system."""
    detail = f"{system} {release} {machine}"
    if system == "Windows":
        detail += "; measurements need Linux or macOS: use WSL 2, and install pytest-llem in there"
        return Check("platform", "problem", detail, "wsl --install")
    if system not in {"Linux", "Darwin"}:
        return Check("platform", "note", f"{detail}; only Linux and macOS are supported")
    return Check("platform", "ok", detail)


def check_cpu(root: Path, machine: str) -> Check:
    """Model and number of logical CPUs that this process may use."""
    names = re.findall(r"^model name\s*:\s*(.+)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    model = names[0] if names else machine
    return Check("cpu", "ok", f"{model}, {count} logical CPU{'s' if count > 1 else ''}")


def check_gpus(root: Path, access: Access = os.access) -> Check:
    """NVIDIA GPUs that the driver names, and whether this user may open them."""
    gpus = root / "proc/driver/nvidia/gpus"
    nodes = sorted((root / "dev").glob("nvidia[0-9]*"))
    models = [
        found.group(1) if (found := _MODEL.search(_read(path))) else "unknown model"
        for path in sorted(gpus.glob("*/information"))
    ]
    if not models and not nodes:
        return _no_gpu(root)
    count = Counter(models or ["unknown model"] * len(nodes))
    detail = ", ".join(f"{number} x {model}" for model, number in count.items())
    if driver := _DRIVER.search(_read(root / "proc/driver/nvidia/version")):
        detail += f", driver {driver.group(1)}"
    if not nodes:
        detail += "; but no /dev/nvidia0: made at first use, or kept from this container"
        return Check("gpu", "note", detail, "nvidia-smi  # or start the container with --gpus all")
    mode = os.R_OK | os.W_OK
    shared = [root / "dev/nvidiactl", root / "dev/nvidia-uvm"]
    shut = [path for path in (*nodes, *shared) if path.exists() and not access(path, mode)]
    if shut:
        detail += f"; this user may not open {', '.join(path.name for path in shut)} in /dev"
        fix = "sudo chmod a+rw /dev/nvidia*  # the driver's own default"
        return Check("gpu", "problem", detail, fix)
    if models and len(nodes) < len(models):
        detail += f"; {len(nodes)} of {len(models)} can be opened here"
    return Check("gpu", "ok", detail)


def _no_gpu(root: Path) -> Check:
    if (root / "dev/dxg").exists():
        return Check("gpu", "note", "a GPU through WSL 2 (/dev/dxg); files don't tell which")
    return Check("gpu", "note", "no NVIDIA GPU: nothing in /proc/driver/nvidia or /dev/nvidia*")


def _read(path: Path) -> str:
    """Text of a file; nothing where it can't be read."""
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")
    return ""
