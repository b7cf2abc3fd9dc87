"""Simulated GPUs whose energy is known: a driver's library that the real ``pynvml`` loads.

    rig = Rig(tmp_path, H100, settings={"wave": "square:300,700,0.4", "tail_ms": 180})
    with rig.open():  # in this process; rig.environment() is for another
        import pynvml

        pynvml.nvmlInit()
        with rig.load() as load:
            time.sleep(0.5)
    rig.truth().energy(load.start_s, load.end_s)

The keys of the settings, in the text file that the library reads:

===================================  ============================================================
``ngpus epoch_ns driver cuda``       the machine; Rig sets the first two
``marks stats``                      files of load marks and of call counters; Rig sets them
``latency_us latency_jitter_us``     time each call takes; ``latency_mode`` is ``sleep`` or ``spin``
``latency.FUNCTION_us``              time the calls of one function take
``missing``                          functions that the driver doesn't have: ``fn,fn``
``err.FUNCTION``                     ``code[,after_s[,every_n[,from_call]]]``; several after ``;``
``name uuid arch cc mem_total``      what the board is
``wave wave_phase idle gated``       power under load, without load; ``gated=0`` is always load
``origin``                           ``mark``: each load begins the wave anew; or ``epoch``
``tail_ms tail_shape``               what follows a load: ``linear``, ``exponential``, ``steps``
``{usage,instant,average}_period_ms  PowerUsage, POWER_INSTANT, POWER_AVERAGE: how often updated,
...._window_ms``                     over what averaged
``gain offset_w noise``              of the sensors; ``sensor_delay_ms``
``tick_phase_ms``                    when sensors and counter tick after the epoch
``energy_period_ms``                 of the counter; also ``energy_jitter_ms energy_gain``
``energy_source``                    ``true``, or ``sensor``: it sums what the sensor sees
``energy_quant_mj energy_bits``      its steps, its width; ``energy_base_mj``: its start
``energy_reset_s``                   when it begins again at 0
``energy_supported``                 also ``instant_ average_ samples_supported``
``samples_period_ms field_ts``       of samples; time stamp of fields: ``call``, ``tick``, ``zero``
``power_limit_w``                    in force; ``power_min_w power_max_w``: what may be set
``temp0 temp_per_w temp_tau_s``      degrees at 0 W, per W, and how slowly they follow
``procs graphics_procs``             ``pid:bytes,pid:bytes``; bytes left out are not told
``mem_used throttle mig``            also ``persistence sm_clock mem_clock``
``utilization``                      in percent; where not set it follows power
``gpuN.KEY``                         of one GPU
``at.SECONDS.KEY``                   from a time after the epoch on: the keys from ``procs`` down,
                                     and ``power_limit_w``
===================================  ============================================================
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.rig.truth import Counter, Marks, Tail, Truth, read_stats

__all__ = [
    "A100",
    "BOARDS",
    "H100",
    "NO_COUNTER",
    "SENSOR",
    "V100",
    "Load",
    "Rig",
    "RigUnavailable",
    "VirtualClock",
    "build",
]

Settings = Mapping[str, str | float]

_SOURCES = Path(__file__).parent / "simnvml"
_CACHE = Path(__file__).parents[2] / "build" / "simnvml"
_SONAME = "libnvidia-ml.so.1"
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared")
_LINK = ("-fvisibility=hidden", f"-Wl,-soname,{_SONAME}")

_LIBRARY_NOT_FOUND = 12
_ABSENT = {
    "ngpus": 0,
    "err.nvmlInitWithFlags": _LIBRARY_NOT_FOUND,
    "err.nvmlInit_v2": _LIBRARY_NOT_FOUND,
}
"""A machine without a driver: what a process sees that has loaded the library, but has no rig."""

# --- boards ----------------------------------------------------------------------------------

V100: Settings = {
    "name": "Tesla V100-SXM2-32GB",
    "arch": 5,
    "cc": "7.0",
    "mem_total": 32 * 2**30,
    "idle": 40,
    "wave": "const:250",
    "power_limit_w": 300,
    "power_min_w": 150,
    "power_max_w": 300,
    "energy_period_ms": 20,
    "usage_period_ms": 20,
    "usage_window_ms": 10,
    "instant_period_ms": 20,
    "instant_window_ms": 10,
    "average_supported": 0,
}
"""A counter every 20 ms; the power of the last 10 ms as often."""

A100: Settings = {
    "name": "NVIDIA A100-SXM4-80GB",
    "arch": 7,
    "cc": "8.0",
    "mem_total": 80 * 2**30,
    "idle": 60,
    "wave": "const:400",
    "power_limit_w": 400,
    "power_min_w": 100,
    "power_max_w": 400,
    "energy_period_ms": 100,
    "usage_period_ms": 100,
    "usage_window_ms": 25,
    "average_supported": 0,
}
"""A counter every 100 ms; power sampled over 25 ms of each 100 ms."""

H100: Settings = {
    "name": "NVIDIA H100 80GB HBM3",
    "arch": 9,
    "cc": "9.0",
    "mem_total": 80 * 2**30,
    "idle": 70,
    "wave": "const:600",
    "power_limit_w": 700,
    "power_min_w": 200,
    "power_max_w": 700,
    "energy_period_ms": 100,
    "usage_period_ms": 100,
    "usage_window_ms": 1000,
}
"""A counter every 100 ms; PowerUsage is the mean of the last second."""

NO_COUNTER: Settings = {
    **H100,
    "name": "Simulated board without a counter",
    "energy_supported": 0,
    "instant_supported": 0,
    "samples_supported": 0,
}
"""No counter: only power, averaged over a second, every 100 ms."""

SENSOR: Settings = {
    **A100,
    "name": "Simulated board with a counter that sees a quarter of the time",
    "energy_source": "sensor",
}
"""A counter that sums what a sensor sees in 25 ms of each 100 ms."""

BOARDS: Mapping[str, Settings] = {
    "V100": V100,
    "A100": A100,
    "H100": H100,
    "NO_COUNTER": NO_COUNTER,
    "SENSOR": SENSOR,
}

_DEFAULTS: Settings = {
    "origin": "mark",
    "gated": 1,
    "wave_phase": 0,
    "tail_ms": 0,
    "tail_shape": "linear",
    "energy_quant_mj": 1,
    "energy_base_mj": 123456789,
    "energy_bits": 0,
    "energy_reset_s": 0,
}
"""Those of the library that the truth must know too."""


# --- the library -----------------------------------------------------------------------------


class RigUnavailable(Exception):
    """The simulated driver can't be built or loaded here; the message says why."""


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


def _load() -> ctypes.CDLL:
    """The library in this process.

    pynvml asks the dynamic linker for it by its name, and gets the one of that name that is
    already there. LD_LIBRARY_PATH would be read at the start of the process only.
    """
    library = ctypes.CDLL(str(build()), mode=ctypes.RTLD_GLOBAL)
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


# --- the rig ---------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Load:
    """When a load was on, in seconds of ``time.monotonic()``; ``end_s`` once it is over."""

    start_s: float
    end_s: float = float("nan")


class Rig:
    """A machine with simulated GPUs.

    Args:
        folder: for its files; made where it isn't there.
        board: what the GPUs are, one of this module's.
        gpus: how many.
        settings: more keys, which win over the board's.
        age_s: seconds since the epoch, so that there is a past to put marks into.
    """

    def __init__(
        self,
        folder: Path,
        board: Settings = H100,
        *,
        gpus: int = 1,
        settings: Settings | None = None,
        age_s: float = 10.0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.epoch_ns = time.monotonic_ns() - round(age_s * 1e9)
        self.config_path = folder / "simnvml.conf"
        self.stats_path = folder / "calls"
        self.marks = Marks(folder / "marks")
        self._clock_ns = time.monotonic_ns
        self._library: ctypes.CDLL | None = None
        phases = {f"gpu{i}.tick_phase_ms": 13.7 * (i + 1) for i in range(gpus)}
        self.settings: dict[str, str | float] = {
            "ngpus": gpus,
            "epoch_ns": self.epoch_ns,
            "marks": str(self.marks.path),
            "stats": str(self.stats_path),
            **_DEFAULTS,
            **({} if "tick_phase_ms" in (settings or {}) else phases),
            **board,
            **(settings or {}),
        }
        self._write(self.config_path, self.settings)

    @staticmethod
    def _write(path: Path, settings: Settings) -> None:
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))

    # --- for other processes -----------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """This process's environment, and what makes another process find these GPUs."""
        paths = [str(build().parent), os.environ.get("LD_LIBRARY_PATH", "")]
        return {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(filter(None, paths)),
            "SIMNVML_CONFIG": str(self.config_path),
            "SIMNVML_MARKS": str(self.marks.path),
            "SIMNVML_STATS": str(self.stats_path),
        }

    # --- for this process --------------------------------------------------------------------

    @contextlib.contextmanager
    def open(self) -> Iterator[Rig]:
        """Be this process's driver for the length of a block; none is there after it.

        Raises:
            RigUnavailable: this process has loaded another NVML before.
        """
        self._library = _load()
        self.configure()
        self._check_that_pynvml_uses_it()
        try:
            yield self
        finally:
            absent = self.config_path.with_name("absent.conf")
            self._write(absent, _ABSENT)
            self._library.simnvml_configure(os.fsencode(absent))
            self._library = None

    @contextlib.contextmanager
    def virtual_time(self) -> Iterator[VirtualClock]:
        """Let the opened GPUs, and the marks, follow a clock that the test moves."""
        clock = VirtualClock(self.library, time.monotonic_ns())
        self._clock_ns = clock.time_ns
        try:
            yield clock
        finally:
            self._clock_ns = time.monotonic_ns
            self.library.simnvml_set_clock_ns(0)

    def configure(self, settings: Settings | None = None) -> None:
        """Change settings; here the GPUs are then as after loading the driver: not yet opened.

        Raises:
            ValueError: a key or value that the library doesn't know.
        """
        self.settings.update(settings or {})
        self._write(self.config_path, self.settings)
        if self._library and self._library.simnvml_configure(os.fsencode(self.config_path)):
            raise ValueError("simnvml didn't understand a setting; see its lines on stderr")

    @property
    def library(self) -> ctypes.CDLL:
        """The library with its functions for tests (``simnvml_...``), while it is open."""
        assert self._library is not None, "call open() first"
        return self._library

    def _check_that_pynvml_uses_it(self) -> None:
        import pynvml

        before = self.calls()
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            pynvml.nvmlShutdown()
        if self.calls() == before:
            raise RigUnavailable("another libnvidia-ml.so.1 is already loaded in this process")
        # The look must not count, neither as a call nor for errors from the n-th call on.
        self.stats_path.unlink()
        self.configure()

    # --- load --------------------------------------------------------------------------------

    def mark(self, gate: float, at_s: float | None = None) -> float:
        """Begin (1) or end (0) the load; returns when, in seconds of ``time.monotonic()``.

        Args:
            gate: share of the load.
            at_s: when; now where not given.
        """
        at_ns = self._clock_ns() if at_s is None else round(at_s * 1e9)
        return self.marks.mark(gate, at_ns) * 1e-9

    @contextlib.contextmanager
    def load(self, gate: float = 1.0) -> Iterator[Load]:
        """Load for the length of a block."""
        load = Load(start_s=self.mark(gate))
        try:
            yield load
        finally:
            load.end_s = self.mark(0)

    # --- what is true ------------------------------------------------------------------------

    def setting(self, key: str, gpu: int = 0) -> str | float:
        """What is set for a GPU."""
        return self.settings.get(f"gpu{gpu}.{key}", self.settings.get(key, ""))

    def truth(self, gpu: int = 0) -> Truth:
        """Exact power and energy of a GPU."""
        return Truth(
            wave=str(self.setting("wave", gpu)),
            idle_w=float(self.setting("idle", gpu)),
            gated=bool(float(self.setting("gated", gpu))),
            origin=str(self.setting("origin", gpu)),
            epoch_ns=self.epoch_ns,
            marks=self.marks,
            phase_s=float(self.setting("wave_phase", gpu)),
            tail=Tail(
                float(self.setting("tail_ms", gpu)) / 1000, str(self.setting("tail_shape", gpu))
            ),
        )

    def counter(self, gpu: int = 0) -> Counter:
        """What a GPU's counter shows, where it follows the truth without jitter or gain."""
        return Counter(
            truth=self.truth(gpu),
            period_s=float(self.setting("energy_period_ms", gpu)) / 1000,
            phase_s=float(self.setting("tick_phase_ms", gpu)) / 1000,
            quantum_mj=float(self.setting("energy_quant_mj", gpu)),
            base_mj=float(self.setting("energy_base_mj", gpu)),
            bits=int(float(self.setting("energy_bits", gpu))),
            reset_s=float(self.setting("energy_reset_s", gpu)),
        )

    def calls(self) -> dict[str, int]:
        """Calls of each function by all processes so far."""
        return read_stats(self.stats_path)
