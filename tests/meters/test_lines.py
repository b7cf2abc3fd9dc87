"""Lines of a child process, waited for."""

from __future__ import annotations

import os

import pytest

from pytest_llem.meters.lines import Lines


def test_lines_come_whole_however_they_were_written() -> None:
    out, into = os.pipe()
    lines = Lines()
    os.write(into, b"one\ntw")
    assert lines.next(out, 10) == b"one"
    with pytest.raises(TimeoutError):
        lines.next(out, 0.01)
    os.write(into, b"o\nthree\nrest")
    assert [lines.next(out, 10), lines.next(out, 10)] == [b"two", b"three"]
    os.close(into)
    with pytest.raises(EOFError):
        lines.next(out, 10)
    os.close(out)
