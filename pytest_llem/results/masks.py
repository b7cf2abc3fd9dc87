"""What must not be written into results: texts under names that secrets have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["MASK", "masked"]

MASK = "(not shown)"

_SECRET = re.compile(
    r"(^|_)(api_?key|key|token|secret|password|passwd|credentials?)(_|$)", re.IGNORECASE
)


def masked(data: Any) -> Any:
    """Plain data without the texts under names like ``HF_TOKEN`` or ``api_key``, at any depth.

    A study's ``env`` and an engine's options are shown with its results; somebody may have put a
    password there all the same.
    """
    if isinstance(data, Mapping):
        return {name: _value(str(name), value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [masked(value) for value in data]
    return data


def _value(name: str, value: Any) -> Any:
    return MASK if isinstance(value, str) and _SECRET.search(name) else masked(value)
