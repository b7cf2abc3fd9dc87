"""Whether a loaded engine sits on the GPUs that are its own, and on no other."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pytest_llem.errors import LlemError
from pytest_llem.gpus import Gpu, look
from pytest_llem.meters.gpu_state import gpu_states
from pytest_llem.nvml import Nvml
from pytest_llem.worker.lifeline import descendants

__all__ = ["check_seat", "engine_pids"]


def engine_pids() -> frozenset[int]:
    """This process, and all below whoever started it: nobody above, who may use GPUs too."""
    return frozenset({os.getpid(), *descendants(os.getppid())})


def check_seat(
    gpus: Sequence[Gpu], own: frozenset[int], hidden: str, nvml: Nvml | None = None
) -> str:
    """Look on which GPUs the engine's processes are.

    Args:
        gpus: its own.
        own: pids of its processes.
        hidden: why pids mean nothing here; empty where they do.
        nvml: ``pynvml``, or a test's own.

    Returns:
        Why that could not be checked; empty where it was, and all is well.

    Raises:
        LlemError: when it computes on a GPU that isn't its own, where it may disturb others.
    """
    if hidden:
        return hidden
    boards = {gpu.board for gpu in gpus}
    others = [gpu for gpu in look(nvml, {}).gpus if gpu.board not in boards]
    states = gpu_states([*gpus, *others], nvml)
    if states.reason:
        return states.reason
    seen = set()
    for state in states.gpus:
        for process in state.processes or ():
            if process.pid in own and state.uuid in {gpu.uuid for gpu in others}:
                numbers = ", ".join(str(gpu.index) for gpu in gpus)
                raise LlemError(
                    f"the engine computes on GPU {state.gpu} (process {process.pid}), and GPU"
                    f" {numbers} was leased for it: something sets CUDA_VISIBLE_DEVICES anew, or"
                    " names a device of its own; see the engine's options and the study's env"
                )
            if process.pid in own:
                seen.add(state.uuid)
    if missing := [gpu.index for gpu in gpus if gpu.uuid not in seen]:
        numbers = ", ".join(map(str, missing))
        return f"no process of the engine is told of GPU {numbers}"
    return ""
