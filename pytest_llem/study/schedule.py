"""In which order the measurements of a study are made."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["interleaved"]


def interleaved(experiments: Sequence[str], cycles: int) -> list[tuple[str, int]]:
    """Every experiment once, then every one again: A1 B1 A2 B2.

    What drifts over a session (temperature, clocks) then falls on all experiments alike.
    """
    return [(name, cycle) for cycle in range(1, cycles + 1) for name in experiments]
