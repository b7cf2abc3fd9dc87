"""Comparing with earlier sessions: every row of the table, on a metric without any noise."""

from __future__ import annotations

import fnmatch
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import HEADER, Project

STUDY = "worker: forked\nexecution: {cycles: 3}\n"
BUDGET = "--llem-compare-fail=peak_memory_bytes:5%"
Change = Callable[[dict[str, Any]], None]


def saved(project: Project, *options: str, body: str = STUDY) -> Path:
    """A reference of the study, called ``before``."""
    project.study(body)
    result = project.run("benchmarks", "--llem-save=before", *options)
    path = project.pytester.path / "results/references/before.json"
    result.stdout.fnmatch_lines(["saved: results/references/before.json"])
    return path


def times(factor: float, metric: str = "peak_memory_bytes") -> Change:
    """A reference with another figure."""

    def change(measurement: dict[str, Any]) -> None:
        if measurement["metrics"][metric]["value"] is not None:
            measurement["metrics"][metric]["value"] *= factor

    return change


def on(key: str, value: object) -> Change:
    """A reference of another testbed."""

    def change(measurement: dict[str, Any]) -> None:
        measurement["testbed"][key] = value

    return change


def no_value(measurement: dict[str, Any]) -> None:
    measurement["metrics"]["peak_memory_bytes"] |= {"value": None, "reason": "lost"}


@dataclass(frozen=True)
class Row:
    """What a reference is like, and what the gate must make of it.

    Attributes:
        change: of each measurement of the reference; None for no reference at all.
        text: of the terminal.
        outcome: of the gate, in junit's and the report's words.
        strict: the same, with --llem-strict.
        cycles: of the current session.
        meter: that energy is read by.
        compared: whether there is anything to compare.
    """

    change: Change | None
    text: str
    outcome: str
    strict: str
    cycles: int = 3
    meter: str = "fixed"
    compared: bool = True

    @property
    def metric(self) -> str:
        """What is judged: a figure without any noise, unless the row is about meters."""
        return "peak_memory_bytes" if self.meter == "fixed" else "energy_j"


SIZE = "peak_memory_bytes: 1.00 MB"
ROWS = {
    "same": Row(
        times(1), f"{SIZE}, the same as 1.00 MB, noise 3.* %, budget 5 %; *", "passed", "passed"
    ),
    "better": Row(times(2), f"{SIZE}, 50.0 % better than 2.00 MB, *", "passed", "passed"),
    "within-budget": Row(
        times(1 / 1.04), f"{SIZE}, 4.0 % worse than 962 kB, *", "passed", "passed"
    ),
    "beyond-noise": Row(times(1 / 1.2), f"{SIZE}, 20.0 % worse than 833 kB, *", "failed", "failed"),
    "within-noise": Row(
        times(1 / 1.06),
        f"{SIZE}, 6.0 % worse than 943 kB, * inconclusive; finds 9.* % or more",
        "passed",
        "failed",
    ),
    "few-cycles": Row(
        times(1 / 1.2),
        "peak_memory_bytes: inconclusive: 2 cycles are too few to compare; it takes 3",
        "passed",
        "failed",
        cycles=2,
    ),
    "zero": Row(
        times(0), "peak_memory_bytes: inconclusive: values of zero or less *", "passed", "failed"
    ),
    "no-value": Row(
        no_value,
        "peak_memory_bytes: no reference has a value *",
        "skipped",
        "failed",
        compared=False,
    ),
    "no-reference": Row(
        None,
        "peak_memory_bytes: no reference to compare with (budget 5 %)",
        "skipped",
        "failed",
        compared=False,
    ),
    "other-cpu": Row(
        on("cpu", "Other CPU"),
        "peak_memory_bytes: not compared, the testbed differs: CPU: Other CPU → *",
        "skipped",
        "failed",
        compared=False,
    ),
    "other-worker": Row(
        on("worker", "fresh"),
        "*: not compared, the testbed differs: worker: fresh → reuse *",
        "skipped",
        "failed",
        compared=False,
    ),
    "unmeasured": Row(
        times(1, "energy_j"),
        "energy_j: unmeasured: 3 of 3 cycles: cpu:0: the counter went away",
        "failed",
        "failed",
        meter="broken",
        compared=False,
    ),
    "estimated": Row(
        times(1, "energy_j"),
        "energy_j: estimated, not measured, so not compared; --llem-allow-estimated compares it",
        "skipped",
        "failed",
        meter="estimate",
        compared=False,
    ),
    # How long a measurement takes varies a lot, so that only what is far better is sure to pass.
    "short": Row(
        times(1000, "energy_j"),
        "energy_j: *% better than *, reading short: the window is shorter than the counter's *",
        "passed",
        "failed",
        meter="short",
    ),
}


@dataclass(frozen=True)
class Session:
    """A session that compared some of the rows, an experiment each.

    Attributes:
        lines: of the terminal.
        gates: of the report, by experiment.
        junit: outcome of each gate's test, by experiment.
        status: of pytest.
    """

    lines: list[str]
    gates: dict[str, dict[str, Any]]
    junit: dict[str, str]
    status: int


def body(cycles: int, names: Sequence[str]) -> str:
    """A study of some rows."""
    rows = [
        f"  - {{id: {name}, meters: [{ROWS[name].meter}],"
        f" expect: {{{ROWS[name].metric}: {{max_regression: 5%}}}}}}\n"
        for name in names
    ]
    return f"worker: reuse\nname: s\nexecution: {{cycles: {cycles}}}\nexperiments:\n{''.join(rows)}"


BARE = HEADER.replace("meters: [fixed]\n", "")


def reference(project: Project) -> None:
    """Save a session of all rows, and make of each measurement what its row says."""
    project.study(body(3, list(ROWS)), header=BARE)
    project.run("benchmarks", "--llem-save=before")
    (project.folder / "s.study.yaml").unlink()
    path = project.pytester.path / "results/references/before.json"
    document = json.loads(path.read_text())
    kept = [o for o in document["measurements"] if ROWS[o["experiment"]].change]
    for outcome in kept:
        change = ROWS[outcome["experiment"]].change
        assert change is not None
        change(outcome["measurement"])
    path.write_text(json.dumps({**document, "measurements": kept}))


def compared(project: Project, names: Sequence[str], *options: str) -> Session:
    """Compare these rows."""
    for cycles in (2, 3):
        if own := [name for name in names if ROWS[name].cycles == cycles]:
            project.study(body(cycles, own), name=f"{cycles}.study.yaml", header=BARE)
    result = project.run(
        *("benchmarks", "-rs", "--llem-compare=before", *options),
        *("--llem-json=new.json", "--junit-xml=junit.xml"),
    )
    for path in project.folder.iterdir():
        path.unlink()
    junit = {}
    for case in ElementTree.parse(project.pytester.path / "junit.xml").iter("testcase"):
        if case.attrib["name"] == "gate":
            (kind,) = [child.tag for child in case if child.tag != "properties"] or ["passed"]
            junit[case.attrib["classname"].rpartition(".")[2]] = kind
    gates = {gate["experiment"]: gate for gate in project.report("new.json")["gates"]}
    return Session(result.outlines, gates, junit, int(result.ret))


def test_every_row_of_the_table(project: Project) -> None:
    # One session for all that must pass, and one for the others: each takes its time.
    reference(project)
    plain = {name: row.outcome for name, row in ROWS.items()}
    strict = {name: row.strict for name, row in ROWS.items()}
    for outcomes, options in ((plain, []), (strict, ["--llem-strict"])):
        for status in (0, 1):
            names = [name for name in ROWS if (outcomes[name] == "failed") == bool(status)]
            session = compared(project, names, *options)
            assert session.status == status
            assert session.gates.keys() == session.junit.keys() == set(names)
            for name in names:
                check(name, outcomes[name], session)


def check(name: str, outcome: str, session: Session) -> None:
    """A row is told of on the terminal, in the report and in junit."""
    row = ROWS[name]
    wanted = f"{name}: gate {outcome}: {row.text}"
    shown = [line for line in session.lines if fnmatch.fnmatch(line, wanted)]
    assert len(shown) == 1, (wanted, session.lines)
    assert session.gates[name]["outcome"] == outcome, name
    assert session.junit[name] == {"failed": "failure"}.get(outcome, outcome), name
    (verdict,) = session.gates[name]["verdicts"]
    assert (verdict["comparison"] is not None) == row.compared, name


def test_an_upgrade_of_the_engine_is_compared_and_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(project)
    monkeypatch.setenv("LLEM_FAKE_VERSION", "2.0")
    result = project.run("benchmarks", "--llem-compare=before", BUDGET)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "benchmarks/s.study.yaml:1: gate of s failed",
            "E   peak_memory_bytes: 1.10 MB, 10.0 % worse than *; with llem-fake-engine 1.0 → 2.0",
        ]
    )


def test_without_a_budget_a_comparison_is_shown_and_judges_nothing(project: Project) -> None:
    saved(project)
    result = project.run("benchmarks", "--llem-compare=before", "--llem-json=new.json")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        ["s: output_tokens_per_s: *; finds * or more", "s: energy_per_output_token_j: *"]
    )
    (row,) = project.report("new.json")["experiments"]
    assert row["comparisons"]["output_tokens_per_s"]["outcome"] == "kept"


def test_a_study_has_budgets_of_its_own(project: Project) -> None:
    body = f"{STUDY}expect: {{peak_memory_bytes: {{max_regression: 50%}}}}\n"
    path = saved(project, body=body)
    document = json.loads(path.read_text())
    for outcome in document["measurements"]:
        times(1 / 1.2)(outcome["measurement"])
    path.write_text(json.dumps(document))
    # The command line's would win.
    project.run("benchmarks", "--llem-compare=before").assert_outcomes(passed=4)
    project.run("benchmarks", "--llem-compare=before", BUDGET).assert_outcomes(passed=3, failed=1)


def test_ini_has_budgets_too(project: Project) -> None:
    saved(project)
    project.pytester.makeini("[pytest]\nllem_compare_fail =\n    peak_memory_bytes: 5 %\n")
    project.run("benchmarks", "--llem-compare=before").assert_outcomes(passed=4)


def test_xdist_compares_as_well(project: Project) -> None:
    pytest.importorskip("xdist")
    saved(project)
    result = project.run("benchmarks", "--llem-compare=before", BUDGET, "-n2")
    result.assert_outcomes(passed=4)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            ["--llem-compare=nowhere.json"],
            "*--llem-compare: *nowhere.json: can't be read: No such*",
        ),
        (["--llem-compare-fail=energi_j:5%"], "*unknown metric 'energi_j'; did you mean energy_j?"),
        (["--llem-compare-fail=energy_j"], "*'energy_j' isn't METRIC:PERCENT, for example *"),
        (["--llem-save", "benchmarks"], "*'benchmarks' is no name for a reference; write *"),
    ],
)
def test_what_can_not_be_compared_is_said_before_anything_is_measured(
    project: Project, options: list[str], error: str
) -> None:
    project.study(STUDY)
    result = project.run("benchmarks", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([error])
    assert project.journal() == []
