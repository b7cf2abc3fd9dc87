"""What a local measurement costs beyond its phases.

Run it with: python perf/dispatch.py [--engine fake|pytorch] [--runs N] [--quick] [--json PATH]

A worker is started and makes one tiny measurement, as the plugin has it done. From the wall time
of that are taken the durations of its windows, and the time of a bare interpreter
(``python -c pass``). What is left is ours: finding the backend, the archive that the worker imports
from, the frames, ending the process. Both are timed in turn, so that a busy machine slows both.

A worker imports its engine inside the window ``load``: with the windows the imports are gone, and
taking them off a second time would hide seconds of ours. An interpreter that imports the same is
timed beside it and shown, but not used.

``fake`` is the third party's backend of the tests, which needs no engine; ``pytorch`` measures the
tiny model of the examples on the CPU. The first run builds the archive and fills the caches; it is
shown, and not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_llem.experiment import Experiment, Prompts
from pytest_llem.extensions import Launch
from pytest_llem.runners import local
from pytest_llem.runners.conversation import converse

LIMIT_S = 0.3
ROOT = Path(__file__).parents[1]
THIRD_PARTY = ROOT / "tests" / "third_party"
IMPORTS = {
    "fake": "pass",
    "pytorch": "import torch; from transformers import AutoModelForCausalLM",
}
MODELS = {"fake": "some/model", "pytorch": str(ROOT / "benchmarks" / "models" / "tiny-llama")}
METERS = {"fake": "fixed", "pytorch": "estimate"}


def experiment(engine: str) -> Experiment:
    """The least an engine can be asked for."""
    return Experiment(
        id="dispatch",
        model=MODELS[engine],
        backend=engine,
        weights="random",
        dtype="float32",
        device="cpu",
        prompts=Prompts(count=2, input_tokens=4),
        output_tokens=3,
        warmup="none",
        idle="none",
        meters=(METERS[engine],),
    )


def measured(wanted: Experiment, log: Path) -> dict[str, float]:
    """Wall time of one measurement, and of it the sum of the windows."""
    start_s = time.perf_counter()
    result = converse(local.start(Launch(backend=wanted.backend, log=log)), wanted, "d" * 64, 1)
    wall_s = time.perf_counter() - start_s
    return {"wall_s": wall_s, "phases_s": sum(window.duration_s for window in result.windows)}


def interpreter(code: str) -> float:
    """Seconds that an interpreter takes for a program, from its start to its end."""
    start_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start_s


def run(engine: str, log: Path) -> dict[str, float]:
    """One measurement and, right beside it, the interpreters."""
    times = measured(experiment(engine), log)
    times["bare_s"] = interpreter("pass")
    times["imports_s"] = times["bare_s"] if engine == "fake" else interpreter(IMPORTS[engine])
    times["overhead_s"] = times["wall_s"] - times["phases_s"] - times["bare_s"]
    return times


def report(engine: str, count: int) -> dict[str, Any]:
    """Everything measured, as plain JSON data."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "worker.log"
        first, *runs = [run(engine, log) for _ in range(count + 1)]
    medians = {name: statistics.median(times[name] for times in runs) for name in first}
    return {
        "schema_version": 1,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "engine": engine,
        "imports": IMPORTS[engine],
        "first": first,
        "runs": runs,
        "medians": medians,
        "limit_s": LIMIT_S,
        "passed": medians["overhead_s"] <= LIMIT_S,
    }


def show(data: Mapping[str, Any]) -> None:
    """Print the table."""
    rows = {
        "wall_s": "start to end of a measurement",
        "phases_s": "− its windows, the engine's imports in them",
        "bare_s": "− bare interpreter: python -c pass",
        "overhead_s": "= overhead",
        "imports_s": f"beside it: python -c {data['imports']!r}",
    }
    print(
        f"engine {data['engine']}, {len(data['runs'])} runs, Python {data['python']},"
        f" {data['cpus']} CPUs; times in s"
    )
    width = max(map(len, rows.values()))
    print(f"{'':<{width}}{'median':>9}{'least':>9}{'most':>9}{'first':>9}")
    for name, text in rows.items():
        values = [times[name] for times in data["runs"]]
        cells = (data["medians"][name], min(values), max(values), data["first"][name])
        print(f"{text:<{width}}" + "".join(f"{cell:>9.3f}" for cell in cells))
    kept = "kept" if data["passed"] else "NOT KEPT"
    print(f"limit of the median overhead {data['limit_s']:g} s: {kept}")


def main() -> int:
    """Measure, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", choices=sorted(IMPORTS), default="fake")
    parser.add_argument("--runs", type=int, default=15, help="default: 15")
    parser.add_argument("--quick", action="store_true", help="5 runs")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    options = parser.parse_args()
    # Where the worker finds the fake backend: it is installed nowhere.
    sys.path.append(str(THIRD_PARTY))
    path = [str(THIRD_PARTY), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    data = report(options.engine, 5 if options.quick else options.runs)
    show(data)
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0 if data["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
