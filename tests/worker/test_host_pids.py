"""Pids of ours in a container, as whoever started the worker tells them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pytest_llem.worker.host_meter import Host
from pytest_llem.worker.host_pids import HostPids


def asked(*answers: tuple[list[int], str]) -> tuple[HostPids, list[str]]:
    frames: list[str] = []

    def lines() -> Iterator[str]:
        for pids, reason in answers:
            yield json.dumps({"frame": "pids", "pids": pids, "reason": reason})

    def emit(frame: str, **fields: Any) -> None:
        assert fields == {}
        frames.append(frame)

    return HostPids(Host(emit, lines())), frames


def test_processes_that_come_later_are_ours_too() -> None:
    pids, frames = asked(([7], ""), ([7, 9], ""), ([9], ""))
    assert pids.reason == ""
    assert pids() == {7, 9}
    assert pids() == {7, 9}
    assert frames == ["pids_request"] * 3


def test_an_answer_that_fails_takes_nothing_away() -> None:
    pids, _ = asked(([7], ""), ([], "the daemon is gone"))
    assert pids() == {7}
    assert pids.reason == ""


def test_why_they_can_not_be_told() -> None:
    pids, _ = asked(([], "the container isn't on this host"))
    assert pids.reason == "the container isn't on this host"
