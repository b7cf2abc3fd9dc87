"""The power of this moment, for a line that a person watches: a number in memory that is shared.

Whoever reads it asks no device and no other process, so it may be read while a window is measured.
"""

from __future__ import annotations

import math
import os
import struct
from typing import TypeGuard

__all__ = ["Glance", "write"]

_POWER = struct.Struct("d")


def write(handle: int, power_w: float | None) -> None:
    """Say the power, in watts; NaN stands for none."""
    os.pwrite(handle, _POWER.pack(math.nan if power_w is None else power_w), 0)


class Glance:
    """A file in memory that a child writes its power to.

    An engine may close what isn't its own, and open something else under the same number: that is
    neither read nor closed.

    Attributes:
        handle: of the file, to hand to the child; None where the system has none.
    """

    def __init__(self) -> None:
        """Make the file."""
        self.handle: int | None = None
        if hasattr(os, "memfd_create"):
            try:
                self.handle = os.memfd_create("llem-power")
                self._inode = os.fstat(self.handle).st_ino
            except OSError:
                self.handle = None

    @property
    def power_w(self) -> float | None:
        """What was said last, in watts; None where nothing was."""
        data = os.pread(self.handle, _POWER.size, 0) if self._ours(self.handle) else b""
        if len(data) < _POWER.size:
            return None
        (power_w,) = _POWER.unpack(data)
        return None if math.isnan(power_w) else float(power_w)

    def close(self) -> None:
        """Let go of the file."""
        handle, self.handle = self.handle, None
        if self._ours(handle):
            os.close(handle)

    def _ours(self, handle: int | None) -> TypeGuard[int]:
        try:
            return handle is not None and os.fstat(handle).st_ino == self._inode
        except OSError:
            return False
