"""The journal: whole lines, on the disk at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llem.errors import ResultsError
from pytest_llem.records import Failure, Figure, from_dict
from pytest_llem.results.journal import Journal
from pytest_llem.results.outcome import Outcome
from tests.builders import measurement, outcome

OUTCOMES = [
    outcome(),
    outcome(cycle=2, measurement=None, failure=Failure(kind="raised", message="é\n\u2028 boom")),
    outcome(cycle=3, measurement=None, skipped="no docker here"),
]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "deep" / "session", "main")
    yield journal
    journal.close()


def lines(journal: Journal) -> list[str]:
    return (journal.folder / "journal.main.jsonl").read_text().split("\n")


def test_what_is_appended_is_in_the_file_at_once_and_can_be_read_back(journal: Journal) -> None:
    for count, given in enumerate(OUTCOMES, 1):
        journal.append(given)
        *read, end = lines(journal)
        assert end == ""
        assert [from_dict(Outcome, json.loads(line)) for line in read] == OUTCOMES[:count]


def test_an_older_journal_is_continued(journal: Journal) -> None:
    journal.append(OUTCOMES[0])
    again = Journal(journal.folder, "main")
    again.append(OUTCOMES[1])
    again.close()
    assert len(lines(journal)) == 3


def test_each_writer_has_a_file_of_its_own(journal: Journal) -> None:
    other = Journal(journal.folder, "gw0")
    other.append(OUTCOMES[0])
    other.close()
    assert {path.name for path in journal.folder.glob("*.jsonl")} == {
        "journal.main.jsonl",
        "journal.gw0.jsonl",
    }
    assert lines(journal) == [""]


def test_a_number_that_json_lacks_is_refused_and_leaves_no_half_line(journal: Journal) -> None:
    bad = measurement(metrics={"energy_j": Figure(value=float("nan"))})
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.append(outcome(measurement=bad))
    assert lines(journal) == [""]


def test_the_folder_of_logs_is_there(journal: Journal) -> None:
    path = journal.log_path("s", "a", 1)
    assert path == journal.folder / "logs" / "s.a.c1.log"
    assert path.parent.is_dir()


def test_a_log_stays_in_its_folder_whatever_its_study_is_called(journal: Journal) -> None:
    path = journal.log_path("../my study/é", "a", 2)
    assert path.parent == journal.folder / "logs"
    assert path.name == "..%2Fmy%20study%2F%C3%A9.a.c2.log"


@pytest.mark.parametrize("below", ["", "session", "deep/session"])
def test_a_file_in_the_way_is_named_with_what_to_do(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / below
    with pytest.raises(ResultsError) as caught:
        Journal(folder, "main")
    message = str(caught.value)
    assert message.startswith(f"results can't be written to {folder / 'journal.main.jsonl'}: ")
    assert message.endswith("make it writable, or set llem_results_dir to another directory")


def test_a_directory_in_place_of_the_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.main.jsonl").mkdir()
    with pytest.raises(ResultsError, match=r"journal\.main\.jsonl: Is a directory;"):
        Journal(tmp_path, "main")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "journal.main.jsonl").symlink_to("/dev/full")
    journal = Journal(tmp_path, "main")
    with pytest.raises(ResultsError, match=r"journal\.main\.jsonl: No space left on device"):
        journal.append(OUTCOMES[0])
    journal.close()
