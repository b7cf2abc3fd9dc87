"""Others on the GPUs are waited for before the engine is loaded, and then warned of."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_llem.meters.gpu_state import GpuProcess, GpuState, States
from pytest_llem.worker.occupancy import LONGEST_S, Wait, hidden_pids, own_pids, wait_for_others

GIB = 2**30
OWN = frozenset({1, 2})


def state(used: int | None = 0, *pids: int, gpu: int = 0) -> GpuState:
    """A GPU on which each of some processes holds 1 GiB."""
    return GpuState(
        gpu=gpu,
        uuid=f"GPU-{gpu}",
        name="x",
        at_s=0.0,
        memory_used_bytes=used,
        processes=tuple(GpuProcess(pid=pid, memory_bytes=GIB) for pid in pids),
    )


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def time(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


def waited(look: Callable[[float], States] | States, hidden: str = "") -> tuple[Wait, list[float]]:
    clock, told = Clock(), list[float]()
    found = wait_for_others(
        lambda: look if isinstance(look, States) else look(clock.now_s - 100.0),
        lambda: OWN,
        hidden,
        told.append,
        clock.time,
        clock.sleep,
    )
    return found, told


@pytest.mark.parametrize(
    "states",
    [
        States(gpus=(state(),)),
        States(gpus=(state(GIB),)),
        States(gpus=(state(None),)),
        States(gpus=(state(3 * GIB, 1, 2),)),
        States(reason="NVML is gone"),
    ],
)
def test_free_gpus_are_not_waited_for(states: States) -> None:
    found, told = waited(states)
    assert (found, told) == (Wait(), [])


def test_a_process_that_goes_away_is_waited_for_and_not_warned_of() -> None:
    found, told = waited(lambda s: States(gpus=(state(2 * GIB, *([77] if s < 5 else [1])),)))
    assert found == Wait(waited_s=5.0)
    assert told == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_one_that_stays_is_a_warning_after_a_minute() -> None:
    found, told = waited(States(gpus=(state(), state(3 * GIB, 77, 1, 78, gpu=1))))
    assert found.waited_s == LONGEST_S == 60.0
    assert len(told) == 60
    (text,) = found.warnings
    assert text.startswith("GPU 1 is shared with other processes: pid 77 (")
    assert ", 1.0 GiB), pid 78 (" in text
    assert text.endswith("kill 77 78 (waited 60 s for them)")
    assert found.named == {77, 78}


def test_memory_that_nobody_holds_is_a_warning() -> None:
    found, _ = waited(States(gpus=(state(5 * GIB, 1),)))
    (text,) = found.warnings
    assert "GPU 0: 4.0 GiB of its memory were in use before the engine was loaded" in text
    assert "(waited 60 s); no process is seen to hold it" in text
    assert text.endswith("sudo fuser -v /dev/nvidia0")


def test_where_pids_mean_nothing_only_memory_counts() -> None:
    found, told = waited(States(gpus=(state(GIB // 2, 77),)), hidden="this is a container")
    assert (found, told) == (Wait(), [])
    found, _ = waited(States(gpus=(state(2 * GIB, 1, 2),)), hidden="this is a container")
    (text,) = found.warnings
    assert "2.0 GiB of its memory" in text
    assert "by whom is unchecked: this is a container" in text
    assert found.named == frozenset()


def test_a_gpu_that_can_not_be_asked_any_more_is_not_waited_for() -> None:
    found, told = waited(lambda s: States(reason="lost") if s >= 2 else States(gpus=(state(0, 7),)))
    assert found == Wait(waited_s=2.0)
    assert len(told) == 2


# --- whose a process is --------------------------------------------------------------------


def test_ours_are_this_process_those_above_and_its_children() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    found = own_pids()
    child.communicate(b"\n")
    assert {os.getpid(), os.getppid(), child.pid} <= found


def test_a_tree_without_proc_is_this_process_alone(tmp_path: Path) -> None:
    assert os.getpid() in own_pids(tmp_path)


@pytest.mark.parametrize(
    ("namespace", "words"),
    [
        ("pid:[4026531836]", ""),
        ("pid:[4026532201]", "this is a container with pids of its own"),
        (None, "the own pid namespace can't be read: No such file or directory"),
    ],
)
def test_pids_mean_something_in_the_hosts_namespace_only(
    namespace: str | None, words: str, tmp_path: Path
) -> None:
    if namespace:
        (tmp_path / "self/ns").mkdir(parents=True)
        (tmp_path / "self/ns/pid").symlink_to(namespace)
    found = hidden_pids(tmp_path)
    assert found.startswith(words)
    assert bool(found) == bool(words)
