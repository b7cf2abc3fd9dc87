"""Reports on the disk: whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.errors import ResultsError
from pytest_llem.reports.files import append, check_writable, write


@pytest.mark.parametrize("name", ["report.json", "deep/er/report.json"])
def test_a_report_is_written_and_its_folder_made(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, "é µ\n")
    assert path.read_bytes() == "é µ\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["report.json"]


def test_an_older_report_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write(path, "a long old report")
    write(path, "new")
    assert path.read_text() == "new"


def test_a_text_that_can_not_be_written_leaves_the_older_report_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write(path, "old")
    with pytest.raises(ResultsError, match=r"report\.json can't be written: .*surrogates"):
        write(path, "half of it\ud800")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_a_directory_in_place_of_the_report_is_told_and_nothing_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.mkdir()
    with pytest.raises(ResultsError, match=r"report\.json can't be written: Is a directory"):
        write(path, "x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize("name", ["file/report.json", "file/deep/report.json"])
def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((ResultsError, OSError)) as caught:
        write(tmp_path / name, "x")
    assert isinstance(caught.value, ResultsError)
    assert str(caught.value).startswith(f"{tmp_path / name} can't be written: ")


@pytest.mark.parametrize("name", ["report.json", "deep/er/report.json"])
def test_checking_writes_no_report(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    check_writable(path)
    assert list(path.parent.iterdir()) == []


def test_checking_leaves_an_older_report_alone(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old"


def test_checking_tells_of_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ResultsError) as caught:
        check_writable(tmp_path)
    assert str(caught.value) == f"{tmp_path} is a directory; name a file"


@pytest.mark.parametrize("name", ["file/report.json", "file/deep/report.json"])
def test_checking_tells_of_a_file_in_place_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResultsError, match=r"report\.json can't be written: "):
        check_writable(tmp_path / name)
    assert (tmp_path / "file").read_text() == "in the way"


def test_checking_tells_of_a_name_that_can_not_be(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="can't be written: File name too long"):
        check_writable(tmp_path / ("a" * 300) / "report.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, "new\n"), ("", "new\n"), ("old\n", "old\n\nnew\n"), ("old", "old\n\nnew\n")],
)
def test_what_is_appended_begins_a_paragraph_of_its_own(
    tmp_path: Path, before: str | None, after: str
) -> None:
    path = tmp_path / "deep" / "summary.md"
    if before is not None:
        path.parent.mkdir()
        path.write_text(before)
    append(path, "new\n")
    assert path.read_text() == after


def test_a_summary_that_can_not_be_appended_to_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="can't be written: Is a directory"):
        append(tmp_path, "x")
