"""What is wrong with a study, collected."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.errors import StudyError
from pytest_llem.study.problems import Problems
from pytest_llem.study.sweep import Spot
from pytest_llem.study.yaml_lines import Document

STUDY = Document(Path("x"), "x", {}, {("a",): 2, ("b",): 10, ("b", "c"): 11}, {})
BASE = Document(Path("a"), "a", {}, {("a",): 1}, {})


def test_a_problem_names_its_place_by_its_own_keys() -> None:
    problems = Problems()
    problems.add(Spot(STUDY, ("b", "c")), "wrong")
    assert problems.lines() == ["x:11: b.c: wrong"]


def test_a_problem_may_call_its_place_something_else_or_nothing() -> None:
    problems = Problems()
    problems.add(Spot(STUDY, ("b",)), "wrong", ("seed",))
    problems.add(Spot(STUDY, ("b",)), "worse", ())
    assert problems.lines() == ["x:10: seed: wrong", "x:10: worse"]


def test_equal_problems_of_one_place_are_told_once() -> None:
    problems = Problems()
    for _ in range(3):
        problems.add(Spot(STUDY, ("a",)), "wrong")
    assert (len(problems), problems.lines()) == (1, ["x:2: a: wrong"])


def test_lines_are_in_the_order_of_the_file_and_the_study_comes_before_its_base() -> None:
    problems = Problems()
    problems.add(Spot(STUDY, ("b",)), "later")
    problems.add(Spot(BASE, ("a",)), "wrong")
    problems.add(Spot(STUDY, ("a",)), "wrong")
    assert problems.lines("x") == ["x:2: a: wrong", "x:10: b: later", "a:1: a: wrong"]


def test_problems_may_be_taken_over() -> None:
    problems, others = Problems(), Problems()
    problems.add(Spot(STUDY, ("a",)), "wrong")
    others.add(Spot(STUDY, ("a",)), "wrong")
    others.add(Spot(STUDY, ("b",)), "wrong")
    problems.merge(others)
    assert (len(problems), len(others)) == (2, 2)


def test_where_nothing_is_wrong_it_goes_on() -> None:
    problems = Problems()
    problems.check("x")
    assert not problems


def test_where_something_is_wrong_all_of_it_is_raised() -> None:
    problems = Problems()
    problems.add(Spot(STUDY, ("b",)), "wrong")
    problems.add(Spot(STUDY, ("a",)), "wrong")
    with pytest.raises(StudyError) as caught:
        problems.check("x")
    assert caught.value.problems == ("x:2: a: wrong", "x:10: b: wrong")
