"""What comes from other hosts is kept here, and what can't come is named."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from pytest_llem.plugin.arrivals import Arrivals, parcel
from pytest_llem.results.journal import Journal, read
from pytest_llem.results.outcome import Outcome
from tests.builders import outcome

RAW = "raw/a.c1.jsonl"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A session's directory on another host, with a measurement."""
    folder = tmp_path / "there"
    Journal(folder, "gw0").close()
    (folder / RAW).write_text('{"token_s": [1.0]}\n' * 1000)
    (folder / "logs" / "a.c1.log").write_text("loading\n")
    return folder


def sent(there: Path, **limits: int) -> tuple[Outcome, dict[str, str]]:
    return parcel(outcome(raw=RAW), there, there / "logs" / "a.c1.log", "gpu2", **limits)


def keep(folder: Path, made: Outcome, files: dict[str, str]) -> tuple[list[Outcome], list[str]]:
    with closing(Arrivals(folder)) as arrivals:
        return arrivals.keep("gw0", [made], files)


def test_files_and_outcomes_are_kept_as_the_worker_would_have(there: Path, tmp_path: Path) -> None:
    made, files = sent(there)
    # Through JSON, as some plugins write every report; and smaller than they are.
    files = json.loads(json.dumps(files))
    assert len(files[RAW]) < 1000
    here = tmp_path / "here"
    assert keep(here, made, files) == ([made], [])
    assert (here / RAW).read_bytes() == (there / RAW).read_bytes()
    assert (here / "logs" / "a.c1.log").read_text() == "loading\n"
    assert read(here) == ([made], [])


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"most_bytes": 10}, "compressed it has "), ({}, "No such file or directory")],
)
def test_a_raw_file_that_can_not_come_is_named(
    there: Path, tmp_path: Path, limits: dict[str, int], reason: str
) -> None:
    if not limits:
        (there / RAW).unlink()
    made, files = sent(there, **limits)
    assert made.raw is None
    assert made.place["raw"].startswith(f"stays at gpu2:{there / RAW}: {reason}")
    assert RAW not in files
    _, (line,) = keep(tmp_path / "here", made, files)
    assert line.startswith("a cycle 1: its raw file is missing here: stays at gpu2:/")


@pytest.mark.parametrize("name", ["raw/../../x", "../x", "raw/.hidden", "/etc/x", "raw/", "x"])
def test_nothing_is_written_outside_of_the_session(tmp_path: Path, name: str) -> None:
    (made,), (line,) = keep(tmp_path / "here", outcome(raw=name), {name: ""})
    assert (made.raw, line.endswith("is no name of a result")) == (None, True), line
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"journal.gw0.jsonl"}


def test_damaged_content_is_a_missing_file(there: Path, tmp_path: Path) -> None:
    made, _ = sent(there)
    (kept,), (line,) = keep(tmp_path / "here", made, {RAW: "AAAA"})
    assert kept.raw is None
    assert "it can't be written here: " in line


def test_on_a_shared_disk_everything_is_here_already(there: Path) -> None:
    made, files = sent(there)
    before = (there / RAW).stat()
    assert keep(there, made, files) == ([made], [])
    assert (there / RAW).stat() == before
    assert (there / "journal.gw0.jsonl").read_text() == ""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_place_that_can_not_be_written_is_told(there: Path, tmp_path: Path) -> None:
    made, files = sent(there)
    tmp_path.chmod(0o500)
    kept, (line,) = keep(tmp_path / "here", made, files)
    tmp_path.chmod(0o700)
    assert kept == [made]
    assert "can't be written to" in line
