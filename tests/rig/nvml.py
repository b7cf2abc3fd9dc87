"""Simulated GPUs whose energy is known: a driver's library that the real ``pynvml`` loads.

    rig = Rig(tmp_path, H100, settings={"wave": "square:300,700,0.4", "tail_ms": 180})
    with rig.open():  # in this process; rig.environment() is for another
        import pynvml

        pynvml.nvmlInit()
        with rig.load() as load:
            time.sleep(0.5)
    rig.truth().energy(load.start_s, load.end_s)

The keys of the settings stand in :mod:`tests.rig.boards`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.rig.boards import A100, BOARDS, H100, NO_COUNTER, SENSOR, V100, Settings
from tests.rig.library import RigUnavailable, VirtualClock, build, load
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
    "Settings",
    "VirtualClock",
    "build",
]

_LIBRARY_NOT_FOUND = 12
_ABSENT = {
    "ngpus": 0,
    "err.nvmlInitWithFlags": _LIBRARY_NOT_FOUND,
    "err.nvmlInit_v2": _LIBRARY_NOT_FOUND,
}
"""A machine without a driver: what a process sees that has loaded the library, but has no rig."""

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
        # In one step: a process that watches the file never reads half of it.
        unfinished = path.with_suffix(".new")
        unfinished.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        unfinished.replace(path)

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
        self._library = load()
        self.configure()
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
