"""The workers of a session: started or forked for a measurement, or kept for others like it.

At most one engine is kept by a process of pytest. It holds the lease of its devices, and is
unloaded as soon as the next measurement needs another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llem.errors import ForkRefused, LlemError, WorkerError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import (
    RUNNERS,
    Launch,
    Runner,
    Transport,
    abilities,
    find,
)
from pytest_llem.records import Measurement
from pytest_llem.results.idle import IdleStore
from pytest_llem.results.neighbours import beside_others
from pytest_llem.runners.beside import HostMeters
from pytest_llem.runners.conversation import Listener, Mode, Patience, Progress, Worker
from pytest_llem.runners.devices import Devices, Lease

__all__ = ["Task", "Workers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A measurement that is to be made.

    Attributes:
        mode: name of the runner.
        key: what an engine is built from, and where: tasks of one key may share one.
        launch: of its worker, without the devices.
        keep: leave the engine loaded for the next task of the same key.
        rest: waits until the leased devices have cooled down.
    """

    experiment: Experiment
    digest: str
    cycle: int
    mode: str
    key: Hashable
    launch: Launch
    keep: bool = False
    rest: Callable[[Lease], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class _Held:
    """A started worker with the devices it computes on."""

    key: Hashable
    mode: Mode
    worker: Worker
    transport: Transport
    lease: Lease


@dataclass(slots=True)
class Workers:
    """Starts workers, and keeps one where that is wanted.

    Attributes:
        beside: meters of this host, for workers in containers.
        devices: leases of GPUs.
        idles: idle power that was measured already.
        patience: how long to wait for workers.
        notice: told once what a user should know of how workers are started.
        place: what is known of the place where the latest worker ran.
    """

    beside: HostMeters
    devices: Devices = field(default_factory=Devices)
    idles: IdleStore = field(default_factory=IdleStore)
    patience: Patience = Patience()
    notice: Callable[[str], None] = lambda _: None
    place: dict[str, Any] = field(default_factory=dict)
    _runners: dict[str, Runner] = field(default_factory=dict)
    _held: _Held | None = None

    def measure(self, task: Task, listener: Listener) -> Measurement:
        """Make a measurement.

        One that fails for a reason that its place could mend is made once more.

        Raises:
            WorkerError: when there is none, with cause and fix.
            OSError: when the worker can't be started.
        """
        self.place = {}
        try:
            return self._measure(task, listener)
        except WorkerError as error:
            runner = self._runners.get(task.mode)
            mend: Callable[[WorkerError], bool] = getattr(runner, "mend", lambda _: False)
            if not mend(error):
                raise
        return self._measure(task, listener)

    def keep_for(self, key: Hashable) -> None:
        """End the worker that is kept, unless it does for a task of this key.

        To be called as soon as it is known what comes next: a loaded engine holds its device and
        its memory, and keeps the device from resting.
        """
        if self._held is not None and self._held.key != key:
            self._let_go()

    def close(self) -> None:
        """End the worker that is kept, and whatever runners hold."""
        self._let_go()
        self.beside.close()
        while self._runners:
            close = getattr(self._runners.popitem()[1], "close", None)
            if close is not None:
                close()

    def _measure(self, task: Task, listener: Listener) -> Measurement:
        held = self._taken(task, listener)
        idle_key = (task.key, held.mode, tuple(gpu.uuid for gpu in held.lease.gpus))
        idle = self.idles.get(idle_key, task.experiment)
        neighbours = held.lease.neighbours()
        try:
            measurement = held.worker.measure(
                task.experiment,
                task.digest,
                task.cycle,
                listener,
                idle=idle,
                keep=task.keep,
                mode=held.mode,
            )
        except BaseException:
            self._held = None
            held.lease.release()
            raise
        finally:
            self.place |= dict(getattr(held.transport, "about", {})) | {"lease": held.lease.about}
        measurement = beside_others(measurement, neighbours.text())
        if task.keep:
            measured: Callable[[str], None] = getattr(held.transport, "measured", lambda _: None)
            measured(task.digest)
            self._held = held
        else:
            _end(held)
        self.idles.keep(idle_key, measurement)
        return measurement

    def _taken(self, task: Task, listener: Listener) -> _Held:
        """The kept worker where it does for the task, else a new one."""
        held, self._held = self._held, None
        if held is not None:
            unwell: Callable[[], str] = getattr(held.transport, "unwell", lambda: "")
            if task.keep and held.key == task.key and not unwell():
                log_to: Callable[[Path], None] = getattr(held.transport, "log_to", lambda _: None)
                log_to(task.launch.log)
                task.rest(held.lease)
                return held
            _end(held)
        runner = self._runner(task.mode)
        lease = self._leased(task, runner, listener)
        try:
            task.rest(lease)
            mode, transport = self._started(task, runner, self._launch(task, lease, listener))
        except BaseException as error:
            self.place = dict(getattr(error, "about", {})) | {"lease": lease.about}
            lease.release()
            raise
        beside = None if task.mode == "local" else self.beside
        return _Held(task.key, mode, Worker(transport, self.patience, beside), transport, lease)

    def _leased(self, task: Task, runner: Runner, listener: Listener) -> Lease:
        """The task's devices; what dead sessions left on them is gone."""
        elsewhere: Callable[[Launch], Devices | None] = getattr(runner, "devices", lambda _: None)
        devices = elsewhere(task.launch) or self.devices
        devices.session, devices.limit_s = self.devices.session, self.devices.limit_s
        same = (task.experiment.id, task.digest)
        lease = devices.lease(task.experiment, listener.waits, task.mode, same)
        for name in lease.left:
            # Containers may live on for a moment, whoever started them.
            with contextlib.suppress(LlemError, OSError):
                reap: Callable[[], None] = getattr(self._runner(name), "reap", lambda: None)
                reap()
        return lease

    def _started(self, task: Task, runner: Runner, launch: Launch) -> tuple[Mode, Transport]:
        """A new worker, forked where that is asked for and can be, and how it came to be."""
        if task.keep:
            return "reuse", runner.start(launch)
        if task.experiment.worker == "forked":
            try:
                return "forked", _forked(runner, launch)
            except ForkRefused as error:
                who = launch.backend
                self.notice(f"worker: forked can't be for {who}, its workers are fresh: {error}")
                self.place["not_forked"] = str(error)
        return "fresh", runner.start(launch)

    def _launch(self, task: Task, lease: Lease, listener: Listener) -> Launch:
        environment = task.launch.environment
        if task.mode == "local":
            # Elsewhere it is for the runner to show these GPUs and no others.
            environment = {**environment, **lease.environment}
        return dataclasses.replace(
            task.launch,
            experiment=task.experiment,
            gpus=lease.numbers or None,
            environment=environment,
            tell=_told(listener),
        )

    def _runner(self, mode: str) -> Runner:
        if mode not in self._runners:
            runner: Runner = find(RUNNERS, mode)()
            self._runners[mode] = runner
        return self._runners[mode]

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            _end(held)


def _forked(runner: Runner, launch: Launch) -> Transport:
    """A forked worker.

    Raises:
        ForkRefused: when none can be.
    """
    fork: Callable[[Launch], Transport] | None = getattr(runner, "fork", None)
    if fork is None:
        raise ForkRefused(f"workers of the runner {runner.name} can't be forked, local ones can")
    able = abilities(launch.backend)
    if able is None or not able.forks:
        raise ForkRefused("this backend doesn't say that its import stands it")
    return fork(launch)


def _end(held: _Held) -> None:
    try:
        held.worker.close()
    finally:
        held.lease.release()


def _told(listener: Listener) -> Callable[[str], None]:
    """What shows a line on what is being prepared as if it were a phase."""
    begun_s = time.monotonic()
    return lambda text: listener.progress(
        Progress(phase=text, elapsed_s=time.monotonic() - begun_s)
    )
