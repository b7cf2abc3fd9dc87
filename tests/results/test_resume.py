"""What an earlier session measured is taken over where it is the same, and only there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.demands import RunnerSpec
from pytest_llem.errors import ResultsError
from pytest_llem.experiment import Warmup
from pytest_llem.records import Failure
from pytest_llem.results.journal import Journal, read
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.resume import Earlier, Found, Wanted, adopt, explained
from pytest_llem.results.sessions import POINTER, pointer
from pytest_llem.wire import to_dict
from tests.builders import DIGEST, experiment, measurement, outcome

CONFIG = to_dict(experiment(backend="vllm", options={"block_size": 16}))
MADE = outcome(config=CONFIG)
WANTED = Wanted(
    study="s",
    file="s.study.yaml",
    experiment="a",
    cycle=1,
    digest=DIGEST,
    config=CONFIG,
    runner="local",
)


def session(folder: Path, *outcomes: Outcome) -> Path:
    journal = Journal(folder, "main")
    for one in outcomes:
        journal.append(one)
    journal.close()
    return folder


def found(tmp_path: Path, made: Outcome = MADE, **fields: Any) -> Found | None:
    earlier = Earlier(session(tmp_path / "one", made))
    return earlier.find(dataclasses.replace(WANTED, **fields), lambda _: ())


def differs(tmp_path: Path, made: Outcome = MADE, **fields: Any) -> list[str]:
    one = found(tmp_path, made, **fields)
    assert one is not None
    return list(one.differs)


def test_the_same_is_taken_over(tmp_path: Path) -> None:
    assert found(tmp_path) == Found(MADE, tmp_path / "one")


@pytest.mark.parametrize(
    "fields", [{"study": "t"}, {"experiment": "b"}, {"cycle": 2}, {"arm": "head"}]
)
def test_another_is_another(tmp_path: Path, fields: dict[str, Any]) -> None:
    assert found(tmp_path, **fields) is None


@pytest.mark.parametrize(
    "unmade",
    [{"failure": Failure(kind="raised", message="x")}, {"skipped": "no engine"}],
)
def test_what_was_not_measured_is_nothing_to_take_over(
    tmp_path: Path, unmade: dict[str, Any]
) -> None:
    assert found(tmp_path, outcome(config=CONFIG, measurement=None, **unmade)) is None


def config(**fields: Any) -> dict[str, Any]:
    base = experiment(backend="vllm", options={"block_size": 16})
    return to_dict(dataclasses.replace(base, **fields))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"digest": "e", "config": config(output_tokens=9)}, ["output_tokens 128 → 9"]),
        (
            {"digest": "e", "config": config(batch_size=2, options={"block_size": 32})},
            ["batch_size 1 → 2", "vllm.block_size 16 → 32"],
        ),
        ({"digest": "e"}, ["what its model directory or its file of prompts holds"]),
        # No part of a digest, but of a figure.
        ({"config": config(warmup=Warmup(prompts=9))}, ["warmup.prompts 5 → 9"]),
        ({"config": config(worker="reuse")}, ["worker fresh → reuse"]),
        ({"config": config(idle="none")}, ["idle 30.0 → none"]),
        ({"runner": "docker:img"}, ["runner local → docker:img"]),
        ({"versions": {"torch": "2.7"}}, ["torch none → 2.7"]),
        ({"versions": {"vllm": "0.9"}}, []),
        # What changes no figure, and a directory that was moved.
        ({"config": config(id="b", timeout_s=1.0, marks=("slow",), xfail="x")}, []),
        ({"config": config(model="/elsewhere/m")}, []),
    ],
)
def test_what_differs_is_named_then_and_now(
    tmp_path: Path, fields: dict[str, Any], expected: list[str]
) -> None:
    assert differs(tmp_path, **fields) == expected


def test_another_host_differs(tmp_path: Path) -> None:
    earlier = Earlier(session(tmp_path, MADE))
    one = earlier.find(WANTED, lambda made: [f"CPUs: {made.cycle} → 2"])
    assert one is not None
    assert one.differs == ("CPUs: 1 → 2",)


def test_of_several_the_newest_that_is_the_same_counts(tmp_path: Path) -> None:
    def made(second: int, **fields: Any) -> Outcome:
        return outcome(config=CONFIG, finished=f"2026-01-02T03:04:{second:02}+00:00", **fields)

    docker = {"runner": RunnerSpec(mode="docker", image="img")}
    first = session(tmp_path / "1", made(1), made(2, raw="second"), made(2, raw="third"))
    second = session(tmp_path / "2", made(3, **docker), outcome(cycle=2, config=CONFIG))
    (second / POINTER).write_text(pointer(first, tmp_path))
    earlier = Earlier(second)
    one = earlier.find(WANTED, lambda _: ())
    assert one == Found(made(2, raw="third"), first)
    one = earlier.find(dataclasses.replace(WANTED, runner="slurm"), lambda _: ())
    assert one is not None
    assert one.differs == ("runner docker:img → slurm",)
    assert earlier.has_any({"s", "t"})
    assert not earlier.has_any({"t"})


def test_a_study_that_was_moved_is_the_same_a_copy_of_it_is_not(tmp_path: Path) -> None:
    earlier = Earlier(session(tmp_path, MADE))
    elsewhere = dataclasses.replace(WANTED, file="moved/s.study.yaml")
    assert earlier.find(elsewhere, lambda _: (), lambda _: False) is not None
    assert earlier.find(elsewhere, lambda _: (), lambda file: file == "s.study.yaml") is None
    assert earlier.find(WANTED, lambda _: (), lambda _: True) is not None


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    folder = session(tmp_path / "one", MADE)
    (folder / "journal.gw0.jsonl").write_text("half a li")
    earlier = Earlier(folder)
    assert len(earlier.problems) == 1
    assert earlier.problems[0].startswith(f"{folder / 'journal.gw0.jsonl'}:1: left out, ")


def test_what_changed_is_told_once_for_all_that_share_it() -> None:
    changed = [("s.yaml", name, ["x 1 → 2", "y 3 → 4"]) for name in "abcde"]
    changed.append(("s.yaml", "f", ["x 1 → 2"]))
    assert list(explained(changed, "one")) == [
        "s.yaml: changed since one, so measured anew: a, b, c and 2 more: x 1 → 2; y 3 → 4",
        "s.yaml: changed since one, so measured anew: f: x 1 → 2",
    ]


# --- taking over ---------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "now", "main")
    yield journal
    journal.close()


def earlier(tmp_path: Path, raw: str | None = "raw/s.study.yaml.a.c1.jsonl") -> Found:
    made = dataclasses.replace(MADE, raw=raw)
    folder = session(tmp_path / "then", made)
    if raw:
        (folder / raw).write_text("series")
    (folder / "logs" / "s.study.yaml.a.c1.log").write_text("log")
    return Found(made, folder)


def test_what_is_taken_over_is_this_sessions_with_its_files(
    tmp_path: Path, journal: Journal
) -> None:
    one = earlier(tmp_path)
    here = dataclasses.replace(one.outcome, file="here/s.study.yaml")
    taken = adopt(journal, one, here, "c1")
    assert taken.resumed == "then"
    assert taken.raw == "raw/here%2Fs.study.yaml.a.c1.jsonl"
    assert (journal.folder / taken.raw).read_text() == "series"
    assert journal.log_path("here/s.study.yaml", "a", "c1").read_text() == "log"
    assert read(journal.folder) == ([taken], [])
    # Again, as a gate does that is run again: nothing is in the way.
    assert adopt(journal, one, here, "c1") == taken


def test_who_measured_it_first_stays_known(tmp_path: Path, journal: Journal) -> None:
    one = earlier(tmp_path)
    older = dataclasses.replace(one.outcome, resumed="long ago")
    assert adopt(journal, Found(older, one.folder), older, "c1").resumed == "long ago"


@pytest.mark.parametrize("raw", [None, "raw/deleted.jsonl"])
def test_a_series_that_is_not_there_is_not_named(
    tmp_path: Path, journal: Journal, raw: str | None
) -> None:
    one = earlier(tmp_path, raw)
    if raw:
        (one.folder / raw).unlink()
    assert adopt(journal, one, one.outcome, "c1").raw is None


def test_a_place_that_takes_no_file_is_told(tmp_path: Path, journal: Journal) -> None:
    one = earlier(tmp_path)
    for name in ("raw", "logs"):
        (journal.folder / name).rmdir()
    with pytest.raises(ResultsError, match=r"a\.c1\.jsonl can't be written: No such file"):
        adopt(journal, one, one.outcome, "c1")


def test_a_flaw_is_taken_over_as_it_is(tmp_path: Path) -> None:
    flawed = outcome(config=CONFIG, measurement=measurement(integrity=("cache hits",)))
    one = found(tmp_path, flawed)
    assert one is not None
    assert one.outcome == flawed
