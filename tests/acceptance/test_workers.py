"""Workers that are forked, and engines that are kept, as a study asks for them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.once

REUSE = """\
worker: reuse
execution: {cycles: 2, order: sequential}
"""


def modes(project: Project) -> list[str]:
    return [line["measurement"]["testbed"]["worker"] for line in project.journal()]


def entries(diary: Path) -> list[str]:
    """What engines were made to do, in order."""
    return [line.split()[0] for line in diary.read_text().splitlines()]


def test_an_engine_is_kept_while_what_built_it_is_shared(project: Project, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    project.study(
        REUSE + f"fake: {{diary: {diary}}}\n"
        "expect: {duration_s: {min: 0}}\n"
        "experiments:\n"
        "  - {id: a}\n"
        "  - {id: b, batch_size: 2}\n"
        "  - {id: c, fake: {token_s: 0.002}}\n"
    )
    # The last engine is unloaded before anything else runs.
    test = f"from pathlib import Path\ndef test_x(): Path({str(diary)!r}).open('a').write('x\\n')\n"
    (project.folder / "test_later.py").write_text(test)
    result = project.run("benchmarks", "--llem-json=report.json")
    result.assert_outcomes(passed=10)
    assert modes(project) == ["reuse"] * 6
    runs = ["run"] * 4
    assert entries(diary) == ["load", *runs, "close", "load", *runs[:2], "close", "x"]
    result.stdout.fnmatch_lines(["s (benchmarks/s.study.yaml), worker: reuse"])
    logs = sorted(path.name for path in project.pytester.path.glob("results/*/logs/*"))
    assert len(logs) == 6


def test_a_failed_measurement_never_leaves_its_engine_in_use(
    project: Project, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    project.study(REUSE + f"fake: {{diary: {diary}, fail_once: {tmp_path / 'once'}}}\n")
    result = project.run("benchmarks")
    result.assert_outcomes(passed=1, failed=1)
    assert entries(diary) == ["load", "run", "load", "run", "close"]


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux")
def test_workers_are_forked(project: Project) -> None:
    project.study("worker: forked\nexecution: {cycles: 2}\n")
    result = project.run("benchmarks")
    result.assert_outcomes(passed=2)
    assert modes(project) == ["forked"] * 2
    result.stdout.fnmatch_lines(["s (benchmarks/s.study.yaml), worker: forked"])


def test_where_they_cannot_be_they_are_fresh_and_one_line_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLEM_FAKE_PRELOAD", "thread")
    project.study("worker: forked\nexecution: {cycles: 2}\n")
    result = project.run("benchmarks")
    result.assert_outcomes(passed=2)
    assert modes(project) == ["fresh"] * 2
    said = [line for line in result.outlines if "forked" in line]
    assert len(said) == 1
    assert said[0].startswith("worker: forked can't be for fake, its workers are fresh: ")
    assert all("not_forked" in line["place"] for line in project.journal())
