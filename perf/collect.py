"""What it costs to collect studies.

Run it with: python perf/collect.py [--quick] [--json PATH] [--runs N] [--tavern PYTHON]

A whole process, ``python -m pytest --collect-only -q``, collects a sweep of 1,000 and of 10,000
experiments with 3 cycles and a gate each: 4,000 and 40,000 items. Beside it, in turn and without
the plugin, the same number of items from pytest alone:

* ``items``: a ``pytest.File`` with so many ``pytest.Item``, the least there is: pytest's own share;
* ``parametrize``: one test function with so many values;
* ``tree``: the nodes of a study with nothing in them: a file, a collector for each experiment, and
  in it four ``pytest.Function`` that ask for two fixtures.

No other plugin is loaded. The study's model is a directory, as its content is part of a digest.
Bytecode is kept in a temporary directory and written by a run that isn't counted.

A round runs every case once, in random order. Judged is the least CPU time (user + system) of a
case's runs: the work is the same in each, and what disturbs it only adds. Wall time stands beside
it and is the same on an idle machine; on a busy one it says more about the neighbours. Growth is
the time of an experiment among 10,000 over that of one among 1,000, the time of a study of one
experiment taken off from both.

``--quick`` is for machines that are shared: 1,000 experiments, three rounds. Neighbours make each
CPU second longer too, by way of caches and clocks, so the limit is only broken there when the least
CPU time is above it *and* it is too many times that of ``items``.

``--tavern`` names an interpreter that has tavern (3.7.1 needs pytest below 9.2). 1,000 of its tests
are collected, beside 1,000 parametrized ones in that interpreter and a study of 1,000 experiments
written out one by one, one cycle and no gate each. They are shown and not judged.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIZES = {1_000: (20, 50), 10_000: (100, 100), 1: (1, 1)}
"""Number of experiments to the lengths of the sweep's two lists."""

EACH = 4
"""Items of an experiment: three cycles and a gate."""

LIMITS_S = {1_000: 1.0, 10_000: 6.0}
LIMIT_BYTES = 200_000_000
GROWTH = 1.5
QUICK_RATIO = 2.5
"""1.0 s over what ``items`` takes for 1,000 where this was set: 0.4 s."""

PLUGIN = "pytest_llem.plugin"
_COLLECTED = re.compile(r"^(\d+) tests? collected", re.MULTILINE)

HEAD = "model: model\nweights: random\nbackend: pytorch\ndevice: cpu\n"
STUDY = """\
execution: {{cycles: 3, gaps: none}}
sweep:
  batch_size: {batch_sizes}
  seed: {seeds}
expect:
  output_tokens_per_s: {{min: 5}}
"""
LISTED = "execution: {cycles: 1, gaps: none}\nexperiments:\n"
EXPERIMENT = "  - id: x{0}\n    seed: {0}\n    prompts: {{count: 16, input_tokens: 64}}\n"
PARAMETRIZED = """\
import pytest

@pytest.mark.parametrize("value", range({count}))
def test_it(value): pass
"""
TAVERN = """\
---
test_name: request {0}
stages:
  - name: only
    request: {{url: "http://localhost/{0}", method: GET}}
    response: {{status_code: 200}}
"""
CONFTEST = """\
import pytest

@pytest.fixture(scope="session")
def one(): pass

@pytest.fixture(scope="session")
def two(): pass

def asks(one, two): pass

class Item(pytest.Item):
    def runtest(self): pass

class Items(pytest.File):
    def collect(self):
        for number in range(int(self.path.read_text())):
            yield Item.from_parent(self, name=f"x{number}")

class Experiment(pytest.Collector):
    def collect(self):
        for number in range(4):
            yield pytest.Function.from_parent(self, name=f"c{number}", callobj=asks)

class Tree(pytest.Module):
    obj = None

    def collect(self):
        for number in range(int(self.path.read_text()) // 4):
            yield Experiment.from_parent(self, name=f"x{number}")

def pytest_collect_file(file_path, parent):
    kind = {".items": Items, ".tree": Tree}.get(file_path.suffix)
    return kind and kind.from_parent(parent, path=file_path)
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A way to make a number of items.

    Attributes:
        name: of the case.
        experiments: that it stands for, or 0 where that has no meaning.
        items: that pytest must find.
        file: to collect, relative to the bench's directory.
        plugin: to load.
        python: interpreter to run it with.
    """

    name: str
    experiments: int
    items: int
    file: str
    plugin: str = ""
    python: str = sys.executable

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from all others."""
        return self.name, self.items


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of pytest."""

    cpu_s: float
    wall_s: float
    peak_bytes: int


def cases(sizes: Sequence[int]) -> list[Case]:
    """Ours and pytest's own, of all sizes."""
    found = []
    for size in sizes:
        items = size * EACH
        found += [
            Case("study", size, items, f"{size}.study.yaml", PLUGIN),
            Case("items", size, items, f"{items}.items"),
            Case("parametrize", size, items, f"test_{items}.py"),
            Case("tree", size, items, f"{items}.tree"),
        ]
    return found


def tavern_cases(python: str) -> list[Case]:
    """Tavern, and beside it the same number of parametrized tests and of listed experiments."""
    found = []
    for items in (1, 1_000):
        tests = f"test_{items}.tavern.yaml"
        found += [
            Case("study, listed", items, items, f"{items}.listed.study.yaml", PLUGIN),
            Case("tavern", 0, items, tests, "tavern._core.pytest", python),
            Case("parametrize there", 0, items, f"test_{items}.py", "", python),
        ]
    return found


class Bench:
    """A directory with everything there is to collect."""

    def __init__(self, root: Path) -> None:
        """Lay it out below ``root``."""
        self._root = root
        self._folder = root / "project"
        (self._folder / "model").mkdir(parents=True)
        self._put("model/config.json", '{"model_type": "llama"}')
        # An ini file of its own, so that pytest looks no further up.
        self._put("pytest.ini", "[pytest]\n")
        self._put("conftest.py", CONFTEST)
        for size, (many, more) in SIZES.items():
            lists = {"batch_sizes": [*range(1, many + 1)], "seeds": [*range(1, more + 1)]}
            self._put(f"{size}.study.yaml", HEAD + STUDY.format(**lists))
            for suffix in ("items", "tree"):
                self._put(f"{size * EACH}.{suffix}", str(size * EACH))
        for count in {size * EACH for size in SIZES} | {1, 1_000}:
            self._put(f"test_{count}.py", PARAMETRIZED.format(count=count))
        for count in (1, 1_000):
            listed, tests = ("".join(map(t.format, range(count))) for t in (EXPERIMENT, TAVERN))
            self._put(f"{count}.listed.study.yaml", HEAD + LISTED + listed)
            self._put(f"test_{count}.tavern.yaml", tests)

    def _put(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)

    def run(self, case: Case) -> Run:
        """Collect once.

        Raises:
            SystemExit: when pytest fails or finds another number of items, with its output.
        """
        command = [case.python, "-m", "pytest", "--collect-only", "-q"]
        load = ["-p", case.plugin] if case.plugin else []
        with (self._root / "output.txt").open("w+") as output:
            start_s = time.perf_counter()
            process = subprocess.Popen(
                [*command, *load, case.file],
                cwd=self._folder,
                env=self._environment(own=case.python == sys.executable),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - start_s
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            text = output.read()
        found = _COLLECTED.search(text)
        if process.returncode or not found or int(found[1]) != case.items:
            raise SystemExit(f"{case.name} with {case.items:,} items failed:\n{text[-2000:]}")
        unit = 1 if sys.platform == "darwin" else 1024
        cpu_s = usage.ru_utime + usage.ru_stime
        return Run(cpu_s=cpu_s, wall_s=wall_s, peak_bytes=usage.ru_maxrss * unit)

    def _environment(self, *, own: bool) -> dict[str, str]:
        dropped = ("PYTEST_", "PYTHON", "LLEM_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        if own and "PYTHONPATH" in os.environ:
            kept["PYTHONPATH"] = os.environ["PYTHONPATH"]
        return kept | {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPYCACHEPREFIX": str(self._root / "bytecode"),
            "PYTHONHASHSEED": "0",
        }


def rounds(bench: Bench, wanted: Sequence[Case], count: int) -> dict[tuple[str, int], list[Run]]:
    """Run all cases ``count`` times, shuffled within each round."""
    found: dict[tuple[str, int], list[Run]] = {case.key: [] for case in wanted}
    for case in wanted:
        if case.items <= EACH:
            bench.run(case)
    for number in range(count):
        order = list(wanted)
        random.Random(number).shuffle(order)
        for case in order:
            found[case.key].append(bench.run(case))
    return found


def summary(case: Case, runs: Sequence[Run], base: Sequence[Run]) -> dict[str, Any]:
    """A case in figures; ``base`` are the runs of its smallest size."""
    least = min(run.cpu_s for run in runs)
    above = least - min(run.cpu_s for run in base)
    return {
        "case": case.name,
        "experiments": case.experiments,
        "items": case.items,
        "wall_s": statistics.median(run.wall_s for run in runs),
        "cpu_s": statistics.median(run.cpu_s for run in runs),
        "least_cpu_s": least,
        "peak_bytes": max(run.peak_bytes for run in runs),
        "item_s": above / case.items if runs is not base else None,
        "runs": {field: [getattr(run, field) for run in runs] for field in ("wall_s", "cpu_s")},
    }


def check(name: str, value: float, limit: float, unit: str = "") -> dict[str, Any]:
    """A limit, and whether it is kept."""
    return {"name": name, "value": value, "limit": limit, "unit": unit, "passed": value <= limit}


def judge(rows: Sequence[Mapping[str, Any]], *, quick: bool) -> list[dict[str, Any]]:
    """All limits."""
    found = {(row["case"], row["experiments"]): row for row in rows}
    study = {size: found["study", size] for size in SIZES if ("study", size) in found}
    checks = [
        check(f"CPU time of {size:,} experiments", study[size]["least_cpu_s"], limit, " s")
        for size, limit in LIMITS_S.items()
        if size in study
    ]
    if quick:
        own, plain = study[1_000]["runs"]["cpu_s"], found["items", 1_000]["runs"]["cpu_s"]
        ratio = min(
            min(own) / min(plain),
            statistics.median(a / b for a, b in zip(own, plain, strict=True)),
        )
        checks.append(check("or as a multiple of items", ratio, QUICK_RATIO))
        return checks
    peak = study[10_000]["peak_bytes"] / 1e6
    checks.append(check("peak memory of 10,000", peak, LIMIT_BYTES / 1e6, " MB"))
    growth = study[10_000]["item_s"] / study[1_000]["item_s"]
    checks.append(check("growth from 1,000 to 10,000", growth, GROWTH))
    return checks


def report(bench: Bench, count: int, *, quick: bool, tavern: str | None) -> dict[str, Any]:
    """Everything measured, as plain JSON data."""
    wanted = cases([size for size in SIZES if size <= 1_000 or not quick])
    wanted += tavern_cases(tavern) if tavern else []
    runs = rounds(bench, wanted, count)
    smallest = {
        case.name: case.key for case in sorted(wanted, key=lambda case: case.items, reverse=True)
    }
    rows = [summary(case, runs[case.key], runs[smallest[case.name]]) for case in wanted]
    checks = judge(rows, quick=quick)
    # On a shared machine one of the two is enough.
    kept = any if quick else all
    return {
        "schema_version": 1,
        "python": platform.python_version(),
        "pytest": importlib.metadata.version("pytest"),
        "cpus": os.cpu_count(),
        "rounds": count,
        "quick": quick,
        "cases": rows,
        "checks": checks,
        "passed": kept(row["passed"] for row in checks),
    }


def show(data: Mapping[str, Any]) -> None:
    """Print the tables."""
    print(
        f"{data['rounds']} rounds, Python {data['python']}, pytest {data['pytest']}; times in s,"
        " µs an item above the smallest of its kind"
    )
    print(
        f"{'case':<18}{'experiments':>12}{'items':>8}{'wall median':>13}{'CPU median':>12}"
        f"{'CPU least':>11}{'peak MB':>9}{'µs/item':>9}"
    )
    for row in sorted(data["cases"], key=lambda row: row["items"]):
        each = "" if row["item_s"] is None else f"{row['item_s'] * 1e6:.0f}"
        experiments = f"{row['experiments']:,}" if row["experiments"] else ""
        print(
            f"{row['case']:<18}{experiments:>12}{row['items']:>8,}{row['wall_s']:>13.2f}"
            f"{row['cpu_s']:>12.2f}{row['least_cpu_s']:>11.2f}{row['peak_bytes'] / 1e6:>9.0f}"
            f"{each:>9}"
        )
    print()
    for row in data["checks"]:
        state = "kept" if row["passed"] else "NOT KEPT"
        print(
            f"{row['name']:<32}{row['value']:>8.2f}{row['unit']:<3} limit {row['limit']:g}"
            f"{row['unit']}: {state}"
        )
    if data["quick"]:
        state = "kept" if data["passed"] else "NOT kept"
        print(f"one of the two is enough on a shared machine: {state}")
    if any(row["wall_s"] > 1.5 * row["cpu_s"] for row in data["cases"]):
        print("this machine was busy: for the figures themselves repeat it on an idle one")


def main() -> int:
    """Measure, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, help="rounds (default: 5, with --quick 3)")
    parser.add_argument("--quick", action="store_true", help="1,000 experiments only, for CI")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--tavern", metavar="PYTHON", help="an interpreter that has tavern")
    options = parser.parse_args()
    count = options.runs or (3 if options.quick else 5)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        data = report(bench, count, quick=options.quick, tavern=options.tavern)
    show(data)
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0 if data["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
