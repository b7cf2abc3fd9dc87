"""A whole study in the three kinds of workers, beside a bare loop and optimum-benchmark.

Run it with: python perf/study.py [--quick] [--runs N] [--json PATH] [--optimum PYTHON]

8 experiments × 3 cycles of the tiny Llama of the examples on the CPU (batch size 1, 2, 4 or 8;
16 or 64 input tokens; 32 output tokens), one batch a measurement, no idle power, gaps or warm-up.
In turn, each way from its process's start to its end:

* ``fresh``, ``forked``, ``reuse``: pytest with this plugin and no other, all of its session;
* ``24 interpreters``: for each measurement a process that imports torch and transformers, builds
  the model and calls ``generate``: the least that a new process for each can take;
* ``bare loop``: the same in one process, with the model built once;
* with ``--optimum``: optimum-benchmark 0.6, in 24 launches of one iteration, and in 8 of three.

All ways generate the same number of tokens, and those but optimum-benchmark's the very same tokens;
that is checked. Judged are medians of wall time. Least wall times and CPU times (user + system,
of all processes) stand beside them, as a busy machine disturbs those less.

``--optimum`` names an interpreter with the peer, which needs an environment of its own:

    python -m venv ob
    ob/bin/pip install optimum-benchmark==0.6.0 transformers==4.57.6 torch==2.13.0

``--quick`` makes one run, and judges it with a quarter more.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_llem.experiment import Experiment, Prompts
from pytest_llem.worker import workload

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "benchmarks" / "models" / "tiny-llama"
CYCLES = 3
SEED = 42
OUTPUT_TOKENS = 32
SHAPES = [(batch, tokens) for batch in (1, 2, 4, 8) for tokens in (16, 64)]
"""Batch size, which is the number of prompts too, and tokens of each prompt."""

STUDY = """\
model: {model}
weights: random
dtype: float32
device: cpu
seed: {seed}
output_tokens: {output_tokens}
warmup: none
idle: none
worker: {worker}
execution: {{cycles: {cycles}, order: sequential, gaps: none}}
experiments:
"""
MODES = ("fresh", "forked", "reuse")
INTERPRETERS, BARE = "24 interpreters", "bare loop"
PEERS = ("optimum, 24 launches", "optimum, 8 x 3")
LIMITS: tuple[tuple[str, float, str], ...] = (
    ("fresh", 1.05, INTERPRETERS),
    ("forked", 2.0, BARE),
    ("reuse", 2.0, BARE),
)
TO_PEER = 0.3
"""Of the faster peer, for ``forked`` and ``reuse``."""

QUICK_SLACK = 1.25


def study(worker: str) -> str:
    """The text of the study."""
    head = STUDY.format(
        model=MODEL, seed=SEED, output_tokens=OUTPUT_TOKENS, worker=worker, cycles=CYCLES
    )
    return head + "".join(
        f"  - {{id: b{batch}-t{tokens}, batch_size: {batch},"
        f" prompts: {{count: {batch}, input_tokens: {tokens}}}}}\n"
        for batch, tokens in SHAPES
    )


def requests() -> list[dict[str, Any]]:
    """What each of the measurements asks of a model, in the study's order."""
    vocab_size = json.loads((MODEL / "config.json").read_text())["vocab_size"]
    found = []
    for batch, tokens in SHAPES:
        experiment = Experiment(
            id="a",
            model=str(MODEL),
            batch_size=batch,
            prompts=Prompts(count=batch, input_tokens=tokens),
            output_tokens=OUTPUT_TOKENS,
            seed=SEED,
        )
        given = dataclasses.asdict(workload.measured(experiment, vocab_size))
        asked = {"prompts": given["prompts"], "output_tokens": given["output_tokens"]}
        found += [asked] * CYCLES
    return found


def shapes() -> str:
    """The shapes for the peer."""
    return json.dumps(
        [
            {"batch_size": batch, "input_tokens": tokens, "output_tokens": OUTPUT_TOKENS}
            for batch, tokens in SHAPES
        ]
    )


def called(command: list[str], text: str | None = None, **more: Any) -> str:
    """Standard output of a command that must succeed."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, env=environment, check=False, **more
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return str(done.stdout)


def by_pytest(worker: str) -> list[str]:
    """Run the study; the digest of each measurement's tokens."""
    with tempfile.TemporaryDirectory(prefix="llem-perf-") as folder:
        Path(folder, "a.study.yaml").write_text(study(worker))
        quiet = ["-q", "-p", "no:cacheprovider", "-p", "pytest_llem.plugin"]
        command = [sys.executable, "-m", "pytest", "a.study.yaml", *quiet, "--llem-json=r.json"]
        # As fast as the machine allows, whatever else is installed.
        command = ["env", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1", *command]
        called([*command, "--rootdir=.", "--llem-runner-pytorch=local"], cwd=folder)
        made = json.loads(Path(folder, "r.json").read_text())["measurements"]
    found = [each["measurement"] for each in made]
    if {each["testbed"]["worker"] for each in found} != {worker}:
        sys.exit(f"not all workers were {worker}: {made[0]['place']}")
    return [each["tokens_sha256"] for each in found]


def bare(asked: list[dict[str, Any]]) -> list[str]:
    """Make measurements in one bare process; the digest of each one's tokens."""
    command = [sys.executable, str(ROOT / "perf" / "study_bare.py"), str(MODEL), str(SEED)]
    return list(json.loads(called(command, json.dumps(asked))))


def by_optimum(python: str, folder: str, launches: int, iterations: int) -> list[str]:
    """Run the study with the peer."""
    script = str(ROOT / "perf" / "study_optimum.py")
    # It writes a log to where it is started.
    called([python, script, folder, str(launches), str(iterations)], shapes(), cwd=folder)
    return []


def timed(way: Callable[[], list[str]]) -> dict[str, Any]:
    """Wall and CPU time of a way, and the digests of its tokens."""
    before, start_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    tokens = way()
    wall_s, after = time.perf_counter() - start_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": wall_s, "cpu_s": cpu_s, "tokens": tokens}


def ways(optimum: str | None, folder: str) -> dict[str, Callable[[], list[str]]]:
    """What is to be timed, by name."""
    asked = requests()
    found: dict[str, Callable[[], list[str]]] = {
        INTERPRETERS: lambda: [digest for one in asked for digest in bare([one])],
        **{mode: lambda mode=mode: by_pytest(mode) for mode in MODES},  # type: ignore[misc]
        BARE: lambda: bare(asked),
    }
    if optimum is not None:
        saved = str(Path(folder, "model"))
        called(
            [optimum, str(ROOT / "perf" / "study_optimum.py"), str(MODEL), "--save", saved],
            cwd=folder,
        )
        found[PEERS[0]] = lambda: by_optimum(optimum, saved, CYCLES, 1)
        found[PEERS[1]] = lambda: by_optimum(optimum, saved, 1, CYCLES)
    return found


def report(count: int, optimum: str | None, slack: float) -> dict[str, Any]:
    """Everything measured, as plain JSON data."""
    with tempfile.TemporaryDirectory(prefix="llem-perf-") as folder:
        known = ways(optimum, folder)
        bare(requests()[:1])  # caches of the disk
        runs = [{name: timed(way) for name, way in known.items()} for _ in range(count)]
    tokens = {tuple(run[name]["tokens"]) for run in runs for name in known if name not in PEERS}
    medians = {n: statistics.median(run[n]["wall_s"] for run in runs) for n in known}
    limits = {
        f"{name} / {base}": [medians[name] / medians[base], most * slack]
        for name, most, base in LIMITS
    }
    if optimum is not None:
        peer = min(PEERS, key=lambda name: medians[name])
        for name in ("forked", "reuse"):
            limits[f"{name} / {peer}"] = [medians[name] / medians[peer], TO_PEER * slack]
    return {
        "schema_version": 1,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "runs": [
            {name: {"wall_s": t["wall_s"], "cpu_s": t["cpu_s"]} for name, t in run.items()}
            for run in runs
        ],
        "tokens_equal": len(tokens) == 1,
        "ratios": {name: {"ratio": ratio, "limit": most} for name, (ratio, most) in limits.items()},
        "passed": len(tokens) == 1 and all(ratio <= most for ratio, most in limits.values()),
    }


def show(data: Mapping[str, Any], optimum: str | None) -> None:
    """Print the tables."""
    runs = data["runs"]
    print(
        f"8 experiments x 3 cycles, {len(runs)} runs, Python {data['python']},"
        f" {data['cpus']} CPUs, load {data['load'][0]:.1f}; times in s"
    )
    columns = ("median", "least", "CPU", "least CPU")
    print(f"{'':<22}" + "".join(f"{column:>11}" for column in columns))
    for name in runs[0]:
        walls, cpus = ([run[name][part] for run in runs] for part in ("wall_s", "cpu_s"))
        cells = (statistics.median(walls), min(walls), statistics.median(cpus), min(cpus))
        print(f"{name:<22}" + "".join(f"{cell:>11.2f}" for cell in cells))
    for name, found in data["ratios"].items():
        missed = "" if found["ratio"] <= found["limit"] else "  NOT KEPT"
        print(f"{name:<34}{found['ratio']:>8.2f}  limit {found['limit']:.2f}{missed}")
    print("tokens equal" if data["tokens_equal"] else "TOKENS DIFFER")
    if optimum is None:
        print("optimum-benchmark: skipped, no interpreter has it; see --help for --optimum")


def main() -> int:
    """Measure, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3, help="default: 3")
    parser.add_argument("--quick", action="store_true", help="1 run, judged with a quarter more")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--optimum", help="interpreter that has optimum-benchmark 0.6")
    options = parser.parse_args()
    count, slack = (1, QUICK_SLACK) if options.quick else (options.runs, 1.0)
    data = report(count, options.optimum, slack)
    show(data, options.optimum)
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0 if data["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
