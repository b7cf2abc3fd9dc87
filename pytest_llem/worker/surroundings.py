"""What surrounds a measured window; nothing at all where an experiment isn't on a GPU."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from pytest_llem.experiment import Experiment
from pytest_llem.nvml import driver_is_there
from pytest_llem.records import TraceSummary, Window
from pytest_llem.worker.host_pids import HostPids

__all__ = ["Observed", "Surroundings", "send_trace", "watched"]

_OF_GPUS = "pytest_llem.worker.conditions"
"""Imported only where there is a GPU: it costs a worker on a CPU more than all it does."""

_ROWS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is reported of the conditions of a measurement.

    Attributes:
        conditions: plain data; empty where the experiment isn't on a GPU.
        trace: summary of the power trace; None where the experiment isn't on a GPU.
        warnings: a sentence each, with numbers and a remedy.
        rows: the power trace itself, for the side file.
    """

    conditions: Mapping[str, Any] = field(default_factory=dict)
    trace: TraceSummary | None = None
    warnings: tuple[str, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()


class Surroundings:
    """Of a measurement on another device than a GPU: there is nothing to watch."""

    def settle(self, device: str) -> None:
        """The engine is loaded, and on this device."""

    def around(self) -> AbstractContextManager[None]:
        """To be entered before the window's edges, and left after them."""
        return contextlib.nullcontext()

    def observed(self, window: Window) -> Observed:  # noqa: ARG002
        """What there is to report of the measured window."""
        return Observed()

    def power_w(self) -> float | None:
        """Of this moment, for somebody who watches; None where it isn't known."""
        return None

    def testbed(self) -> dict[str, Any]:
        """What makes two hosts comparable, beyond what every measurement has."""
        return {}


@contextlib.contextmanager
def watched(
    experiment: Experiment,
    emit: Callable[..., None],
    *,
    loaded: bool = False,
    host_pids: Callable[[], HostPids] | None = None,
) -> Iterator[Surroundings]:
    """The surroundings of a measurement, from before its engine is loaded.

    Args:
        experiment: that is measured.
        emit: sends frames.
        loaded: whether the engine is on the device already, from an earlier measurement.
        host_pids: asks the host for the pids of ours; None where it can't be asked.
    """
    on_a_gpu = experiment.device == "cuda"
    if on_a_gpu or (experiment.device == "auto" and driver_is_there()):
        of_gpus = importlib.import_module(_OF_GPUS)
        with of_gpus.watched(experiment, emit, loaded, host_pids) as conditions:
            yield conditions
    else:
        yield Surroundings()


def send_trace(rows: Sequence[Mapping[str, Any]], emit: Callable[..., None]) -> None:
    """Send the power trace ahead of the result, in frames of a bearable size."""
    for first in range(0, len(rows), _ROWS):
        emit("series", trace=list(rows[first : first + _ROWS]))
