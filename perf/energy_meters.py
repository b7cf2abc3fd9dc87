"""Meters under one roof, and the windows that they are given. Part of energy_accuracy.py.

Everything here needs the standard library only, and each meter's package when that meter is made:
this file also runs as a process of its own, in the interpreter that has the package. Then it reads
a job from its standard input and writes what was measured to its standard output, both as JSON.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

__all__ = ["METERS", "NEEDS", "Answer", "Ours", "Step", "measure"]

NEEDS = {
    "ours": "",
    "polling": "nvidia-ml-py==13.615.71",
    "zeus": "zeus==0.16.0",
    "codecarbon": "codecarbon==3.3.2",
    "llenergymeasure": "llenergymeasure==0.7.0",
}
"""The version with which the figures in docs/methodology.md were made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A window to measure.

    Attributes:
        pause_s: without load before the meter is started.
        window_s: under which length it is shown.
        duration_s: of the load.
    """

    pause_s: float
    window_s: float
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a meter says of a window; null and a reason where it says nothing.

    Attributes:
        spread_j: standard uncertainty.
        above_j: energy above idle until the device was back there.
    """

    energy_j: float | None = None
    spread_j: float | None = None
    above_j: float | None = None
    method: str = ""
    quality: str = ""
    reason: str = ""


class Clock(Protocol):
    """What is used of the module ``time``."""

    def monotonic(self) -> float:
        """Seconds."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


class Meter(Protocol):
    """Anything that measures a window."""

    def start(self) -> None:
        """Begin."""

    def stop(self, start_s: float, end_s: float, /) -> Answer:
        """End; the window lay between two times of the monotonic clock."""


# --- the meters ------------------------------------------------------------------------------


class Ours:
    """pytest-llem's, on one GPU. Like a worker's, it sees an idle window and a warm-up first."""

    def __init__(self, clock: Clock = time, **seams: Any) -> None:
        """Probe the counter; further arguments are the meter's own."""
        nvml = importlib.import_module("pytest_llem.meters.nvml")
        target = importlib.import_module("pytest_llem.extensions").Target(device="cuda")
        self._meter = nvml.NvmlMeter(target, clock=clock, **seams)
        self._token: Any = None

    def start(self) -> None:
        """Begin."""
        self._token = self._meter.start()

    def stop(self, start_s: float, end_s: float) -> Answer:
        """End."""
        readings = self._meter.stop(self._token, start_s, end_s)
        if not readings:
            return Answer(quality="unmeasured", reason=self._meter.reason)
        (reading,) = readings
        return Answer(
            energy_j=reading.energy_j,
            spread_j=reading.uncertainty_j,
            above_j=reading.to_idle.above_j if reading.to_idle else None,
            method=reading.method,
            quality=reading.quality,
            reason=reading.reason or "",
        )

    def close(self) -> None:
        """Close NVML."""
        self._meter.close()


class Polling:
    """Power every 100 ms from a thread, a sample at each end, and the trapezoidal rule."""

    def __init__(self) -> None:
        """Open NVML."""
        self._nvml: Any = importlib.import_module("pynvml")
        self._nvml.nvmlInit()
        self._gpu = self._nvml.nvmlDeviceGetHandleByIndex(0)

    def _sample(self) -> None:
        power_w = self._nvml.nvmlDeviceGetPowerUsage(self._gpu) / 1000
        self._samples.append((time.monotonic(), power_w))

    def _poll(self) -> None:
        while not self._over.wait(0.1):
            self._sample()

    def start(self) -> None:
        """Begin."""
        self._samples: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._sample()
        self._thread = threading.Thread(target=self._poll)
        self._thread.start()

    def stop(self, _start_s: float, _end_s: float) -> Answer:
        """End."""
        self._sample()
        self._over.set()
        self._thread.join()
        samples = sorted(self._samples)
        pairs = itertools.pairwise(samples)
        return Answer(energy_j=sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs))


class Zeus:
    """``ZeusMonitor``, without waiting for a framework that isn't there."""

    def __init__(self) -> None:
        """As its documentation says."""
        monitor = importlib.import_module("zeus.monitor").ZeusMonitor
        self._monitor = monitor(gpu_indices=[0], cpu_indices=[])

    def start(self) -> None:
        """Begin."""
        self._monitor.begin_window("window", sync_execution=False)

    def stop(self, _start_s: float, _end_s: float) -> Answer:
        """End."""
        found = self._monitor.end_window("window", sync_execution=False)
        return Answer(energy_j=sum(found.gpu_energy.values()))


class CodeCarbon:
    """``OfflineEmissionsTracker`` with tasks and an interval of 1 s, as in optimum-benchmark."""

    def __init__(self) -> None:
        """As its documentation says; nothing is written, and nothing sent."""
        tracker = importlib.import_module("codecarbon").OfflineEmissionsTracker
        self._tracker = tracker(
            country_iso_code="FRA",
            measure_power_secs=1,
            tracking_mode="machine",
            save_to_file=False,
            log_level="critical",
            allow_multiple_runs=True,
        )

    def start(self) -> None:
        """Begin."""
        self._tracker.start_task()

    def stop(self, _start_s: float, _end_s: float) -> Answer:
        """End."""
        return Answer(energy_j=self._tracker.stop_task().gpu_energy * 3.6e6)


class LlEnergyMeasure:
    """``NVMLSampler``: the one that it prefers, by zeus, fails with zeus 0.16."""

    def __init__(self) -> None:
        """As its documentation says."""
        self._sampler = importlib.import_module("llenergymeasure.energy.nvml").NVMLSampler([0])
        self._tracker: Any = None

    def start(self) -> None:
        """Begin."""
        self._tracker = self._sampler.start_tracking()

    def stop(self, _start_s: float, _end_s: float) -> Answer:
        """End."""
        return Answer(energy_j=self._sampler.stop_tracking(self._tracker).total_j)


METERS: Mapping[str, Callable[[], Meter]] = {
    "ours": Ours,
    "polling": Polling,
    "zeus": Zeus,
    "codecarbon": CodeCarbon,
    "llenergymeasure": LlEnergyMeasure,
}


# --- windows ---------------------------------------------------------------------------------


def measure(
    meter: Meter,
    steps: Sequence[Step],
    mark: Callable[[int], float],
    calls: Callable[[], int],
    clock: Clock = time,
) -> list[dict[str, Any]]:
    """Give a meter windows, one after another.

    Args:
        meter: that is asked.
        steps: the windows.
        mark: begins (1) or ends (0) the load; returns when.
        calls: of NVML so far, by anybody.
        clock: the module ``time``, or simulated.

    Returns:
        Of each: the fields of its :class:`Answer`, ``window_s``, ``start_s`` and ``end_s`` of the
        load, ``edge_s`` that start and stop took, ``calls``, ``calls_inside`` and ``cpu_s``.
    """
    found = []
    for step in steps:
        clock.sleep(step.pause_s)
        calls_0, cpu_0_s, begun_s = calls(), time.process_time(), clock.monotonic()
        try:
            meter.start()
        except Exception as error:
            found.append(_nothing(step, error))
            continue
        start_s = mark(1)
        calls_1 = calls()
        clock.sleep(step.duration_s)
        calls_2 = calls()
        end_s = mark(0)
        try:
            answer = meter.stop(start_s, end_s)
        except Exception as error:
            found.append(_nothing(step, error))
            continue
        over_s = clock.monotonic()
        found.append(
            {
                **asdict(answer),
                "window_s": step.window_s,
                "start_s": start_s,
                "end_s": end_s,
                "edge_s": over_s - begun_s - (end_s - start_s),
                "calls": calls() - calls_0,
                "calls_inside": calls_2 - calls_1,
                "cpu_s": time.process_time() - cpu_0_s,
            }
        )
    return found


def _nothing(step: Step, error: Exception) -> dict[str, Any]:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return {**asdict(Answer(quality="unmeasured", reason=reason)), "window_s": step.window_s}


# --- in a process of its own -----------------------------------------------------------------


def _truth(path: str) -> Any:
    """The module of the marks, by its path: other packages bring a package ``tests`` too."""
    spec = importlib.util.spec_from_file_location("truth", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["truth"] = module
    spec.loader.exec_module(module)
    return module


def _windows(job: Mapping[str, Any], library: Any) -> list[dict[str, Any]]:
    marks = library.Marks(Path(job["marks"]), create=False)
    stats = Path(job["stats"])
    return measure(
        METERS[job["meter"]](),
        [Step(**step) for step in job["steps"]],
        lambda gate: float(marks.mark(gate)) * 1e-9,
        lambda: sum(library.read_stats(stats).values()),
    )


def main() -> None:
    """Do the job on the standard input."""
    job = json.load(sys.stdin)
    # What meters print goes elsewhere.
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        # Not the folder of this file, where other scripts lie.
        sys.path[:1] = job["path"]
        try:
            found: dict[str, Any] = {"windows": _windows(job, _truth(job["truth"]))}
        except Exception as error:
            found = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
        json.dump(found, answer)
        answer.flush()
        # Some leave threads behind that never end.
        os._exit(0)


if __name__ == "__main__":
    main()
