"""What is found out once for a session, and what becomes of a failure."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llem.plugin.naming import SESSION_NAME
from pytest_llem.plugin.once import once


@pytest.fixture
def config(pytester: pytest.Pytester) -> Any:
    found: Any = pytester.parseconfig()
    found.stash[SESSION_NAME] = "session"
    return found


def test_processes_of_xdist_find_out_once(config: Any) -> None:
    config.workerinput = {"workerid": "gw0"}
    calls: list[str] = []

    def find() -> dict[str, int]:
        calls.append("x")
        return {"found": len(calls)}

    found = [once(config, "a/b", find) for _ in range(3)]
    assert found == [{"found": 1}] * 3
    assert once(config, "another", find) == {"found": 2}


def test_who_comes_after_a_failure_tries_again(config: Any) -> None:
    config.workerinput = {"workerid": "gw0"}

    def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        once(config, "a", fail)
    assert once(config, "a", lambda: 1) == 1


def test_a_process_of_its_own_asks_each_time_and_writes_nothing(config: Any) -> None:
    numbers = iter(range(2))
    assert [once(config, "a", lambda: next(numbers)) for _ in range(2)] == [0, 1]
    assert not list(config.rootpath.glob("results*"))
