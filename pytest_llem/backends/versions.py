"""Versions of distributions, read from metadata: nothing is imported for it."""

from __future__ import annotations

import importlib.metadata

__all__ = ["installed"]


def installed(*distributions: str) -> dict[str, str | None]:
    """Version of each; None for one that isn't installed."""
    found: dict[str, str | None] = dict.fromkeys(distributions)
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
