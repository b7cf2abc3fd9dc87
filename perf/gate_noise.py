"""How much the same measurement scatters here: repeated sessions, and a model of noise from them.

Run it with: python perf/gate_noise.py [--sessions N] [--fit-only] [--out PATH]

The quickstart study (PyTorch on the CPU, three experiments) is measured in one session of pytest
after another, three cycles each, a fresh worker for each measurement. Of the logarithms of
tokens per second, with the sign such that more is slower, and over all experiments:

    drift        median change from a cycle to the next
    within       of cycles of one session, by the median of the differences of any two; this and
                 what follows without the drift
    slow cycles  those above their session's median by more than four times that: share and size
    between      of sessions' medians, less what cycles explain of that

``perf/gate_noise.json`` keeps the speeds and the model, which perf/gate_power.py judges rules by.
The rule of the gate is also tried on the sessions as they were: each that has five before it is
compared with these, as it is and 10 % slower. What is found on a machine that others use too is an
upper bound; beside each session stands how many processes wanted to run. A core of its own comes
nearer to a quiet machine, and the data say so:

    chrt --rr 1 taskset --cpu-list 1 python perf/gate_noise.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from perf.gate_power import BUDGET, OWN, Model
from pytest_llem.results.compare import Change, change, judged, scatter

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "benchmarks" / "quickstart.study.yaml"
METRIC = "output_tokens_per_s"
CYCLES = 3
_OF_MEDIAN = math.pi / 2
_SLOW = 4.0
"""Standard deviations above its session's median: then a cycle is slow for reasons of its own."""

Speeds = Mapping[str, Sequence[float]]
"""Of one session: tokens per second of each cycle, by experiment."""


def fit(sessions: Sequence[Speeds]) -> Model:
    """A model of the noise in these sessions, three at least of three cycles at least."""
    series = [[-math.log(speed) for speed in cycles] for one in sessions for cycles in one.values()]
    drift = statistics.median(b - a for cycles in series for a, b in itertools.pairwise(cycles))
    level = [[value - drift * n for n, value in enumerate(cycles)] for cycles in series]
    within = scatter(level)
    off = [value - statistics.median(cycles) for cycles in level for value in cycles]
    slow = [math.expm1(each) for each in off if each > _SLOW * within]
    names = sessions[0]
    medians = {name: [_median(one[name]) for one in sessions] for name in names}
    cycles = min(map(len, names.values()))
    spread = statistics.fmean(statistics.variance(each) for each in medians.values())
    return Model(
        within=within,
        between=math.sqrt(max(0.0, spread - _OF_MEDIAN * within**2 / cycles)),
        slow_share=len(slow) / len(off),
        slow=statistics.fmean(slow) if slow else 0.0,
        drift=drift,
    )


def _median(speeds: Sequence[float]) -> float:
    return statistics.median(-math.log(speed) for speed in speeds)


def alarms(sessions: Sequence[Speeds], references: int, slowdown: float) -> tuple[int, int]:
    """How often the gate's rule fails a session against those just before it; and of how many."""
    found = [
        judged(_changed([speed / (1 + slowdown) for speed in now[name]], before, name), BUDGET)
        for now, before in _windows(sessions, references)
        for name in now
    ]
    return found.count("worse"), len(found)


def _windows(
    sessions: Sequence[Speeds], references: int
) -> Iterator[tuple[Speeds, Sequence[Speeds]]]:
    for number in range(references, len(sessions)):
        yield sessions[number], sessions[number - references : number]


def _changed(now: Sequence[float], before: Sequence[Speeds], name: str) -> Change:
    found = change(now, [one[name] for one in before], higher_is_better=True)
    assert isinstance(found, Change), found
    return found


# --- measuring ------------------------------------------------------------------------------


def measured(folder: Path) -> tuple[Speeds, dict[str, Any]]:
    """One session: speeds, and the testbed that they are of."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "pytest", "-q", str(STUDY), f"--llem-cycles={CYCLES}"]
    command += ["--llem-gaps=none", "-o", f"llem_results_dir={folder}", f"--llem-json={report}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or not report.exists():
        raise SystemExit(f"the session ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    speeds: dict[str, list[float]] = {}
    testbed: dict[str, Any] = {}
    for outcome in json.loads(report.read_text())["measurements"]:
        measurement = outcome["measurement"]
        value = measurement and measurement["metrics"][METRIC]["value"]
        if value is None:
            raise SystemExit(f"{outcome['node']} was not measured:\n{done.stdout}")
        speeds.setdefault(outcome["experiment"], []).append(value)
        testbed = measurement["testbed"]
    return speeds, {key: testbed[key] for key in ("cpu", "cpus", "system", "worker")}


def take(count: int) -> dict[str, Any]:
    """So many sessions and what they were taken on, as plain JSON data."""
    rows: list[dict[str, Any]] = []
    testbed: dict[str, Any] = {}
    for number in range(count):
        load = os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as name:
            speeds, testbed = measured(Path(name))
        rows.append({"load": round(load, 1), "speeds": speeds})
        shown = ", ".join(f"{statistics.median(each):,.0f}/s" for each in speeds.values())
        print(f"session {number + 1} of {count}: {shown}; load {load:.1f}", flush=True)
    return {
        "schema_version": 1,
        "study": STUDY.relative_to(ROOT).as_posix(),
        "metric": METRIC,
        "testbed": testbed,
        "python": platform.python_version(),
        "alone_on_cpus": _alone_on(),
        "sessions": rows,
    }


def _alone_on() -> int:
    """CPUs that ordinary processes must leave to this one: with a real-time priority, its own."""
    if os.sched_getscheduler(0) not in (os.SCHED_FIFO, os.SCHED_RR):
        return 0
    return len(os.sched_getaffinity(0))


def summed_up(data: Mapping[str, Any]) -> dict[str, Any]:
    """The model, and what the gate's rule makes of the sessions as they were."""
    sessions = [row["speeds"] for row in data["sessions"]]
    rates = {}
    for slowdown in (0.0, 0.10):
        failed, of = alarms(sessions, 5, slowdown)
        rates[f"{slowdown:.0%} slower"] = {"failed": failed, "of": of}
    return {**data, "model": asdict(fit(sessions)), "rule": rates}


def show(data: Mapping[str, Any]) -> None:
    """Print what was found."""
    loads = sorted(row["load"] for row in data["sessions"])
    print(
        f"{len(loads)} sessions x {CYCLES} cycles of {data['study']}, {data['metric']};"
        f" alone on {data['alone_on_cpus']} of {os.cpu_count()} CPUs,"
        f" load {loads[0]:g} to {loads[-1]:g}"
    )
    for name, value in data["model"].items():
        print(f"  {name:<12}{value:>8.2%}")
    for what, rate in data["rule"].items():
        share = rate["failed"] / rate["of"] if rate["of"] else math.nan
        print(f"  {what} than the five before: {rate['failed']} of {rate['of']} fail ({share:.0%})")


def main() -> int:
    """Measure, fit, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=16, help="how many to measure; 16")
    parser.add_argument("--fit-only", action="store_true", help="of the speeds that are kept")
    parser.add_argument("--out", type=Path, default=OWN, help="the data; perf/gate_noise.json")
    options = parser.parse_args()
    data = json.loads(options.out.read_text()) if options.fit_only else take(options.sessions)
    found = summed_up(data)
    show(found)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
