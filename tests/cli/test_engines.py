"""Which rows about engines are problems."""

from __future__ import annotations

from pytest_llem.cli.check import Check
from pytest_llem.cli.engines import lenient

ABSENT = Check("backend vllm", "problem", "not installed: vllm", "pip install it")
HERE = Check("backend pytorch", "ok", "torch 2.13.0")


def test_an_engine_of_ours_that_is_not_here_is_a_note_beside_one_that_is() -> None:
    here, absent = lenient([HERE, ABSENT])
    assert here == HERE
    assert (absent.status, absent.fix) == ("note", ABSENT.fix)


def test_with_no_engine_at_all_each_is_a_problem() -> None:
    none = Check("backend pytorch", "problem", "not installed: torch", "pip install it")
    assert lenient([none, ABSENT]) == [none, ABSENT]


def test_what_a_third_party_lacks_and_what_is_broken_stay_problems() -> None:
    broken = Check("backend vllm", "problem", "its worker didn't answer", "look")
    theirs = Check("backend elsewhere", "problem", "not installed: engine", "pip install engine")
    assert lenient([HERE, broken, theirs]) == [HERE, broken, theirs]
