"""Cuts the bytes that a worker sends into frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

__all__ = ["MAX_FRAME_BYTES", "FrameReader"]

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""No honest frame is longer: raw series come in several."""


class FrameReader:
    """Cuts a stream of bytes into frames: JSON objects with a ``frame`` field, one a line."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The frames that are complete with these bytes.

        Raises:
            ValueError: when a line isn't a frame, holds NaN or an infinity, or is too long.
        """
        searched = len(self._rest)
        self._rest += data
        while (end := self._rest.find(b"\n", searched)) >= 0:
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            searched = 0
            yield self._frame(line)
        if len(self._rest) > MAX_FRAME_BYTES:
            raise ValueError(f"a frame is longer than {MAX_FRAME_BYTES} bytes")

    @staticmethod
    def _frame(line: bytes) -> dict[str, Any]:
        if len(line) > MAX_FRAME_BYTES:
            raise ValueError(f"a frame is longer than {MAX_FRAME_BYTES} bytes")
        frame = json.loads(line, parse_constant=_refuse, parse_float=_finite)
        if not isinstance(frame, dict) or not isinstance(frame.get("frame"), str):
            raise ValueError(f"not a frame: {line[:80]!r}")
        return frame


def _finite(text: str) -> float:
    number = float(text)
    return number if abs(number) < float("inf") else _refuse(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number that can be reported")
