"""The seams: what a backend, an engine, a meter and a transport must offer, and how to find them.

Implementations are found through entry points, the built-in ones too, so that a third party's
package is treated no differently from ours.
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Decoding, Experiment
from pytest_llem.records import Reading, RequestTiming

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "BACKENDS",
    "METERS",
    "RUNNERS",
    "WELL_KNOWN",
    "Abilities",
    "Backend",
    "Completion",
    "Engine",
    "EngineFacts",
    "Launch",
    "Meter",
    "Runner",
    "StreamingEngine",
    "Transport",
    "Workload",
    "abilities",
    "find",
    "known_backends",
    "names",
]

BACKENDS = "pytest_llem.backends"
METERS = "pytest_llem.meters"
RUNNERS = "pytest_llem.runners"

WELL_KNOWN = ("pytorch", "tensorrt", "vllm")
"""Backends that a study may name, installed or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a kind of engine can do beyond answering requests one batch after another.

    Attributes:
        scenarios: of ``offline poisson concurrency``.
        devices: of ``cpu cuda mps``.
        batches: False where the engine schedules requests by itself; no batch size is then taken.
        parallel: whether it computes on several devices.
        tensor_parallel: where it does, whether they may share each layer.
        decoding: the fields of ``decoding`` that it honours.
        forks: whether workers may be forked from a process that has called ``preload`` alone.
        built_from: what ``load`` looks at beyond model, revision, weights, dtype, device and their
            number, parallelism, options, environment and, for random weights, the seed: names of
            fields of an experiment. An engine is kept only for measurements that share them too.
    """

    scenarios: frozenset[str] = frozenset({"offline"})
    devices: frozenset[str] = frozenset({"cpu", "cuda"})
    batches: bool = True
    parallel: bool = False
    tensor_parallel: bool = True
    decoding: frozenset[str] = frozenset()
    forks: bool = False
    built_from: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The requests of a run.

    Attributes:
        prompts: token ids of each request.
        output_tokens: how many tokens each request must produce, exactly.
        batch_size: requests computed together; engines that schedule by themselves ignore it.
        seed: for sampling.
        decoding: how the next token is chosen; greedy where nothing is set.
    """

    prompts: Sequence[Sequence[int]]
    output_tokens: int
    batch_size: int
    seed: int
    decoding: Decoding = Decoding()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One finished request: its timing and the token ids it produced.

    Attributes:
        cached_tokens: of its prompt, taken from the work of earlier requests; None where the
            engine can't tell.
        preemptions: how often it was interrupted to make room for others; None as before.
    """

    timing: RequestTiming
    token_ids: tuple[int, ...]
    cached_tokens: int | None = None
    preemptions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What a loaded engine says of itself.

    Attributes:
        vocab_size: prompts hold ids below it.
        device: ``cpu``, or ``cuda`` where it computes on GPUs.
        details: anything worth a line in the report (dtype, parameters, attention).
        config: the model's configuration as its ``config.json`` would say it, with what options
            changed; None leaves it to the file.
        reuses: whether the study asked for the work on earlier prompts to be used again; otherwise
            a prompt that is found in a cache casts doubt on the figures.
    """

    vocab_size: int
    device: str
    details: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    reuses: bool = False


class Engine(Protocol):
    """A loaded model, ready to generate.

    One that makes ready for a batch size or a length while it is loaded has
    ``prepare(experiment)``: called where it is kept for another experiment, outside of all windows.
    """

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


class StreamingEngine(Engine, Protocol):
    """An engine that takes a request while it computes others.

    What the scenarios ``poisson`` and ``concurrency`` need.
    """

    loop: asyncio.AbstractEventLoop
    """What it lives in: run by whoever sends requests, closed by the engine's own ``close``."""

    async def answer(
        self, number: int, workload: Workload, progress: Callable[[int], None]
    ) -> Completion:
        """Submit one request now, and wait for its end.

        Args:
            number: of the workload's prompts, from 0; no two in flight have the same.
            workload: that it belongs to.
            progress: to be called with the number of its tokens so far, as they arrive.
        """


class Backend(Protocol):
    """A kind of engine. Making one must be cheap: nothing heavy is imported for it."""

    name: str
    install: str
    """The command that installs the engine."""
    abilities: Abilities
    """What it can do; a study that asks for more is refused at collection."""

    def versions(self) -> Mapping[str, str | None]:
        """Versions of the distributions it needs; None for one that isn't installed."""

    def preload(self) -> None:
        """Import the engine: no threads of ours, no device touched."""

    def load(self, experiment: Experiment) -> Engine:
        """Build the engine; ``experiment.model`` is a hub id or an absolute directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What an experiment computes on.

    Attributes:
        device: ``cuda``, ``cpu`` or ``mps``.
        count: devices it uses, the first of those that the process sees; None for all of them.
    """

    device: str
    count: int | None = 1


class Meter(Protocol):
    """Reads the energy of one or more domains of a target, window after window.

    Made with the target as its only argument, which may take as long as probing a counter does.

    One that tells a window best that ends at a time of its own may have ``stop_within(token,
    start_s, latest_s)``: it ends a window out of a load that goes on, at about the given time, and
    returns when that was, with the readings.
    """

    name: str
    estimates: bool
    """True where its figures are modelled, not measured; used only where nothing measures."""

    domains: Sequence[str]
    """What it reads of the target, ``gpu:<uuid>``, ``cpu:0``, ``dram:0``; empty for nothing.

    A counter that is there and can't be read is among them: its readings say why. A meter may tell
    it beforehand, for doctor, as ``problems``: domain to the reason and the command that mends it.
    The command may be empty.
    """

    reason: str
    """Why it reads nothing of the target, and what mends that; empty where it reads something."""

    def start(self, exact: bool = True) -> Any:
        """Begin a window; returns a token for :meth:`stop`.

        ``exact`` may wait for edges of a counter. Otherwise it must not: the window's energy is
        for orientation, and no metric is made of it.
        """

    def stop(self, token: Any, start_s: float, end_s: float) -> Sequence[Reading]:
        """End the window that lay between the two times of the monotonic clock."""

    def close(self) -> None:
        """Nothing more will be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a runner needs to know to start a worker.

    Attributes:
        backend: the engine it is for; empty for a role that has none.
        log: file for what the worker writes to standard error; made new.
        argument: what stood behind the runner's name and a colon.
        environment: variables to set for the worker, beside those it inherits.
        role: ``engine``, or ``meter`` for one that has meters only.
        experiment: what is about to be measured, for a place that must bring its model along;
            None for a role that measures none.
        image: of a container, where the place has any.
        gpus: numbers of the GPUs that are leased for it, in the order of the PCI bus; the worker
            is to see these and no others. None leaves it to the place.
        settings: of containers, as studies name them; without those that nobody set.
        tell: takes a line on what is being prepared, where that takes its time.
        once: given a name and what finds something out, returns that; it is found out once for all
            processes of the session on this host, and is plain data.
    """

    backend: str
    log: Path
    argument: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    role: str = "engine"
    experiment: Experiment | None = None
    image: str | None = None
    gpus: tuple[int, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    tell: Callable[[str], None] = lambda _: None
    once: Callable[[str, Callable[[], Any]], Any] = lambda _, find: find()


class Runner(Protocol):
    """A place where workers run. Making one must be cheap; a session has one of each.

    One that holds something beyond its workers has a ``close()``, called at the session's end. One
    that can mend a place where a worker failed has a ``mend(error)``: true where it is worth
    another try. One whose GPUs aren't this host's has ``devices(launch)``, to lease them from; None
    where they are. One whose workers may outlive a session that was killed has ``reap()``, which
    ends those of dead sessions. One that can fork a worker from a process that has imported the
    engine has ``fork(launch)``, which returns a transport as ``start`` does, or raises
    ``ForkRefused``.
    """

    name: str

    def start(self, launch: Launch) -> Transport:
        """Start a worker.

        Raises:
            OSError: when it can't be started.
            WorkerError: the same, with cause and fix.
        """


class Transport(Protocol):
    """A started worker: bytes in, bytes out, and a sure way to end it.

    One that knows more of an end than its exit status has ``why_ended()``: cause and fix, or None.
    One that isn't simply this host has ``about``, plain data for the report; its ``image`` is what
    a missing engine is missing in. One that can tell whether the place still does for another
    measurement has ``unwell()``: why not, or nothing; one that is kept is told of each measurement
    that was made there, ``measured(digest)``. One that can go on with another log, made new, has
    ``log_to(path)``; else a kept worker's measurements share the log of the first. One whose worker
    isn't in the user's environment may have ``secrets``, name to text: they are sent with the
    request, and are nowhere else. One where processes have other pids than on their host may have
    ``pids()``: the host's, and why they can't be told.
    """

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


def known_backends() -> tuple[str, ...]:
    """Backends that a study may name: the well-known, and what is installed."""
    return tuple(sorted({*WELL_KNOWN, *names(BACKENDS)}))


def names(group: str) -> list[str]:
    """Names registered in an entry-point group, sorted."""
    return sorted({point.name for point in _points(group, tuple(sys.path))})


@functools.cache
def _points(group: str, _path: tuple[str, ...]) -> tuple[importlib.metadata.EntryPoint, ...]:
    """Looking through all distributions takes longer than a small study does otherwise."""
    return tuple(importlib.metadata.entry_points(group=group))


def abilities(backend: str) -> Abilities | None:
    """What a backend can do; None where no such backend is installed, or it can't be imported.

    A backend that doesn't say can do no more than the simplest.
    """
    return _abilities(backend, tuple(sys.path))


@functools.cache
def _abilities(backend: str, _path: tuple[str, ...]) -> Abilities | None:
    if backend not in names(BACKENDS):
        return None
    try:
        found = getattr(find(BACKENDS, backend), "abilities", None)
    except LlemError:
        # Said where it is used, with the reason.
        return None
    return found if isinstance(found, Abilities) else Abilities()


def find(group: str, name: str) -> Any:
    """Load what is registered under a name.

    Raises:
        LlemError: when there is nothing of that name, or it can't be imported.
    """
    for point in _points(group, tuple(sys.path)):
        if point.name != name:
            continue
        try:
            return point.load()
        except Exception as error:
            raise LlemError(
                f"{group}: {name} ({point.value}) can't be imported: {error}"
            ) from error
    raise LlemError(f"{group}: nothing is called {name!r}; found: {', '.join(names(group))}")
