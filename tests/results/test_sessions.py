"""Sessions in the results folder: found by name, by path, and through what they resumed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_llem.errors import ResultsError
from pytest_llem.results.journal import Journal
from pytest_llem.results.sessions import (
    POINTER,
    find,
    is_running,
    lineage,
    pointer,
    refuse_running,
    sessions,
)


def session(root: Path, name: str, *, resumes: Path | None = None) -> Path:
    Journal(root / name, "main").close()
    if resumes:
        (root / name / POINTER).write_text(pointer(resumes, root))
    return root / name


def test_the_newest_is_the_first(tmp_path: Path) -> None:
    names = ("20260102T000000Z-0000", "20250101T000000Z-ffff", "20260102T000000Z-aaaa")
    made = [session(tmp_path, name) for name in names]
    (tmp_path / "references").mkdir()
    # Of two that began in the same second, the files tell.
    for age_s, folder in enumerate(made):
        os.utime(folder, (1e9 - age_s, 1e9 - age_s))
    assert sessions(tmp_path) == [made[0], made[2], made[1]]
    assert sessions(tmp_path / "nowhere") == []


def test_a_session_is_named_or_pointed_at(tmp_path: Path) -> None:
    root = tmp_path / "results"
    made = session(root, "20260102T000000Z-0000")
    for text in (made.name, str(made), f"results/{made.name}", f"results/{made.name}/"):
        assert find(text, root, tmp_path) == made


def test_what_is_no_session_is_told_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"^'x' is no session in .*; no session is there$"):
        find("x", tmp_path, tmp_path)
    for number in range(12):
        session(tmp_path, f"202601{number + 10}T000000Z-0000")
    with pytest.raises(ResultsError) as caught:
        find("references", tmp_path, tmp_path)
    assert "sessions there: 20260121T000000Z-0000, 20260120T" in str(caught.value)
    assert str(caught.value).endswith("20260112T000000Z-0000 and 2 older")
    (tmp_path / "benchmarks").mkdir()
    with pytest.raises(ResultsError, match="write --llem-resume last, or --llem-resume=SESSION"):
        find("benchmarks", tmp_path, tmp_path)


def test_a_session_runs_as_long_as_somebody_writes_its_journal(tmp_path: Path) -> None:
    made = session(tmp_path, "a")
    refuse_running(made)
    journal = Journal(made, "gw1")
    assert is_running(made)
    with pytest.raises(ResultsError, match=r"a is still running: .*journal\.gw1\.jsonl; wait"):
        refuse_running(made)
    journal.close()
    assert not is_running(made)


def test_lineage_goes_from_the_newest_to_the_first(tmp_path: Path) -> None:
    first = session(tmp_path / "elsewhere", "a")
    second = session(tmp_path / "here", "b", resumes=first)
    third = session(tmp_path / "here", "c", resumes=second)
    assert lineage(third) == ([third, second, first], [])
    # Folders that were moved together still find each other.
    (tmp_path / "here").rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    assert lineage(moved / "c") == ([moved / "c", moved / "b", first], [])


def test_a_lineage_that_is_broken_is_told(tmp_path: Path) -> None:
    gone = session(tmp_path, "b", resumes=tmp_path / "a")
    assert lineage(gone) == ([gone], ["b resumed a, which isn't there any more"])
    circle = session(tmp_path, "c", resumes=tmp_path / "c")
    assert lineage(circle) == ([circle], [])
    (gone / POINTER).write_text('{"sess')
    folders, (problem,) = lineage(gone)
    assert folders == [gone]
    assert problem.startswith(f"{gone / POINTER}: can't be read: ")
