"""Processor time that a virtual machine wanted and its hypervisor gave to others: steal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pytest_llem.records import Figure
from pytest_llem.worker.quantity import null

__all__ = ["Steal"]

_STAT = "/proc/stat"
_SHORT = "the window is too short for what the system counts in ticks of 10 ms"
_UNTOLD = "this system doesn't tell what its hypervisor takes"


@dataclass(frozen=True, slots=True)
class _Look:
    """Ticks of all processors since the system began.

    Attributes:
        stolen: wanted here, and given to others.
        all: of every kind.
    """

    stolen: int
    all: int


class Steal:
    """Looks before and after a block; :attr:`share` is of what lies between.

    Of Linux's own counters: fields of the line ``cpu`` of ``/proc/stat``, of which the eighth is
    steal; the two behind it, of guests, are in the first two already (``man 5 proc_stat``).
    """

    def __init__(self, path: str = _STAT) -> None:
        """``path`` is where Linux shows them."""
        self._path = path
        self._before: _Look | None = None
        self._after: _Look | None = None

    def __enter__(self) -> Steal:
        """Look for the first time."""
        self._before = self._look()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Look again."""
        self._after = self._look()

    @property
    def share(self) -> Figure:
        """Share of all processors' time, 0 to 1; 0 on a machine of one's own."""
        before, after = self._before, self._after
        if before is None or after is None:
            return null(_UNTOLD).figure
        if after.all <= before.all:
            return null(_SHORT).figure
        # Counters of single processors may lag, and so the sum go back by a tick.
        return Figure(value=max(0, after.stolen - before.stolen) / (after.all - before.all))

    def _look(self) -> _Look | None:
        try:
            with Path(self._path).open(encoding="ascii") as file:
                name, *fields = file.readline().split()
            ticks = [int(field) for field in fields[:8]]
        except (OSError, ValueError):
            return None
        if name != "cpu" or len(ticks) < 8:
            return None
        return _Look(ticks[7], sum(ticks))
