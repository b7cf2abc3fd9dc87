"""The simulated driver's library: built once, loaded where the real one would be."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.rig.truth import read_stats

__all__ = ["RigUnavailable", "VirtualClock", "build", "load"]

_SOURCES = Path(__file__).parent / "simnvml"
_CACHE = Path(__file__).parents[2] / "build" / "simnvml"
_SONAME = "libnvidia-ml.so.1"
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared")
_LINK = ("-fvisibility=hidden", f"-Wl,-soname,{_SONAME}")


class RigUnavailable(Exception):
    """The simulated driver can't be built or loaded here; the message says why."""


@functools.cache
def build() -> Path:
    """Compile the library, once for each state of its sources.

    Returns:
        The library; its folder goes into ``LD_LIBRARY_PATH``.

    Raises:
        RigUnavailable: no Linux, no C compiler, or it failed.
    """
    if sys.platform != "linux":
        raise RigUnavailable(f"the simulated driver is for Linux, and this is {sys.platform}")
    sources = sorted(path for path in _SOURCES.iterdir() if path.suffix in {".c", ".h"})
    digest = hashlib.sha256(repr((_FLAGS, _LINK, platform.machine())).encode())
    for path in sources:
        digest.update(path.name.encode() + path.read_bytes())
    library = _CACHE / digest.hexdigest()[:16] / _SONAME
    if not library.exists():
        _compile([path for path in sources if path.suffix == ".c"], library)
    return library


def _compile(sources: list[Path], library: Path) -> None:
    compiler = shutil.which(os.environ.get("CC", "gcc")) or shutil.which("cc")
    if compiler is None:
        raise RigUnavailable("the simulated driver needs a C compiler; install gcc")
    library.parent.mkdir(parents=True, exist_ok=True)
    # Another session may be at it too: each compiles for itself, and the last one's stays.
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        unfinished = Path(folder, _SONAME)
        command = [compiler, *_FLAGS, *_LINK, "-o", str(unfinished), *map(str, sources)]
        done = subprocess.run([*command, "-lm", "-lpthread"], capture_output=True, text=True)
        if done.returncode:
            raise RigUnavailable(f"the simulated driver can't be compiled:\n{done.stderr}")
        unfinished.replace(library)


@functools.cache
def load() -> ctypes.CDLL:
    """The library in this process.

    pynvml asks the dynamic linker for it by its name, and gets the one of that name that is
    already there. LD_LIBRARY_PATH would be read at the start of the process only.
    """
    library = ctypes.CDLL(str(build()), mode=ctypes.RTLD_GLOBAL)
    _check_that_pynvml_uses(library)
    for name in ("energy", "power", "temperature"):
        getattr(library, f"simnvml_true_{name}").restype = ctypes.c_double
    library.simnvml_true_energy.argtypes = [ctypes.c_int, ctypes.c_double, ctypes.c_double]
    library.simnvml_true_power.argtypes = [ctypes.c_int, ctypes.c_double]
    library.simnvml_true_temperature.argtypes = [ctypes.c_int, ctypes.c_double]
    library.simnvml_configure.argtypes = [ctypes.c_char_p]
    library.simnvml_set_clock_ns.argtypes = [ctypes.c_int64]
    library.simnvml_advance_clock_ns.argtypes = [ctypes.c_int64]
    library.simnvml_clock_ns.restype = ctypes.c_int64
    return library


def _check_that_pynvml_uses(library: ctypes.CDLL) -> None:
    """A driver that was loaded before stays this process's driver."""
    import pynvml

    with tempfile.TemporaryDirectory() as folder:
        stats = Path(folder, "calls")
        config = Path(folder, "simnvml.conf")
        config.write_text(f"stats={stats}\n")
        library.simnvml_configure(os.fsencode(config))
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            pynvml.nvmlShutdown()
        if not read_stats(stats):
            raise RigUnavailable("another libnvidia-ml.so.1 is already loaded in this process")


class VirtualClock:
    """A clock that moves only by looking at it, by sleeping and by the latency of NVML's calls.

    With it, hours of simulated windows take seconds, and every run is the same.
    """

    look_ns = 1_000
    """What a look at it takes: a loop that waits for a time must come to an end."""

    def __init__(self, library: ctypes.CDLL, start_ns: int) -> None:
        self._library = library
        self._library.simnvml_set_clock_ns(start_ns)

    def time_ns(self) -> int:
        """Nanoseconds, as ``time.monotonic_ns()``."""
        self._library.simnvml_advance_clock_ns(self.look_ns)
        return int(self._library.simnvml_clock_ns())

    def monotonic(self) -> float:
        """Seconds, as ``time.monotonic()``."""
        return self.time_ns() * 1e-9

    def sleep(self, seconds: float) -> None:
        """As ``time.sleep()``."""
        self._library.simnvml_advance_clock_ns(round(seconds * 1e9))
