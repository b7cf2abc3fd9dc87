"""Why a container ended: rows 33 to 38 of the facts, each told from what is alike."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llem.runners.docker.endings import why_ended


@pytest.mark.parametrize(
    ("status", "oom_killed", "more", "cause"),
    [
        (137, True, {}, "out of memory"),
        (-9, True, {}, "out of memory"),
        (137, False, {"oom_kills": 1}, "out of memory"),  # of an exec, on Docker before 28
        (9, True, {}, "child out of memory"),
        (0, True, {}, "child out of memory"),
        (137, False, {}, "killed"),
        (135, False, {}, "shared memory"),
        (-7, False, {}, "shared memory"),
        (75, False, {}, "lifeline lost"),
        (1, False, {"log": "OSError: [Errno 28] No space left on device"}, "disk full"),
    ],
)
def test_an_end_has_a_cause_and_a_fix(
    status: int, oom_killed: bool, more: dict[str, Any], cause: str
) -> None:
    ending = why_ended(status, oom_killed, **more)
    assert ending is not None
    assert ending.cause == cause
    assert ending.message
    assert ending.fix


@pytest.mark.parametrize("status", [0, 1, 139])
def test_a_status_that_says_all_has_no_other_reason(status: int) -> None:
    assert why_ended(status, oom_killed=False) is None


@pytest.mark.parametrize("oom_killed", [True, False])
def test_what_we_kill_ourselves_needs_no_reason(oom_killed: bool) -> None:
    assert why_ended(137, oom_killed, killed_by_us=True) is None


def test_cuda_s_memory_is_not_the_container_s() -> None:
    assert why_ended(1, oom_killed=False, log="torch.OutOfMemoryError: CUDA out of memory") is None


def test_the_size_of_shared_memory_is_named() -> None:
    ending = why_ended(135, oom_killed=False, shm_size="64m")
    assert ending is not None
    assert "/dev/shm (64m)" in ending.message
