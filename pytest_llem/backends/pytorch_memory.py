"""Memory: its peak, and what can be said when there isn't enough."""

from __future__ import annotations

import contextlib
import gc
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Memory", "largest_that_fits", "out_of_memory"]

_TRY_S = 60.0
"""No further batch is tried after this time."""

_SAID = ("not enough memory", "can't allocate memory", "out of memory", "invalid buffer size")
"""By the allocators of CPUs and of MPS, whose errors have no class of their own."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device or the host has no memory left."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)


def largest_that_fits(
    failed: int, attempt: Callable[[int], bool], now: Callable[[], float] = time.monotonic
) -> str:
    """Try ever smaller batches, each half of the one before, and say what came of it.

    Only what was tried is said to fit.

    Args:
        failed: size of the batch that didn't fit.
        attempt: computes a batch of a size; false where it doesn't fit either.
        now: a clock, in seconds.
    """
    begun_s, size, smallest = now(), failed // 2, failed
    while size >= 1:
        if now() - begun_s > _TRY_S:
            return f"batch_size {smallest} doesn't fit either; smaller ones were not tried"
        if attempt(size):
            return f"batch_size {size} fits, it was tried"
        smallest, size = size, size // 2
    return "not even a single request fits; take a smaller dtype, or shorter prompts and outputs"


class Memory:
    """A device's memory, as far as this process uses it."""

    def __init__(self, device: str, torch: Any) -> None:
        """Of ``cuda``, ``mps`` or ``cpu``."""
        self._device = device
        self._torch = torch

    def free(self) -> None:
        """Give back what nothing refers to any more."""
        gc.collect()
        if self._device == "cuda":
            self._torch.cuda.empty_cache()
        elif self._device == "mps":
            self._torch.mps.empty_cache()

    def reset_peak(self) -> None:
        """Start a new peak: CUDA's allocator, or the kernel's mark of resident memory."""
        if self._device == "cuda":
            for index in range(self._torch.cuda.device_count()):
                self._torch.cuda.reset_peak_memory_stats(index)
        elif self._device == "cpu":
            # Not permitted everywhere; then the peak includes loading.
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")

    def peak_bytes(self) -> int | None:
        """Bytes allocated on the GPUs, or resident in this process; MPS keeps no peak."""
        if self._device == "mps":
            return None
        if self._device == "cuda":
            count = self._torch.cuda.device_count()
            return sum(int(self._torch.cuda.max_memory_allocated(i)) for i in range(count))
        with contextlib.suppress(OSError):
            if found := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()):
                return int(found[1]) * 1024
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
