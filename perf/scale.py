"""What more GPUs and more experiments cost under pytest-xdist: time, and the controller's own.

Run it with: python perf/scale.py [--quick] [--json PATH] [--only PART]

Real sessions of ``pytest -n K`` on a machine with simulated GPUs (tests/rig: the library that the
real NVML binding loads). The engine of the tests stands for real ones: it computes nothing but
waits, so that eight of it are no work for the few processors of this machine. The parts:

* ``two``: the same study with two workers on two GPUs, and with one on one. Judged is how many
  times as fast the first is; and that no GPU was ever computed on twice at a time.
* ``packing``: 200 measurements, 60 % of them on one GPU, 25 % on two and 15 % on four, of 3 to 9 s
  each, with eight workers on eight GPUs. The bound: no schedule is done before all the GPUs' time
  that the measurements took, divided by eight, nor before the longest experiment, whose cycles
  follow each other. Judged is the bound over the time that the session took.
* ``schedules``: the scheduler alone with 50 such studies of other needs, lengths and numbers of
  cycles, in time that is only counted: no process, no overhead. Judged is the worst of them.
* ``controller``: CPU time and peak memory of xdist's controller with 2,500, 5,000 and 10,000
  items under ``-n 4``, a report included. Judged is growth: of an item among 10,000 over one among
  2,500, what an empty session takes taken off from both.

The time of a measurement goes from the beginning of its first window to the end of its last; that
of a session from the first of them to the last. So starting pytest and collecting count for
nothing, and all that lies between two measurements counts against us: a busy machine makes that
longer, and how long it was stands beside, as whole sessions do.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
THIRD_PARTY = ROOT / "tests" / "third_party"
# The simulated GPUs are found from the root, from wherever this is run.
sys.path.append(str(ROOT))

from pytest_llem.study.schedule import Order, schedule  # noqa: E402 - below the line they need
from tests.plugin.test_lanes import FILE  # noqa: E402
from tests.plugin.test_lanes import Session as Scheduled  # noqa: E402
from tests.rig.nvml import H100, Rig  # noqa: E402

LEAST_SPEEDUP = 1.8
LEAST_PACKED = 0.85
GROWTH = 1.5
SHARES = {1: 0.60, 2: 0.25, 4: 0.15}
"""GPUs that a measurement needs, to the share of such."""

HEAD = """\
model: model
weights: random
backend: fake
prompts: {count: 1, input_tokens: 4}
output_tokens: 4
warmup: none
idle: none
meters: [fixed]
"""
CONTROLLER = """\
import json, resource, sys, pytest
status = int(pytest.main(sys.argv[2:]))
used = resource.getrusage(resource.RUSAGE_SELF)
data = {"cpu_s": used.ru_utime + used.ru_stime, "peak_bytes": used.ru_maxrss * 1024}
with open(sys.argv[1], "w") as file:
    json.dump(data, file)
sys.exit(status)
"""
"""What this process uses is what the controller does: workers are processes of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A measurement of a session: on which GPUs, and when."""

    experiment: str
    gpus: tuple[str, ...]
    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """How long it had its GPUs for itself."""
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session of pytest.

    Attributes:
        cpu_s: CPU time of the controller alone, as is ``peak_bytes``.
    """

    turns: tuple[Turn, ...]
    wall_s: float
    cpu_s: float
    peak_bytes: int

    @property
    def span_s(self) -> float:
        """From the beginning of the first measurement to the end of the last."""
        return max(t.end_s for t in self.turns) - min(t.start_s for t in self.turns)


class Bench:
    """A project, and machines with any number of GPUs to run it on."""

    def __init__(self, root: Path) -> None:
        """Lay it out below ``root``."""
        self._root = root
        self._count = 0

    def run(self, study: str, *, workers: int, gpus: int, measured: int) -> Session:
        """Run a study.

        Args:
            study: without what all have in common.
            workers: of xdist.
            gpus: of the machine.
            measured: how many measurements there must be.

        Raises:
            SystemExit: when pytest fails or there are others, with its output.
        """
        self._count += 1
        folder = self._root / str(self._count)
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "config.json").write_text('{"model_type": "llama"}')
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "s.study.yaml").write_text(HEAD + study)
        environment = Rig(folder / "nvml", H100, gpus=gpus).environment()
        environment |= {"PYTHONPATH": str(THIRD_PARTY), "LLEM_LOCK_DIR": str(folder / "locks")}
        for name in ("CUDA_VISIBLE_DEVICES", "PYTEST_ADDOPTS", "CI"):
            environment.pop(name, None)
        start_s = time.monotonic()
        done = subprocess.run(
            [
                *(sys.executable, "-c", CONTROLLER, "used.json", "s.study.yaml", f"-n{workers}"),
                *("--llem-json=report.json", "--llem-gaps=none", "--max-worker-restart=0", "-q"),
            ],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        wall_s = time.monotonic() - start_s
        if done.returncode:
            sys.exit(f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
        used = json.loads((folder / "used.json").read_text())
        turns = tuple(turns_of(json.loads((folder / "report.json").read_text())))
        if len(turns) != measured:
            sys.exit(f"{len(turns)} measurements, expected {measured}:\n{done.stdout[-4000:]}")
        return Session(turns=turns, wall_s=wall_s, **used)


def turns_of(report: Mapping[str, Any]) -> Iterator[Turn]:
    """The measurements of a report; all processes of a machine have the same clock."""
    for outcome in report["measurements"]:
        made = outcome["measurement"]
        windows = made["windows"]
        yield Turn(
            experiment=outcome["experiment"],
            gpus=tuple(str(made["subject"]["engine"]["visible"]).split(",")),
            start_s=min(window["start_s"] for window in windows),
            end_s=max(window["start_s"] + window["duration_s"] for window in windows),
        )


def between_s(turns: Sequence[Turn]) -> float:
    """Median time that a GPU was free between two measurements."""
    of: dict[str, list[Turn]] = {}
    for turn in sorted(turns, key=lambda turn: turn.start_s):
        for gpu in turn.gpus:
            of.setdefault(gpu, []).append(turn)
    gaps = [
        after.start_s - before.end_s
        for each in of.values()
        for before, after in itertools.pairwise(each)
    ]
    return statistics.median(gaps) if gaps else 0.0


def conflicts(turns: Sequence[Turn]) -> list[str]:
    """Measurements that had a GPU at the same time as another."""
    found = []
    last: dict[str, Turn] = {}
    for turn in sorted(turns, key=lambda turn: turn.start_s):
        for gpu in turn.gpus:
            before = last.get(gpu)
            if before is not None and before.end_s > turn.start_s:
                found.append(f"GPU {gpu}: {before.experiment} and {turn.experiment}")
            last[gpu] = turn
    return found


def check(name: str, value: float, limit: float, *, least: bool) -> dict[str, Any]:
    """A figure beside its limit."""
    passed = value >= limit if least else value <= limit
    return {"name": name, "value": value, "limit": limit, "least": least, "passed": passed}


# --- the parts -----------------------------------------------------------------------------


def experiments(wanted: Sequence[tuple[int, float]], cycles: int) -> str:
    """A study of experiments: the GPUs that each needs, and how long a cycle of it waits."""
    lines = [
        f"  - {{id: x{number}, tensor_parallel: {need}, fake: {{token_s: {duration_s / 4:.4f}}}}}\n"
        for number, (need, duration_s) in enumerate(wanted)
    ]
    head = f"worker: forked\nexecution: {{cycles: {cycles}}}\nexperiments:\n"
    return head + "".join(lines)


def two(bench: Bench, *, quick: bool) -> dict[str, Any]:
    """One GPU and one worker, beside two of each."""
    count, cycles = (6, 2) if quick else (12, 2)
    study = experiments([(1, 2.0)] * count, cycles)
    sessions = {
        number: bench.run(study, workers=number, gpus=number, measured=count * cycles)
        for number in (1, 2)
    }
    doubled = conflicts(sessions[2].turns)
    return {
        "rows": [
            row(f"{number} workers, {number} GPUs", session) for number, session in sessions.items()
        ],
        "conflicts": doubled,
        "checks": [
            check(
                "two over one", sessions[1].span_s / sessions[2].span_s, LEAST_SPEEDUP, least=True
            ),
            check("GPUs with two at a time", len(doubled), 0, least=False),
        ],
    }


GPUS = 8


def drawn(seed: int, count: int, longest_s: float) -> list[tuple[int, float]]:
    """Experiments: the GPUs that each needs, and how long a cycle of it takes."""
    draw = random.Random(seed)
    needs = [need for need, share in SHARES.items() for _ in range(round(count * share))]
    draw.shuffle(needs)
    return [(need, draw.uniform(longest_s / 3, longest_s)) for need in needs]


def lengths(wanted: Mapping[str, tuple[int, float]]) -> Callable[[str], float]:
    """How long the items of experiments take."""
    return lambda item: wanted[item.rpartition("::")[0]][1]


def schedules(_: Bench, *, quick: bool) -> dict[str, Any]:
    """The scheduler alone, in counted time."""
    shares = []
    for seed in range(10 if quick else 50):
        cycles = (1, 2, 4)[seed % 3]
        wanted = drawn(seed, 200 // cycles, 6.0)
        names = {f"{FILE}::x{number}": one for number, one in enumerate(wanted)}
        order: Order = "interleaved" if seed % 2 else "sequential"
        turns = schedule([*names], cycles, order, seed)
        session = Scheduled(
            [f"{name}::c{cycle}" for name, cycle in turns],
            GPUS,
            needs={name: need for name, (need, _) in names.items()},
            seconds=lengths(names),
        )
        took_s = session.play()
        area_s = sum((end - start) * len(units) for start, end, _, units in session.times) / GPUS
        longest_s = max(duration_s for _, duration_s in wanted) * cycles
        shares.append(max(area_s, longest_s) / took_s)
    return {
        "rows": [],
        "shares": shares,
        "checks": [
            check(f"the worst of {len(shares)} schedules", min(shares), LEAST_PACKED, least=True)
        ],
    }


def packing(bench: Bench, *, quick: bool) -> dict[str, Any]:
    """Experiments of mixed size on eight GPUs."""
    gpus, cycles = GPUS, 2
    wanted = drawn(20261122, *((30, 3.0) if quick else (100, 9.0)))
    session = bench.run(
        experiments(wanted, cycles), workers=gpus, gpus=gpus, measured=len(wanted) * cycles
    )
    chains: dict[str, float] = {}
    for turn in session.turns:
        chains[turn.experiment] = chains.get(turn.experiment, 0.0) + turn.duration_s
    area_s = sum(len(turn.gpus) * turn.duration_s for turn in session.turns) / gpus
    bound_s = max(area_s, *chains.values())
    doubled = conflicts(session.turns)
    return {
        "rows": [row(f"{gpus} workers, {gpus} GPUs", session)],
        "bound_s": bound_s,
        "conflicts": doubled,
        "checks": [
            check("share of the packing bound", bound_s / session.span_s, LEAST_PACKED, least=True),
            check("GPUs with two at a time", len(doubled), 0, least=False),
        ],
    }


def controller(bench: Bench, *, quick: bool) -> dict[str, Any]:
    """The controller's own time and memory, for more and more items."""
    sizes = (4, 200, 400, 800) if quick else (4, 2_500, 5_000, 10_000)
    sessions = {
        items: bench.run(many(items), workers=4, gpus=4, measured=items * 3 // 4) for items in sizes
    }
    empty, smallest, *_, largest = sizes

    def each(size: int, of: Callable[[Session], float]) -> float:
        return (of(sessions[size]) - of(sessions[empty])) / size

    growth = {
        name: each(largest, of) / each(smallest, of)
        for name, of in (("CPU time", lambda s: s.cpu_s), ("memory", lambda s: s.peak_bytes))
    }
    return {
        "rows": [row(f"{items:,} items", session) for items, session in sessions.items()],
        "checks": [
            check(f"{name} of an item, {largest:,} over {smallest:,}", value, GROWTH, least=False)
            for name, value in growth.items()
        ],
    }


def many(items: int) -> str:
    """A study of so many items: experiments of three cycles and a gate that take no time."""
    numbers = range(1, items // 4 + 1)
    lines = [f"  - {{id: x{number}, batch_size: {number}}}\n" for number in numbers]
    return (
        "worker: reuse\nfake: {token_s: 0}\nexecution: {cycles: 3, order: sequential}\n"
        "expect: {peak_memory_bytes: {max: 1e12}}\nexperiments:\n" + "".join(lines)
    )


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "two": two,
    "packing": packing,
    "schedules": schedules,
    "controller": controller,
}


def row(name: str, session: Session) -> dict[str, Any]:
    """A line of the table."""
    return {
        "name": name,
        "measurements": len(session.turns),
        "span_s": session.span_s,
        "between_s": between_s(session.turns),
        "wall_s": session.wall_s,
        "controller_cpu_s": session.cpu_s,
        "controller_peak_bytes": session.peak_bytes,
    }


# --- what is shown -------------------------------------------------------------------------


def show(name: str, part: Mapping[str, Any]) -> None:
    """Print the table of a part, and its checks."""
    columns = ("measured", "span s", "between s", "wall s")
    print(f"{name:<22}" + "".join(f"{one:>10}" for one in columns) + "  controller CPU s     MB")
    for one in part["rows"]:
        print(
            f"{one['name']:<22}{one['measurements']:>10,}{one['span_s']:>10.1f}"
            f"{one['between_s']:>10.2f}{one['wall_s']:>10.1f}"
            f"{one['controller_cpu_s']:>18.2f}{one['controller_peak_bytes'] / 1e6:>7.0f}"
        )
    if "bound_s" in part:
        print(f"packing bound: {part['bound_s']:.1f} s")
    for line in part.get("conflicts", ())[:10]:
        print(line)
    for one in part["checks"]:
        word = "at least" if one["least"] else "at most"
        state = "kept" if one["passed"] else "NOT KEPT"
        print(f"{one['name']}: {one['value']:.2f}, {word} {one['limit']:g}: {state}")
    print(flush=True)


def main() -> int:
    """Measure, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--only", choices=PARTS, help="a single part")
    options = parser.parse_args()
    parts = {}
    with tempfile.TemporaryDirectory(prefix="llem-perf-") as folder:
        bench = Bench(Path(folder))
        for name in (options.only,) if options.only else PARTS:
            parts[name] = PARTS[name](bench, quick=options.quick)
            show(name, parts[name])
    data = {
        "schema_version": 1,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "xdist": importlib.metadata.version("pytest-xdist"),
        "quick": options.quick,
        "parts": parts,
        "passed": all(one["passed"] for part in parts.values() for one in part["checks"]),
    }
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0 if data["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
