"""How a figure is marked whose quality isn't ``ok``, in every report for people."""

from __future__ import annotations

__all__ = ["MARKS"]

MARKS = {
    "estimated": ("est.", "estimated, not measured"),
    "shared": ("shared", "the energy of several measurements at once"),
    "short": ("short", "the measured window is short for the meter"),
    "degraded": ("degr.", "a degraded reading"),
}
"""Quality to the word that stands behind a figure of that quality, and what it means."""
