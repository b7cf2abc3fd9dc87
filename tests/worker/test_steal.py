"""Processor time that went to other virtual machines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_llem.worker.steal import Steal


def between(path: Path, before: str, after: str) -> Steal:
    path.write_text(before)
    with Steal(str(path)) as steal:
        path.write_text(after)
    return steal


@pytest.mark.parametrize(
    ("after", "share"),
    [
        ("cpu  150 0 0 40 0 0 0 20 0 0", 0.1),
        # What guests had is in the first two already.
        ("cpu  150 0 0 40 0 0 0 20 90 90", 0.1),
        ("cpu  200 0 0 0 0 0 0 10 0 0", 0.0),
        ("cpu  190 0 0 0 0 0 0 9 0 0", 0.0),
    ],
)
def test_a_share_of_all_time(tmp_path: Path, after: str, share: float) -> None:
    found = between(tmp_path / "stat", "cpu  90 0 0 10 0 0 0 10 0 0\ncpu0 1\n", after).share
    assert found.value == pytest.approx(share, abs=1e-3)
    assert found.quality == "ok"


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("cpu  9 0 0 1 0 0 0 1 0 0", "cpu  9 0 0 1 0 0 0 1 0 0", "the window is too short"),
        ("cpu  9 0 0 1", "cpu  9 0 0 5", "this system doesn't tell"),
        ("intr 1 2 3 4 5 6 7 8 9", "intr 1 2 3 4 5 6 7 8 9", "this system doesn't tell"),
        ("cpu  a 0 0 1 0 0 0 1", "", "this system doesn't tell"),
    ],
)
def test_what_is_not_told_is_null_with_a_reason(
    tmp_path: Path, before: str, after: str, reason: str
) -> None:
    found = between(tmp_path / "stat", before, after).share
    assert (found.value, found.quality) == (None, "unmeasured")
    assert found.reason is not None
    assert found.reason.startswith(reason)


def test_where_linux_does_not_show_it(tmp_path: Path) -> None:
    with Steal(str(tmp_path / "absent")) as steal:
        pass
    assert steal.share.value is None


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_this_hosts_own_counters_are_understood() -> None:
    with Steal() as steal:
        sum(range(3_000_000))
    assert steal.share.value is not None
    assert 0 <= steal.share.value <= 1
