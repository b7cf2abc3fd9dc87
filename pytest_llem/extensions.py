"""The seams: what a backend, an engine, a meter and a transport must offer, and how to find them.

Implementations are found through entry points, the built-in ones too, so that a third party's
package is treated no differently from ours.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pytest_llem.errors import LlemError
from pytest_llem.records import Experiment, Reading, RequestTiming

__all__ = [
    "BACKENDS",
    "METERS",
    "Backend",
    "Completion",
    "Engine",
    "EngineFacts",
    "Meter",
    "Transport",
    "Workload",
    "find",
    "names",
]

BACKENDS = "pytest_llem.backends"
METERS = "pytest_llem.meters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The requests of a run.

    Attributes:
        prompts: token ids of each request.
        output_tokens: how many tokens each request must produce, exactly.
        batch_size: requests computed together; engines that schedule by themselves ignore it.
        seed: for sampling.
    """

    prompts: Sequence[Sequence[int]]
    output_tokens: int
    batch_size: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One finished request: its timing and the token ids it produced."""

    timing: RequestTiming
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What a loaded engine says of itself.

    Attributes:
        vocab_size: prompts hold ids below it.
        device: ``cpu``, or ``cuda`` where it computes on GPUs.
        details: anything worth a line in the report (dtype, parameters, attention).
    """

    vocab_size: int
    device: str
    details: Mapping[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """A loaded model, ready to generate."""

    def facts(self) -> EngineFacts:
        """What the engine says of itself."""

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        """Answer all requests, in order.

        Args:
            workload: the requests.
            progress: to be called now and then with the number of finished requests.
        """

    def reset_peak_memory(self) -> None:
        """Forget the peak so far."""

    def peak_memory_bytes(self) -> int | None:
        """Peak of the device's memory since the last reset; None where it can't be told."""

    def close(self) -> None:
        """Free the device."""


class Backend(Protocol):
    """A kind of engine. Making one must be cheap: nothing heavy is imported for it."""

    name: str
    install: str
    """The command that installs the engine."""

    def versions(self) -> Mapping[str, str | None]:
        """Versions of the distributions it needs; None for one that isn't installed."""

    def preload(self) -> None:
        """Import the engine: no threads of ours, no device touched."""

    def load(self, experiment: Experiment) -> Engine:
        """Build the engine; ``experiment.model`` is a hub id or an absolute directory."""


class Meter(Protocol):
    """Reads the energy of one or more domains. Stateless between windows."""

    name: str
    estimates: bool
    """True where its figures are modelled, not measured; used only where nothing measures."""

    def domains(self, device: str) -> Sequence[str]:
        """The domains it can read here for an experiment on ``device``; empty for none."""

    def start(self) -> Any:
        """Begin a window; returns a token for :meth:`stop`. May wait for a counter's edge."""

    def stop(self, token: Any, start_s: float, end_s: float) -> Sequence[Reading]:
        """End the window that lay between the two times of the monotonic clock."""


class Transport(Protocol):
    """A started worker: bytes in, bytes out, and a sure way to end it."""

    def send(self, data: bytes) -> None:
        """Write to the worker's standard input; a worker that is gone is not an error here."""

    def receive(self, timeout_s: float) -> bytes | None:
        """Next bytes of its standard output; ``b""`` at its end, None when time is up."""

    def wait(self, timeout_s: float) -> int | None:
        """Exit status, negative for a signal; None when it is still running after the time."""

    def stop(self, grace_s: float) -> None:
        """End the worker and every process it started: politely, then after the grace surely."""

    def log_size(self) -> int:
        """Bytes that it wrote to standard error so far."""

    def log_tail(self, lines: int) -> str:
        """The last lines of what it wrote to standard error."""


def names(group: str) -> list[str]:
    """Names registered in an entry-point group, sorted."""
    return sorted({point.name for point in importlib.metadata.entry_points(group=group)})


def find(group: str, name: str) -> Any:
    """Load what is registered under a name.

    Raises:
        LlemError: when there is nothing of that name, or it can't be imported.
    """
    for point in importlib.metadata.entry_points(group=group, name=name):
        try:
            return point.load()
        except Exception as error:
            raise LlemError(
                f"{group}: {name} ({point.value}) can't be imported: {error}"
            ) from error
    raise LlemError(f"{group}: nothing is called {name!r}; found: {', '.join(names(group))}")
