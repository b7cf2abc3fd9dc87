"""The journal: whole lines, on the disk at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pytest_llem.errors import ResultsError
from pytest_llem.records import Failure, Figure
from pytest_llem.results.journal import Journal, read, written_to
from pytest_llem.results.outcome import Outcome
from pytest_llem.wire import to_dict
from tests.builders import UNHURRIED, measurement, outcome

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


def summed(text: bytes) -> bytes:
    """A JSON object as a line of the journal: with the checksum of all before it at its end."""
    body = text.removesuffix(b"}")
    return b'%b,"crc32":"%08x"}' % (body, zlib.crc32(body))


def test_what_is_appended_is_in_the_file_at_once_and_can_be_read_back(journal: Journal) -> None:
    for count, given in enumerate(OUTCOMES, 1):
        journal.append(given)
        *read, end = lines(journal)
        assert end == ""
        assert [line.encode() for line in read] == LINES[:count]


def test_an_older_journal_is_continued(journal: Journal) -> None:
    journal.append(OUTCOMES[0])
    journal.close()
    again = Journal(journal.folder, "main")
    again.append(OUTCOMES[1])
    again.close()
    assert len(lines(journal)) == 3


def test_a_journal_whose_end_a_crash_cut_is_continued_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, LINES[0] + b"\n" + LINES[1][:-9])
    again = Journal(tmp_path, "main")
    again.append(OUTCOMES[2])
    again.close()
    outcomes, problems = read(tmp_path)
    assert outcomes == [OUTCOMES[0], OUTCOMES[2]]
    assert problems == [f"{path}:2: left out, it is not a whole outcome: its end is missing"]


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "journal.main.jsonl"
    assert written_to(tmp_path) is None
    journal = Journal(tmp_path, "main")
    assert written_to(tmp_path) == path
    with pytest.raises(ResultsError, match=f"{path} is being written by another pytest; run this"):
        Journal(tmp_path, "main")
    journal.append(OUTCOMES[0])
    journal.close()
    assert written_to(tmp_path) is None
    assert read(tmp_path) == (OUTCOMES[:1], [])


def test_whoever_looks_whether_it_is_written_keeps_nobody_from_writing(tmp_path: Path) -> None:
    Journal(tmp_path, "main").close()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            written_to(tmp_path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(200):
            Journal(tmp_path, "main").close()
    finally:
        ended.set()
        looking.join()
    assert written_to(tmp_path) is None


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
    path = journal.log_path("s", "a", "c1")
    assert path == journal.folder / "logs" / "s.a.c1.log"
    assert path.parent.is_dir()


def test_a_log_stays_in_its_folder_whatever_its_study_is_called(journal: Journal) -> None:
    path = journal.log_path("../my study/é", "a", "c2")
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


def test_a_disk_that_takes_only_a_part_of_a_line_is_told_and_the_part_taken_back(
    tmp_path: Path,
) -> None:
    size = len(json.dumps(to_dict(OUTCOMES[0]), separators=(",", ":")))
    code = f"""
import resource
from pathlib import Path
from pytest_llem.errors import ResultsError
from pytest_llem.results.journal import Journal
from tests.builders import outcome

journal = Journal(Path({str(tmp_path)!r}), "main")
resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 100}, resource.RLIM_INFINITY))
journal.append(outcome())
try:
    journal.append(outcome(cycle=2))
except ResultsError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout == f"{tmp_path / 'journal.main.jsonl'}: File too large\n", done.stderr
    assert read(tmp_path) == ([OUTCOMES[0]], [])


# --- reading -------------------------------------------------------------------------------

LINES = [summed(json.dumps(to_dict(one), separators=(",", ":")).encode()) for one in OUTCOMES]


def changed(old: bytes, new: bytes) -> bytes:
    """The first line with something else in it, and the checksum of that."""
    text = LINES[0][: -len(b',"crc32":"01234567"}')] + b"}"
    assert old in text
    return summed(text.replace(old, new, 1))


def written(folder: Path, content: bytes, writer: str = "main") -> Path:
    path = folder / f"journal.{writer}.jsonl"
    path.write_bytes(content)
    return path


def test_all_that_was_appended_is_read_back(journal: Journal) -> None:
    for given in OUTCOMES:
        journal.append(given)
    assert read(journal.folder) == (OUTCOMES, [])


def test_the_outcomes_of_two_writers_are_read(journal: Journal) -> None:
    other = Journal(journal.folder, "gw0")
    other.append(OUTCOMES[2])
    other.close()
    journal.append(OUTCOMES[0])
    journal.append(OUTCOMES[1])
    assert read(journal.folder) == ([OUTCOMES[2], OUTCOMES[0], OUTCOMES[1]], [])


@pytest.mark.parametrize("name", ["", "not there"])
def test_a_folder_without_journals_holds_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "journal.jsonl.bak").write_text("{}")
    assert read(tmp_path / name) == ([], [])


def test_an_empty_journal_holds_nothing(tmp_path: Path) -> None:
    written(tmp_path, b"")
    assert read(tmp_path) == ([], [])


def test_a_line_that_a_crash_cut_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, LINES[0] + b"\n" + LINES[1][:-5])
    outcomes, problems = read(tmp_path)
    assert outcomes == OUTCOMES[:1]
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}:2: left out, it is not a whole outcome: ")


def test_a_last_line_that_lacks_its_newline_alone_is_whole(tmp_path: Path) -> None:
    written(tmp_path, b"\n".join(LINES))
    assert read(tmp_path) == (OUTCOMES, [])


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"garbage",
        b"\xff\xfe\xfa",
        b"\0" * 4096,
        b'{"a": 1}',
        b"[]",
        b"null",
        b"3",
        b'"text"',
        b"[" * 200_000,
        b"9" * 5_000,
        summed(b'{"a": 1}'),
        summed(b"[" * 200_000),
        changed(b'"cycle":1', b'"cycle":"1"'),
        changed(b'"study":"s",', b""),
        changed(b'"study":"s",', b'"study":"s","colour":"red",'),
        changed(b'"value":1.0', b'"value":NaN'),
        changed(b'"metrics":{', b'"metrics":{{'),
        LINES[0].replace(b'"value":1.0', b'"value":1.5', 1),
        LINES[0][: len(LINES[0]) // 2] + LINES[1],
    ],
    ids=lambda damage: repr(damage[:12]) + str(len(damage)),
)
def test_a_damaged_line_in_the_middle_costs_itself_alone(tmp_path: Path, damage: bytes) -> None:
    path = written(tmp_path, b"\n".join([LINES[0], damage, LINES[2], b""]))
    outcomes, problems = read(tmp_path)
    assert outcomes == [OUTCOMES[0], OUTCOMES[2]]
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}:2: left out, ")
    assert "\n" not in problems[0]


def test_a_journal_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "journal.gw0.jsonl").mkdir()
    written(tmp_path, LINES[0] + b"\n")
    outcomes, problems = read(tmp_path)
    assert outcomes == OUTCOMES[:1]
    assert problems == [f"{tmp_path / 'journal.gw0.jsonl'}: can't be read: Is a directory"]


# --- whatever happens to it ----------------------------------------------------------------

SMALL = [outcome(cycle=n, measurement=None, skipped=f"reason {n}") for n in range(1, 7)]
WRITERS = ("main", "gw0")


class Writing(RuleBasedStateMachine):
    """Appends by two writers, crashes that cut a file, bytes that change on the disk.

    What counts as whole is told by the files themselves: a line that is, byte for byte, one that
    was appended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.journals = {writer: Journal(self.folder, writer) for writer in WRITERS}
        self.appended: dict[bytes, Outcome] = {}

    def content(self, writer: str) -> bytes:
        return (self.folder / f"journal.{writer}.jsonl").read_bytes()

    @rule(writer=strategies.sampled_from(WRITERS), given=strategies.sampled_from(SMALL))
    def append(self, writer: str, given: Outcome) -> None:
        self.journals[writer].append(given)
        *_, line, end = self.content(writer).split(b"\n")
        assert end == b""
        assert self.appended.setdefault(line, given) == given

    @rule(writer=strategies.sampled_from(WRITERS), share=strategies.floats(0, 1))
    def cut_and_begin_again(self, writer: str, share: float) -> None:
        self.journals[writer].close()
        content = self.content(writer)
        written(self.folder, content[: round(share * len(content))], writer)
        self.journals[writer] = Journal(self.folder, writer)

    @rule(
        writer=strategies.sampled_from(WRITERS),
        share=strategies.floats(0, 1),
        noise=strategies.one_of(strategies.binary(max_size=3), strategies.just(b"\n")),
    )
    def change(self, writer: str, share: float, noise: bytes) -> None:
        content = self.content(writer)
        place = round(share * len(content))
        with (self.folder / f"journal.{writer}.jsonl").open("r+b") as file:
            file.seek(place)
            # A disk changes what is there: it makes no file longer.
            file.write(noise[: len(content) - place])

    @invariant()
    def what_is_read_is_what_is_whole(self) -> None:
        outcomes, problems = read(self.folder)
        whole, damaged = [], 0
        for writer in sorted(WRITERS):
            *before, last = self.content(writer).split(b"\n")
            for line in [*before, last] if last else before:
                if line in self.appended:
                    whole.append(self.appended[line])
                else:
                    damaged += 1
        assert outcomes == whole
        assert len(problems) == damaged

    def teardown(self) -> None:
        for journal in self.journals.values():
            journal.close()
        shutil.rmtree(self.folder)


# An append waits for the disk.
Writing.TestCase.settings = hypothesis.settings(UNHURRIED, max_examples=40, stateful_step_count=15)
TestWhateverHappens = Writing.TestCase
