"""Under pytest-xdist on a host with several GPUs: each has one experiment at a time."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.results.neighbours import NOTICE
from tests.acceptance.conftest import HEADER, Project
from tests.rig.fixtures import MakePowercap, NvmlRig
from tests.rig.nvml import H100

pytestmark = pytest.mark.once

ON_GPUS = HEADER + "    power_trace_hz: none\n    device: auto\n"
LIMIT = "expect: {output_tokens_per_s: {min: 0.001}}\n"
ENGINES = (("a", "float16"), ("b", "float32"))
MIXED = (
    LIMIT
    + """\
execution: {cycles: 2}
experiments:
  - {id: small1}
  - {id: small2}
  - {id: big, gpus: 2}
  - {id: small3}
"""
)


@pytest.fixture
def gpus(nvml_rig: NvmlRig, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes a host with so many GPUs for the processes that are started."""

    def make(count: int) -> None:
        rig = nvml_rig(H100, gpus=count, opened=False)
        for name, value in rig.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return make


def run(project: Project, *arguments: str) -> pytest.RunResult:
    command = ("benchmarks", "--llem-json=report.json", "--llem-gaps=none", "-v", *arguments)
    return project.pytester.runpytest_subprocess(*command, timeout=300)


def spans(report: Mapping[str, Any]) -> Iterator[tuple[str, float, float, str]]:
    """GPU, begin and end of each measurement on it, and its name."""
    for outcome in report["measurements"]:
        windows = outcome["measurement"]["windows"]
        ends = [window["start_s"] + window["duration_s"] for window in windows]
        for gpu in outcome["place"]["lease"]["gpus"]:
            name = f"{outcome['experiment']}{outcome['cycle']}"
            yield gpu, min(window["start_s"] for window in windows), max(ends), name


def by_gpu(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """What was measured on each GPU, in order; never two things at once."""
    found: dict[str, list[str]] = {}
    rows = sorted(spans(report))
    for before, after in itertools.pairwise(rows):
        assert before[0] != after[0] or before[2] <= after[1], (before, after)
    for gpu, _, _, name in rows:
        found.setdefault(gpu, []).append(name)
    return found


def test_big_and_small_experiments_share_the_gpus(
    project: Project, gpus: Callable[[int], None]
) -> None:
    gpus(2)
    project.study(MIXED, header=ON_GPUS)
    # One worker more than there are GPUs.
    result = run(project, "-n3")
    result.assert_outcomes(passed=12)
    found = by_gpu(project.report())
    assert len(found) == 2
    first, second = sorted(found.values(), key=len, reverse=True)
    # The one that needs both comes first; the others in turns, each on one GPU.
    assert (first[:2], second[:2]) == (["big1", "big2"],) * 2
    assert sorted([*first[2:], *second[2:]]) == [f"small{n}{c}" for n in "123" for c in "12"]
    assert {name[:-1] for name in first[2:]}.isdisjoint(name[:-1] for name in second[2:])
    assert len(first) == 6
    assert [name[-1] for name in first[2:]] == ["1", "1", "2", "2"]
    assert [gate["outcome"] for gate in project.report()["gates"]] == ["passed"] * 4


@pytest.mark.parametrize("dist", ["auto", "off"])
def test_with_one_gpu_an_engine_is_loaded_when_the_other_has_been_unloaded(
    project: Project, gpus: Callable[[int], None], dist: str
) -> None:
    gpus(1)
    diary = project.pytester.path / "diary"
    fields = f"worker: reuse, fake: {{diary: {diary}}}"
    project.study(
        "execution: {cycles: 2}\nexperiments:\n"
        + "".join(f"  - {{id: {name}, dtype: {dtype}, {fields}}}\n" for name, dtype in ENGINES)
        + LIMIT,
        header=ON_GPUS,
    )
    result = run(project, "-n2", f"--llem-dist={dist}")
    result.assert_outcomes(passed=6)
    told = [line.split()[0] for line in diary.read_text().splitlines() if line.split()[0] != "run"]
    assert told == ["load", "close"] * (len(told) // 2)
    assert len(told) >= 4


def test_a_worker_killed_in_a_measurement_costs_that_one_and_no_gpu(
    project: Project, gpus: Callable[[int], None]
) -> None:
    gpus(2)
    mark = project.pytester.path / "mark"
    slow = f"fake: {{mark: {mark}, token_s: 0.5}}"
    project.study(MIXED.replace("{id: small1}", f"{{id: small1, {slow}}}"), header=ON_GPUS)
    # Whoever measures it is killed in the middle, once.
    project.pytester.makeconftest(
        f"""
        import os, pathlib, signal, threading, time

        mark, killed = pathlib.Path({str(mark)!r}), pathlib.Path("killed")

        def kill():
            while not (mark.exists() and mark.read_text() == "run"):
                time.sleep(0.05)
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

        def pytest_runtest_setup(item):
            if "small1::c" in item.nodeid and not killed.exists():
                threading.Thread(target=kill, daemon=True).start()
        """
    )
    result = run(project, "-n2")
    result.assert_outcomes(passed=10, failed=2)
    result.stdout.fnmatch_lines(["*crashed while running 'benchmarks/s.study.yaml::small1::c1'*"])
    found = by_gpu(project.report())
    names = sorted(itertools.chain.from_iterable(found.values()))
    small = [f"small{n}{cycle}" for n in "123" for cycle in "12"]
    assert names == ["big1", "big1", "big2", "big2", *small[1:]]


# --- as without xdist ---------------------------------------------------------------------------

IGNORED = {
    "session": "named by the time",
    "finished": "a time",
    "measurements.*.measurement.metrics": "figures of another run",
    "measurements.*.measurement.derived": "figures of another run",
    "measurements.*.measurement.windows": "figures of another run",
    "measurements.*.measurement.idle": "figures of another run",
    "measurements.*.measurement.stages": "figures of another run",
    "measurements.*.measurement.meters": "how the counters ticked",
    "measurements.*.measurement.conditions": "state of the GPUs at the time",
    "measurements.*.measurement.subject.engine.nice": "somebody may be nice in between",
    "measurements.*.measurement.subject.engine.visible": "which of equal GPUs it was",
    "measurements.*.place.lease.gpus": "which of equal GPUs it was",
    "measurements.*.place.lease.waited_s": "a time",
    "experiments.*.statistics": "figures of another run",
    "experiments.*.doubts": "how much figures of this run scatter",
    "notices: measurements ran side by side": "without xdist they don't",
    "gates.*.verdicts.*.measured": "a figure of another run",
    "gates.*.verdicts.*.reason": "has that figure",
    "junit testcase time": "a time",
    "junit testsuite time timestamp": "a time",
    "junit properties llem.*": "figures of another run",
    "junit property llem.cpu_steal_share": "left out where a window is too short to tell it",
    "junit order of testcases": "that in which they ended",
    "markdown: numbers, their units and which is the best": "figures of another run",
    "markdown: notes on cycles that scatter or ran side by side": "as in the report",
    "markdown: shared, and by whom": "without xdist nothing is",
}
"""What may differ between a run with xdist and one without, and why."""


def plain(value: Any, path: str = "") -> Any:
    """A document without what is ignored; of mappings the names remain."""
    if path in IGNORED or path.rpartition(".")[2] in IGNORED:
        return sorted(value) if isinstance(value, dict) else None
    if isinstance(value, dict):
        return {key: plain(item, f"{path}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item, f"{path}.*") for item in value if item != NOTICE]
    return value


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Where two documents differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{path}[{number}]")
    elif one != other:
        yield f"{path}: {one!r:.200} and {other!r:.200}"


def junit(path: Path) -> list[tuple[Any, ...]]:
    """Test cases of a junit file: what they are called and what became of them."""
    return sorted(
        (
            case.get("classname"),
            case.get("name"),
            [child.tag for child in case if child.tag != "properties"],
            sorted(
                name
                for each in case.iter("property")
                if (name := str(each.get("name"))) != "llem.cpu_steal_share"
            ),
        )
        for case in ElementTree.parse(path).iter("testcase")
    )


def words(path: Path) -> list[str]:
    """Lines of a Markdown file, in any order of a table's rows, without what is ignored."""
    figure = re.compile(r"(?:\*\*)?-?\d[\d,.]*(?: (?:[kMmµn]?(?:J|s|Wh|W)\b|%))?(?:\*\*)?")
    lines = [figure.sub("#", line) for line in path.read_text().splitlines()]
    lines = [line.replace(" *shared*", "") for line in lines]
    noted = ("unstable", "drift", "side by side", "*shared* =", "by fixed (counter)", "<sub>pytest")
    return sorted(line for line in lines if line and not any(note in line for note in noted))


def test_reports_are_those_of_a_run_without_xdist(
    project: Project, gpus: Callable[[int], None], powercap: MakePowercap
) -> None:
    gpus(2)
    broken = MIXED + "  - {id: broken, fake: {raise_in: load}}\n  - {id: left_out, skip: later}\n"
    project.study(broken, header=ON_GPUS)
    documents, cases, pages = [], [], []
    for options in (["-p", "no:xdist"], ["-n2"]):
        result = run(project, *options, "--junit-xml=junit.xml", "--llem-markdown=summary.md")
        result.assert_outcomes(passed=12, failed=3, skipped=3)
        documents.append(plain(project.report()))
        cases.append(junit(project.pytester.path / "junit.xml"))
        pages.append(words(project.pytester.path / "summary.md"))
    print("ignored:", json.dumps(IGNORED, indent=1))  # noqa: T201
    assert "\n".join(differences(*documents)) == ""
    assert cases[1] == cases[0]
    assert pages[1] == pages[0]
