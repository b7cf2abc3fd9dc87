"""What it costs to append a measurement to the journal.

Run it with: python perf/journal.py [--quick] [--json PATH] [--folder DIR]

Outcomes of full size (all metrics, five windows with readings) are appended one after another to
one journal. Two things are judged: the median time of an append, and whether it stays the same as
the file grows, by the median of the last tenth over that of the first.

An append ends with fsync, so that it includes the disk below. To show how much of it is the disk's,
the same bytes are written and fsynced to another file right after each append, with nothing of
this package in between. The folder decides the file system; by default it is the current one,
where results go too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llem.demands import RunnerSpec
from pytest_llem.experiment import Experiment
from pytest_llem.metrics import METRICS
from pytest_llem.records import Figure, Measurement, Reading, Window
from pytest_llem.results.journal import Journal
from pytest_llem.results.outcome import Outcome
from pytest_llem.wire import to_dict

LIMIT_MS = 1.0
FLAT = 1.5
PHASES = ("load", "idle", "warmup", "measure", "close")
EXPERIMENT = Experiment(id="batch_size-16", model="org/some-model-7b", batch_size=16)


def window(phase: str, start_s: float) -> Window:
    """A phase in which three domains were read."""
    readings = tuple(
        Reading(
            domain=domain, meter="nvml", method="counter", energy_j=1234.5678, uncertainty_j=0.9
        )
        for domain in ("gpu:GPU-5a1c2e3f-0000-1111-2222-333344445555", "cpu:0", "dram:0")
    )
    return Window(phase=phase, start_s=start_s, duration_s=12.345678, readings=readings)


def measurement() -> Measurement:
    """A measurement with every metric and window there is."""
    return Measurement(
        experiment=EXPERIMENT.id,
        digest="d" * 64,
        cycle=1,
        windows=tuple(window(phase, 100.0 * i) for i, phase in enumerate(PHASES)),
        metrics={name: Figure(value=123.456789, uncertainty=1.23456) for name in METRICS},
        tokens={"requests": 100, "input": 51200, "output": 12800},
        tokens_sha256="e" * 64,
        warnings=("the clocks were throttled in measure: cool the device, or lower its limit",),
        testbed={"device": "cuda", "gpu": "H200", "cpus": 64, "power_limit_w": 700.0},
        subject={"backend": "pytorch", "versions": {"torch": "2.13.0", "transformers": "5.23.0"}},
    )


def outcome() -> Outcome:
    """What the plugin keeps of a measurement of full size."""
    return Outcome(
        study="a-study",
        file="benchmarks/a.study.yaml",
        node="benchmarks/a.study.yaml::batch_size-16::c1",
        experiment=EXPERIMENT.id,
        digest="d" * 64,
        cycle=1,
        runner=RunnerSpec(mode="local"),
        finished="2026-01-02T03:04:05+00:00",
        config=to_dict(EXPERIMENT),
        measurement=measurement(),
    )


def times(folder: Path, count: int) -> tuple[list[float], list[float], int]:
    """Milliseconds of each append, of each bare write and fsync, and the size of a line."""
    kept = outcome()
    journal = Journal(folder, "main")
    path = folder / "journal.main.jsonl"
    appended, bare = [], []
    with (folder / "bare").open("ab", buffering=0) as file, path.open("rb") as reader:
        for number in range(count):
            next_one = dataclasses.replace(kept, cycle=number + 1)
            start_s = time.perf_counter()
            journal.append(next_one)
            appended.append((time.perf_counter() - start_s) * 1e3)
            line = reader.read()
            start_s = time.perf_counter()
            file.write(line)
            os.fsync(file.fileno())
            bare.append((time.perf_counter() - start_s) * 1e3)
    journal.close()
    return appended, bare, len(line)


def file_system(folder: Path) -> str:
    """Type of the file system below a folder, as the kernel names it."""
    found = ("", "unknown")
    mounts = Path("/proc/self/mounts")
    for line in mounts.read_text().splitlines() if mounts.exists() else ():
        _, point, kind, *_ = line.split()
        if folder.resolve().is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, kind)
    return found[1]


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    return {
        "median_ms": statistics.median(values),
        "p99_ms": statistics.quantiles(values, n=100)[98],
    }


def report(folder: Path, count: int) -> dict[str, Any]:
    """Everything measured, as plain JSON data."""
    appended, bare, size = times(folder, count)
    tenth = count // 10
    parts = {
        "all": (appended, bare),
        "first tenth": (appended[:tenth], bare[:tenth]),
        "last tenth": (appended[-tenth:], bare[-tenth:]),
    }
    rows = {
        name: {"append": summary(own), "bare": summary(disk)} for name, (own, disk) in parts.items()
    }
    median = rows["all"]["append"]["median_ms"]
    growth = rows["last tenth"]["append"]["median_ms"] / rows["first tenth"]["append"]["median_ms"]
    return {
        "schema_version": 1,
        "python": platform.python_version(),
        "file_system": file_system(folder),
        "appends": count,
        "line_bytes": size,
        "times": rows,
        "fsync_share": rows["all"]["bare"]["median_ms"] / median,
        "growth": growth,
        "limit_ms": LIMIT_MS,
        "flat_below": FLAT,
        "passed": median <= LIMIT_MS and growth <= FLAT,
    }


def show(data: Mapping[str, Any]) -> None:
    """Print the table."""
    print(
        f"{data['appends']:,} outcomes of {data['line_bytes']:,} bytes,"
        f" Python {data['python']}; times in ms"
    )
    print(f"{'':<14}{'append median':>15}{'p99':>9}{'bare median':>14}{'p99':>9}")
    for name, row in data["times"].items():
        own, disk = row["append"], row["bare"]
        print(
            f"{name:<14}{own['median_ms']:>15.3f}{own['p99_ms']:>9.3f}"
            f"{disk['median_ms']:>14.3f}{disk['p99_ms']:>9.3f}"
        )
    print(
        f"fsync on this file system ({data['file_system']}) is included; a bare write and fsync of"
        f" the same bytes takes {data['fsync_share']:.0%} of it"
    )
    kept = "kept" if data["passed"] else "NOT KEPT"
    print(
        f"last tenth over first: {data['growth']:.2f}; limits: median {data['limit_ms']:g} ms,"
        f" growth {data['flat_below']:g}: {kept}"
    )


def main() -> int:
    """Measure, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="1,000 appends instead of 10,000")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=".perf-journal-", dir=options.folder) as folder:
        data = report(Path(folder), 1_000 if options.quick else 10_000)
    show(data)
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0 if data["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
