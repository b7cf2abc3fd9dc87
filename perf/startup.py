"""What an installed but unused pytest-llem costs at the start of pytest.

Run it with: python perf/startup.py [--quick] [--json PATH]

One trivial test is run by ``python -m pytest -q`` in an empty directory, in three variants:

* ``plugin``: pytest-llem is installed and loaded through its entry point;
* ``blocked``: installed, but ``-p no:llem``. Pytest then never imports the plugin, but still reads
  the distribution's metadata, as it does for every distribution;
* ``absent``: not installed at all. This is what the cost is counted from.

To make *absent* without touching the environment, every variant runs with ``-S`` and sees a
directory of links instead of this interpreter's site-packages: pytest and what it requires, and for
the other two pytest-llem and what it requires. Other plugins are in none of them. Bytecode is kept
in a temporary directory and written by one run that isn't counted.

A round runs each variant once, in random order. The cost is the CPU time (user + system) of the
child, as the kernel counts it, minus that of *absent*: once the median of the rounds' differences,
once the difference of the minima. It is over the limit when both are, the median by more than twice
its standard error. Wall time stands beside it and isn't judged: on a busy machine it says more
about the neighbours.

Heavy modules are looked for in a session that could import everything installed here. The table of
imports is from ``-X importtime``, the least of several runs, in a process that has imported pytest.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEAVY = ("yaml", "pydantic", "docker", "numpy", "pynvml", "torch", "transformers")
VARIANTS = ("plugin", "blocked", "absent")
DISTRIBUTION = "pytest-llem"
PACKAGE = "pytest_llem"
PLUGIN = "pytest_llem.plugin"

_IMPORTTIME = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \|\s*(\S+)")
_IMPORTTIME_RUNS = 5
_RECORDER = """
def test_modules():
    import pathlib, sys
    pathlib.Path("modules.txt").write_text("\\n".join(sys.modules))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of pytest, in milliseconds."""

    cpu_ms: float
    wall_ms: float


class Bench:
    """A directory with a trivial test, and the site directories of the variants."""

    def __init__(self, root: Path) -> None:
        """Lay everything out below ``root``."""
        self._root = root
        self._cwd = root / "project"
        self._cwd.mkdir()
        # An ini file of its own, so that pytest looks no further up.
        (self._cwd / "pytest.ini").write_text("[pytest]\n")
        (self._cwd / "test_trivial.py").write_text("def test_trivial():\n    pass\n")
        (self._cwd / "recorder.py").write_text(_RECORDER)
        self._sites = {
            "plugin": _site(root / "with", DISTRIBUTION),
            "absent": _site(root / "without", "pytest"),
        }

    def run(self, variant: str, test: str = "test_trivial.py", *, everything: bool = False) -> Run:
        """Run pytest once and take its times.

        Args:
            variant: one of ``VARIANTS``.
            test: the file to run.
            everything: let it import all that is installed, not only what the variant holds.

        Raises:
            SystemExit: when pytest fails, with its output.
        """
        blocked = ["-p", "no:llem"] if variant == "blocked" else []
        command = [sys.executable, "-S", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        with (self._root / "output.txt").open("w+") as output:
            start_s = time.perf_counter()
            process = subprocess.Popen(
                [*command, *blocked, test],
                cwd=self._cwd,
                env=self._environment(variant, everything=everything),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - start_s
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                output.seek(0)
                raise SystemExit(f"pytest failed in variant {variant}:\n{output.read()}")
        return Run(cpu_ms=(usage.ru_utime + usage.ru_stime) * 1e3, wall_ms=wall_s * 1e3)

    def modules(self, variant: str) -> set[str]:
        """Names of the modules that a session of a variant has imported when its test runs.

        Everything installed can be imported here, so that nothing heavy is missed for not being
        there.
        """
        self.run(variant, "recorder.py", everything=variant != "absent")
        return set((self._cwd / "modules.txt").read_text().split())

    def import_times(self) -> dict[str, tuple[int, int]]:
        """Modules imported for the plugin that pytest hasn't imported, to (self, cumulative) µs."""
        found: dict[str, tuple[int, int]] = {}
        program = f"import pytest; import {PLUGIN}"
        for _ in range(_IMPORTTIME_RUNS):
            done = subprocess.run(
                [sys.executable, "-S", "-X", "importtime", "-c", program],
                cwd=self._cwd,
                env=self._environment("plugin"),
                capture_output=True,
                text=True,
                check=True,
            )
            rows = _IMPORTTIME.findall(done.stderr)
            after_pytest = [name for _, _, name in rows].index("pytest") + 1
            for own, total, name in rows[after_pytest:]:
                before = found.get(name, (sys.maxsize, sys.maxsize))
                found[name] = min(before[0], int(own)), min(before[1], int(total))
        return found

    def _environment(self, variant: str, *, everything: bool = False) -> dict[str, str]:
        path = [self._sites["absent" if variant == "absent" else "plugin"]]
        if everything:
            path += [Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PYTHON"))}
        return kept | {
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "PYTHONPYCACHEPREFIX": str(self._root / "bytecode"),
            "PYTHONHASHSEED": "0",
        }


def _site(folder: Path, distribution: str) -> Path:
    """A directory of links to a distribution and all it requires, as in a fresh environment."""
    folder.mkdir()
    waiting, seen = [distribution], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # required for other systems or Python versions only
        waiting += _required(found)
        if name == DISTRIBUTION:
            _link_plugin(folder, found)
            continue
        for part in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            (folder / part).symlink_to(str(found.locate_file(part)))
    return folder


def _required(distribution: importlib.metadata.Distribution) -> list[str]:
    """Names of what a distribution requires, extras left out."""
    lines = [line for line in distribution.requires or () if "extra ==" not in line]
    return [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in lines]


def _link_plugin(folder: Path, distribution: importlib.metadata.Distribution) -> None:
    """Put pytest-llem there: an editable install has its package elsewhere."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pytest-llem is not installed for this interpreter")
    (folder / PACKAGE).symlink_to(Path(spec.submodule_search_locations[0]).resolve())
    metadata = folder / f"{PACKAGE}-{distribution.version}.dist-info"
    metadata.mkdir()
    for name in ("METADATA", "RECORD", "entry_points.txt"):
        (metadata / name).write_text(distribution.read_text(name) or "")


def rounds(bench: Bench, count: int) -> dict[str, list[Run]]:
    """Run all variants ``count`` times, shuffled within each round."""
    found: dict[str, list[Run]] = {variant: [] for variant in VARIANTS}
    for variant in VARIANTS:
        bench.run(variant)
    for number in range(count):
        order = list(VARIANTS)
        random.Random(number).shuffle(order)
        for variant in order:
            found[variant].append(bench.run(variant))
    return found


def costs(runs: Mapping[str, Sequence[Run]], variant: str, field: str) -> dict[str, float]:
    """What a variant costs over *absent*, in milliseconds."""
    own = [float(getattr(run, field)) for run in runs[variant]]
    base = [float(getattr(run, field)) for run in runs["absent"]]
    differences = [a - b for a, b in zip(own, base, strict=True)]
    median = statistics.median(differences)
    deviation = statistics.median(abs(value - median) for value in differences)
    return {
        "median": median,
        "minimum": min(own) - min(base),
        # Of the median of normal values; the spread from the median absolute deviation.
        "standard_error": 1.2533 * 1.4826 * deviation / len(differences) ** 0.5,
    }


def heavy_modules(bench: Bench) -> dict[str, list[str]]:
    """Heavy modules that a session imports with the plugin and without.

    Raises:
        SystemExit: when a variant isn't what its name says.
    """
    seen = {variant: bench.modules(variant) for variant in VARIANTS}
    loaded = {variant: PLUGIN in modules for variant, modules in seen.items()}
    if loaded != {"plugin": True, "blocked": False, "absent": False}:
        raise SystemExit(f"the variants are not what they should be; plugin imported: {loaded}")
    return {variant: [name for name in HEAVY if name in seen[variant]] for variant in VARIANTS}


def report(bench: Bench, count: int, limit_ms: float) -> dict[str, Any]:
    """Everything measured, as plain JSON data."""
    heavy = heavy_modules(bench)
    runs = rounds(bench, count)
    fields = ("cpu_ms", "wall_ms")
    judged = costs(runs, "plugin", "cpu_ms")
    # Other plugins that are installed may import heavy things of their own.
    blamed = [name for name in heavy["plugin"] if name not in heavy["blocked"]]
    return {
        "schema_version": 1,
        "python": platform.python_version(),
        "pytest": importlib.metadata.version("pytest"),
        "cpus": os.cpu_count(),
        "rounds": count,
        "runs": {
            variant: {field: [getattr(run, field) for run in runs[variant]] for field in fields}
            for variant in VARIANTS
        },
        "cost": {
            variant: {field: costs(runs, variant, field) for field in fields}
            for variant in ("plugin", "blocked")
        },
        "limit_ms": limit_ms,
        "heavy_modules": heavy,
        "heavy_modules_of_the_plugin": blamed,
        "import_us": {
            name: {"self": own, "cumulative": total}
            for name, (own, total) in bench.import_times().items()
        },
        # Over the limit only where the noise can't account for it, as with any gate of ours.
        "passed": not blamed
        and min(judged["median"] - 2 * judged["standard_error"], judged["minimum"]) <= limit_ms,
    }


def show(data: Mapping[str, Any]) -> None:
    """Print the tables."""
    print(f"{data['rounds']} rounds, Python {data['python']}, pytest {data['pytest']}; times in ms")
    print(f"{'variant':<10}{'CPU median':>12}{'CPU min':>10}{'wall median':>13}{'wall min':>10}")
    for variant, runs in data["runs"].items():
        cpu, wall = runs["cpu_ms"], runs["wall_ms"]
        print(
            f"{variant:<10}{statistics.median(cpu):>12.1f}{min(cpu):>10.1f}"
            f"{statistics.median(wall):>13.1f}{min(wall):>10.1f}"
        )
    print()
    print(
        f"{'over absent':<10}{'CPU median':>16}{'CPU min':>10}{'wall median':>17}{'wall min':>10}"
    )
    for variant, cost in data["cost"].items():
        cells = ""
        for width, part in zip((9, 10), cost.values(), strict=True):
            cells += f"{part['median']:>+{width}.1f} ± {part['standard_error']:<4.1f}"
            cells += f"{part['minimum']:>+10.1f}"
        print(f"{variant:<10}{cells}")
    print("± is the standard error of the median of the rounds' differences")
    print()
    print(f"{'import (least of ' + str(_IMPORTTIME_RUNS) + ')':<34}{'self µs':>9}{'cumul. µs':>11}")
    for name, times in data["import_us"].items():
        print(f"{name:<34}{times['self']:>9}{times['cumulative']:>11}")
    print()
    print(f"heavy modules imported for the plugin: {data['heavy_modules_of_the_plugin'] or 'none'}")
    print(f"limit {data['limit_ms']:g} ms of CPU time: {'kept' if data['passed'] else 'NOT KEPT'}")
    judged = data["cost"]["plugin"]["cpu_ms"]
    if abs(data["limit_ms"] - judged["median"]) < 2 * judged["standard_error"]:
        print("but the limit lies within the noise; use more --runs or a quieter machine")


def main() -> int:
    """Measure, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=25, help="rounds (default: 25)")
    parser.add_argument("--quick", action="store_true", help="7 rounds")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--limit-ms", type=float, default=10.0, help="of CPU time (default: 10)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = report(Bench(Path(folder)), 7 if options.quick else options.runs, options.limit_ms)
    show(data)
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0 if data["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
