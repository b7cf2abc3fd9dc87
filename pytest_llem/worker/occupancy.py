"""Who else is on the experiment's GPUs before the engine is loaded: waited for, then warned of."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llem.meters.gpu_state import GpuState, States
from pytest_llem.worker.condition_warnings import RESIDUAL_BYTES, foreign, shared
from pytest_llem.worker.lifeline import descendants

__all__ = ["LONGEST_S", "Wait", "hidden_pids", "own_pids", "wait_for_others"]

LONGEST_S = 60.0
_POLL_S = 1.0

_INITIAL_NAMESPACE = "pid:[4026531836]"
"""The kernel's number of the pid namespace that it starts with; the driver tells pids of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What came of waiting for others.

    Attributes:
        waited_s: how long; 0 where nobody was there.
        warnings: about those who did not go.
        named: pids that a warning tells of.
    """

    waited_s: float = 0.0
    warnings: tuple[str, ...] = ()
    named: frozenset[int] = frozenset()


def own_pids(proc: Path = Path("/proc")) -> frozenset[int]:
    """This process, those above it, and all below whoever started it: the engine's among them.

    The worker's parent is its watch process, which also adopts what an engine leaves behind.
    """
    above = [os.getpid()]
    while (parent := _parent(above[-1], proc)) > 0:
        above.append(parent)
    return frozenset({*above, *descendants(os.getppid())})


def _parent(pid: int, proc: Path) -> int:
    """The parent's pid; 0 at the top, and where it can't be told."""
    try:
        fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[1])


def hidden_pids(proc: Path = Path("/proc")) -> str:
    """Why the pids that NVML tells can't be compared with ours; empty where they can."""
    if sys.platform != "linux":
        return "processes on a GPU can be told apart on Linux only"
    try:
        namespace = (proc / "self/ns/pid").readlink()
    except OSError as error:
        return f"the own pid namespace can't be read: {error.strerror}"
    if str(namespace) == _INITIAL_NAMESPACE:
        return ""
    return "this is a container with pids of its own, and NVML tells those of the host"


def wait_for_others(
    look: Callable[[], States],
    own: Callable[[], frozenset[int]],
    hidden: str,
    tell: Callable[[float], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Wait:
    """Wait until the GPUs are free, for 60 s at most.

    Args:
        look: the GPUs now.
        own: pids of ours.
        hidden: why pids mean nothing here; empty where they do.
        tell: is told, about once a second, how long it was waited; not called where all are free.
        clock: time in seconds.
        sleep: waits some seconds.
    """
    start_s = clock()
    waited_s = 0.0
    while True:
        ours = own()
        taken = [state for state in look().gpus if _is_taken(state, ours, hidden)]
        if not taken or waited_s >= LONGEST_S:
            break
        tell(waited_s)
        sleep(min(_POLL_S, LONGEST_S - waited_s))
        waited_s = clock() - start_s
    return Wait(
        waited_s=waited_s,
        warnings=tuple(_warnings(taken, ours, hidden, waited_s)),
        named=frozenset(
            process.pid for state in taken if not hidden for process in foreign(state, ours)
        ),
    )


def _is_taken(state: GpuState, own: frozenset[int], hidden: str) -> bool:
    others = () if hidden else foreign(state, own)
    return bool(others) or _residual(state, own, hidden) > RESIDUAL_BYTES


def _residual(state: GpuState, own: frozenset[int], hidden: str) -> int:
    """Memory in use that isn't known to be ours."""
    ours = sum(
        process.memory_bytes or 0
        for process in state.processes or ()
        if not hidden and process.pid in own
    )
    return (state.memory_used_bytes or 0) - ours


def _warnings(
    taken: Sequence[GpuState], own: frozenset[int], hidden: str, waited_s: float
) -> Iterator[str]:
    for state in taken:
        others = () if hidden else foreign(state, own)
        if others:
            yield f"{shared(state, others)} (waited {waited_s:.0f} s for them)"
            continue
        used = _residual(state, own, hidden) / 2**30
        whose = f"by whom is unchecked: {hidden}" if hidden else "no process is seen to hold it"
        yield (
            f"GPU {state.gpu}: {used:.1f} GiB of its memory were in use before the engine was"
            f" loaded (waited {waited_s:.0f} s); {whose}; find what holds it, on the host, and end"
            f" it: sudo fuser -v /dev/nvidia{state.gpu}"
        )
