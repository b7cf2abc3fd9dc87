"""Options and settings that have a form of their own."""

from __future__ import annotations

import math

import pytest

from pytest_llem.plugin.options import longest_wait_s


@pytest.mark.parametrize(
    ("ini", "arguments", "expected"),
    [
        (None, (), 3600.0),
        ("20", (), 20.0),
        ("20", ("--llem-wait=0",), 0.0),
        ("20", ("--llem-wait=none",), math.inf),
        ("none", (), math.inf),
    ],
)
def test_the_longest_wait_for_devices(
    pytester: pytest.Pytester, ini: str | None, arguments: tuple[str, ...], expected: float
) -> None:
    if ini is not None:
        pytester.makeini(f"[pytest]\nllem_wait = {ini}\n")
    assert longest_wait_s(pytester.parseconfig(*arguments)) == expected


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_what_is_no_time_to_wait_is_said_before_anything_runs(
    pytester: pytest.Pytester, text: str
) -> None:
    with pytest.raises(pytest.UsageError, match=f"'{text}' is not none or a number of seconds"):
        pytester.parseconfig(f"--llem-wait={text}")
    pytester.makeini(f"[pytest]\nllem_wait = {text}\n")
    with pytest.raises(pytest.UsageError, match=f"ini llem_wait: '{text}' is not none or a number"):
        pytester.parseconfigure("-p", "no:asyncio")
