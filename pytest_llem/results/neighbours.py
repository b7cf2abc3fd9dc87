"""Figures of what a host's measurements have in common, where there was more than one. Pure.

The counters of processors and memory are the host's. Where others measured meanwhile, what they
read is the energy of all of them: it is kept, and said to be shared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from pytest_llem.metrics import METRICS
from pytest_llem.records import Figure, Measurement, Quality, Reading

__all__ = ["NOTICE", "beside_others"]

NOTICE = (
    "Measurements ran side by side on this host: the energy of its processors and its memory is"
    " that of all of them, marked as shared and not judged."
)

_OF_THE_HOST = ("cpu:", "dram:")
_METRICS = frozenset({"cpu_energy_j", "dram_energy_j"})
_DOUBTED: frozenset[Quality] = frozenset({"unmeasured", "estimated"})
"""What isn't known can't be shared; an estimate is of the worker's own processes."""


def beside_others(measurement: Measurement, others: str) -> Measurement:
    """A measurement, its figures of the host marked as shared with others.

    Args:
        measurement: that was made.
        others: who measured on the same host meanwhile; empty for nobody.
    """
    read = [r for window in measurement.windows for r in window.readings if _is_of_host(r)]
    if not others or not read:
        return measurement
    reason = f"of all that was measured on the host at that time, also by {others}"
    own = measurement.testbed.get("device") == "cpu"
    names = {n for n, m in METRICS.items() if n in _METRICS or (own and m.uses_energy)}
    return dataclasses.replace(
        measurement,
        windows=tuple(
            dataclasses.replace(window, readings=tuple(_readings(window.readings, reason)))
            for window in measurement.windows
        ),
        metrics={
            name: _figure(figure, reason) if name in names else figure
            for name, figure in measurement.metrics.items()
        },
    )


def _is_of_host(reading: Reading) -> bool:
    return reading.domain.startswith(_OF_THE_HOST) and reading.quality not in _DOUBTED


def _readings(readings: Iterable[Reading], reason: str) -> Iterable[Reading]:
    for reading in readings:
        if _is_of_host(reading):
            yield dataclasses.replace(reading, quality="shared", reason=reason)
        else:
            yield reading


def _figure(figure: Figure, reason: str) -> Figure:
    if figure.value is None or figure.quality in _DOUBTED:
        return figure
    return dataclasses.replace(figure, quality="shared", reason=reason)
