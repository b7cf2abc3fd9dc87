"""Devices that this project doesn't read itself, through the package ``zeus``: AMD and Apple.

``zeus`` reads a counter when a window begins and when it ends, wherever it stands between two of
its ticks. So a figure is as exact as a window is long, and is always marked ``short``. NVIDIA's
GPUs are read better by ``nvml``, and CPUs by ``rapl``: here the first only where the meter is asked
for by name, the second never.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pytest_llem import gpus
from pytest_llem.extensions import Target
from pytest_llem.nvml import Nvml
from pytest_llem.records import Reading

__all__ = ["GAIN", "Monitor", "ZeusMeter"]

GAIN = 0.1
"""Relative systematic uncertainty. It is ours: neither AMD nor Apple gives one for its counter."""

_PERIOD_S = 0.1
"""Between two ticks, as far as is known: the slowest counter that there is (NVIDIA since 2020)."""

_AMD = Path("/dev/kfd")
_INSTALL = 'zeus isn\'t installed: pip install "pytest-llem[zeus]"'
_SOC = {"gpu:apple": "gpu_mj", "cpu:0": "cpu_total_mj", "dram:0": "dram_mj"}
"""Domains of Apple's chips, and their fields in zeus' measurement, in millijoules."""


class Monitor(Protocol):
    """What is used of ``zeus.monitor.ZeusMonitor``."""

    gpu_indices: list[int]
    soc_is_present: bool
    soc: Any

    def begin_window(self, key: str, sync_execution: bool = True) -> None:
        """Read the counters."""

    def end_window(self, key: str, sync_execution: bool = True) -> Any:
        """Read them again; the differences as ``gpu_energy`` (joules) and ``soc_energy``."""


Opener = Callable[[list[int] | None], Monitor]
"""Makes a monitor of some GPUs, or of all."""


@dataclass(frozen=True, slots=True)
class _Start:
    """A window by zeus' name for it, or why there is none."""

    key: str
    problem: str = ""


class ZeusMeter:
    """Reads ``gpu:…`` of AMD, and ``gpu:apple``, ``cpu:0`` and ``dram:0`` of Apple's chips."""

    name = "zeus"
    estimates = False

    def __init__(
        self,
        target: Target,
        opener: Opener | None = None,
        library: Nvml | None = None,
        amd: Path = _AMD,
    ) -> None:
        """Find out what there is; zeus is not imported where there is nothing for it.

        Args:
            target: what to measure.
            opener: makes a monitor; by default zeus' own.
            library: ``pynvml``, or a test's own.
            amd: a file that is there when AMD's driver is.
        """
        self.domains: Sequence[str] = ()
        self.reason = ""
        self._opener = opener or _open
        self._monitor: Monitor | None = None
        self._indices: dict[str, int] = {}
        self._keys = (f"llem-{id(self)}-{number}" for number in itertools.count())
        if target.device == "cpu":
            self.reason = "it reads GPUs and Apple's chips; CPUs are read by the meter rapl"
        elif opener is None and importlib.util.find_spec("zeus") is None:
            self.reason = _INSTALL
        elif target.device == "mps":
            self._find_soc()
        elif nvidia := gpus.look(library).gpus[: target.count]:
            self._indices = {f"gpu:{gpu.uuid}": index for index, gpu in enumerate(nvidia)}
        elif amd.exists():
            self._find_gpus(target.count)
        else:
            self.reason = f"no AMD GPU: there is no {amd}"
        self.domains = self.domains or tuple(self._indices)

    def _find_gpus(self, count: int | None) -> None:
        if monitor := self._opened(None):
            found = monitor.gpu_indices[:count]
            self._indices = {f"gpu:amd-{index}": index for index in found}
            self.reason = "" if found else "zeus finds no GPU"
            # Made again for those alone: the others are not to be read.
            self._monitor = monitor if found == monitor.gpu_indices else None

    def _find_soc(self) -> None:
        if monitor := self._opened([]):
            told = monitor.soc.get_available_metrics() if monitor.soc_is_present else set()
            self.domains = tuple(domain for domain, field in _SOC.items() if field in told)
            self.reason = "" if self.domains else "zeus finds no Apple chip"

    def _opened(self, indices: list[int] | None) -> Monitor | None:
        try:
            self._monitor = self._opener(indices)
        except Exception as error:  # whatever a vendor's library raises
            self.reason = f"zeus can't be used: {error or type(error).__name__}"
        return self._monitor

    def start(self, exact: bool = True) -> _Start:  # noqa: ARG002  zeus knows no ticks to wait for
        """Let zeus read the counters."""
        key = next(self._keys)
        if not self.domains:
            return _Start(key)
        monitor = self._monitor or self._opened(list(self._indices.values()))
        if monitor is None:
            return _Start(key, self.reason)
        try:
            # What runs on the device is waited for by the backend.
            monitor.begin_window(key, sync_execution=False)
        except Exception as error:
            return _Start(key, f"zeus could not begin: {error or type(error).__name__}")
        return _Start(key)

    def stop(self, token: _Start, start_s: float, end_s: float) -> Sequence[Reading]:
        """Let zeus read them again."""
        if not self.domains:
            return []
        monitor, problem, found = self._monitor, token.problem, {}
        if monitor is not None and not problem:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of 0 J, which gets a reason here
                    found = self._energies(monitor.end_window(token.key, sync_execution=False))
            except Exception as error:
                problem = f"zeus could not end: {error or type(error).__name__}"
        return [
            self._reading(domain, found.get(domain), problem, end_s - start_s)
            for domain in self.domains
        ]

    def _energies(self, measurement: Any) -> dict[str, float]:
        """Joules by domain."""
        told: Mapping[int, float] = measurement.gpu_energy
        found = {domain: told[index] for domain, index in self._indices.items() if index in told}
        for domain, field in _SOC.items():
            if (millijoules := getattr(measurement.soc_energy, field, None)) is not None:
                found[domain] = millijoules / 1000
        return found

    def _reading(
        self, domain: str, energy_j: float | None, problem: str, duration_s: float
    ) -> Reading:
        if not problem and energy_j is None:
            problem = "zeus told no energy of it"
        elif not problem and energy_j == 0:
            problem = "zeus saw 0 J: the window is shorter than the counter takes to be renewed"
        elif energy_j is not None and not 0 < energy_j < math.inf:
            problem = problem or f"zeus saw {energy_j:g} J: the counter was reset"
        if problem or energy_j is None:
            return Reading(
                domain=domain,
                meter=self.name,
                method="counter",
                quality="unmeasured",
                reason=problem,
            )
        return Reading(
            domain=domain,
            meter=self.name,
            method="counter",
            energy_j=energy_j,
            # Each end is anywhere between two ticks.
            uncertainty_j=energy_j / max(duration_s, _PERIOD_S) * _PERIOD_S / math.sqrt(6),
            systematic=GAIN,
            quality="short",
            reason="read through zeus, not aligned to the counter's ticks, which may be"
            f" {_PERIOD_S * 1e3:g} ms apart",
        )

    def close(self) -> None:
        """Let the monitor go."""
        self._monitor = None


def _open(indices: list[int] | None) -> Monitor:
    # No CPUs: zeus reads RAPL too, by a process of its own for each counter.
    module = importlib.import_module("zeus.monitor")
    monitor: Monitor = module.ZeusMonitor(gpu_indices=indices, cpu_indices=[])
    return monitor
