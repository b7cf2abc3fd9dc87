"""When a process that should act all the time didn't, told by itself through a file.

Others may keep it from the processor, for milliseconds or, on a borrowed machine, for seconds. What
it simulates stands still then, as no hardware does, and who measures it can't be blamed.
Times are seconds of ``time.monotonic()``.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

__all__ = ["NOTED_S", "Journal", "longest_gap_s"]

NOTED_S = 0.005
"""Shorter gaps aren't written down."""

_TIME = struct.Struct("d")
_GAP = struct.Struct("dd")


class Journal:
    """Written by the process: when it last acted, and before that each gap."""

    def __init__(self, path: Path, now_s: float) -> None:
        """Make the file; the process acts from now on."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
        self._end = _TIME.size
        self._last_s = now_s
        os.pwrite(self._file, _TIME.pack(now_s), 0)

    def act(self, now_s: float) -> None:
        """Note that the process is about to act."""
        if now_s - self._last_s > NOTED_S:
            # Before the time: who finds the new time finds the gap too.
            os.pwrite(self._file, _GAP.pack(self._last_s, now_s), self._end)
            self._end += _GAP.size
        os.pwrite(self._file, _TIME.pack(now_s), 0)
        self._last_s = now_s


def longest_gap_s(path: Path, start_s: float, end_s: float) -> float:
    """The whole length of the longest gap that was there between two times; 0 without any.

    Args:
        path: of the journal.
        start_s: the first time.
        end_s: the other, not later than now.
    """
    data = path.read_bytes()
    (last_s,) = _TIME.unpack_from(data)
    whole = len(data) - (len(data) - _TIME.size) % _GAP.size
    # It may stand still at this moment, and not know yet.
    gaps = [(last_s, end_s), *_GAP.iter_unpack(data[_TIME.size : whole])]
    there = [
        until_s - since_s for since_s, until_s in gaps if since_s < end_s and until_s > start_s
    ]
    return max([gap_s for gap_s in there if gap_s > NOTED_S], default=0.0)
