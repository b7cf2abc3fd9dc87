"""The points of a study's grid that can't be measured, as a person reads of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["left_out"]

_NAMED = 3


def left_out(points: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The invalid points of the studies' grids, and why they are.

    Args:
        points: mappings of ``file``, ``experiment`` and ``reasons``.
    """
    for file in dict.fromkeys(point["file"] for point in points):
        own = [point for point in points if point["file"] == file]
        count = "1 point" if len(own) == 1 else f"{len(own)} points"
        yield f"{file}: {count} of the grid left out, as invalid:"
        # One wrong value spoils a whole row of the grid: said once, with the points it spoils.
        spoilt: dict[str, list[str]] = {}
        for point in own:
            for reason in point["reasons"]:
                spoilt.setdefault(reason, []).append(point["experiment"])
        for reason, names in spoilt.items():
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield f"  {reason}  ({', '.join(names[:_NAMED])}{more})"
