"""The line of a value in JSON text."""

from __future__ import annotations

import json

import pytest

from pytest_llem.reports.places import line_of

DATA = {
    "empty": [],
    "text": 'a "quoted" text, [with] {signs}\n',
    "list": [{"a": 1, "b": {"c": [0, 1, 2]}}, {"a": None}],
    "last": {},
}


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("", 1),
        ("empty", 2),
        ("empty[0]", 2),
        ("text", 3),
        ("list[0]", 5),
        ("list[0].a", 6),
        ("list[0].b.c[2]", 11),
        ("list[1].a", 16),
        ("list[1].missing", 15),
        ("list[7]", 4),
        ("text.none", 3),
        ("last", 19),
    ],
)
def test_the_line_is_that_of_the_value_or_of_what_should_hold_it(where: str, line: int) -> None:
    assert line_of(json.dumps(DATA, indent=1), where) == line


def test_text_of_one_line_is_line_one() -> None:
    assert line_of("  " + json.dumps(DATA), "list[1].a") == 1
