"""What failed, as workflow commands of GitHub's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.reports.annotations import Annotation, command, of_failure, of_problems
from tests.builders import UNHURRIED

FAILURE = """\
benchmarks/s.study.yaml:12: gate of a failed
E   requests_per_s: 257/s < 300/s, -14.3 % (median of 3)
E   energy_j: 2.00 J > 1.00 J, +100.0 % (median of 3)
"""


def failure(text: str) -> Annotation:
    return of_failure(text, file="t.study.yaml", line=3, title="[llem] a c1")


def test_a_failure_stands_where_its_text_says() -> None:
    assert failure(FAILURE) == Annotation(
        file="benchmarks/s.study.yaml",
        line=12,
        title="gate of a failed",
        message="requests_per_s: 257/s < 300/s, -14.3 % (median of 3)\n"
        "energy_j: 2.00 J > 1.00 J, +100.0 % (median of 3)",
    )


@pytest.mark.parametrize(
    "text", ["Docker pre-flight failed: 1 issue(s) found\n  1. none", "7: x", "a.yaml:7: all", ""]
)
def test_a_failure_without_a_place_stands_where_its_test_does(text: str) -> None:
    assert failure(text) == Annotation(
        file="t.study.yaml", line=3, title="[llem] a c1", message=text
    )


def test_every_problem_of_a_study_stands_at_its_own_line() -> None:
    found = list(
        of_problems("s.yaml:2: bach_size: unknown field\nfix them\nC:\\s.yaml:3: seed: no")
    )
    assert [(each.file, each.line, each.message) for each in found] == [
        ("s.yaml", 2, "bach_size: unknown field"),
        ("C:\\s.yaml", 3, "seed: no"),
    ]


def test_a_command_is_escaped_as_github_wants_it() -> None:
    annotation = Annotation(file="a,b:c%.yaml", line=7, title="50 %: a, b", message="5 %, a:\r\nb")
    assert command(annotation) == (
        "::error file=a%2Cb%3Ac%25.yaml,line=7,title=50 %25%3A a%2C b::5 %25, a:%0D%0Ab"
    )


@UNHURRIED
@given(st.text(), st.text(), st.text())
def test_no_text_ends_a_command_or_a_property(file: str, title: str, message: str) -> None:
    # As the runner takes it apart: at the first "::" behind the name, then at commas, then back.
    line = command(Annotation(file=file, line=1, title=title, message=message))
    assert "\n" not in line
    assert "\r" not in line
    properties, _, data = line.removeprefix("::error ").partition("::")
    pairs = dict(pair.split("=", 1) for pair in properties.split(","))
    assert (back(pairs["file"]), back(pairs["title"]), back(data)) == (file, title, message)


def back(text: str) -> str:
    """Unescaped in the order of GitHub's runner: the percent sign last."""
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ",")):
        text = text.replace(code, character)
    return text.replace("%25", "%")
