"""Exclusive leases of devices: one engine on a GPU, whoever else measures on this host.

A lease is a lock on a file named after the GPU (:mod:`.lock_folder`); who finds none free waits in
a queue (:mod:`.tickets`). What is not on a GPU has the host for itself, as the energy of its
packages is that of all that runs there; measurements on GPUs share it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llem.errors import WorkerError
from pytest_llem.experiment import Experiment
from pytest_llem.gpus import Found, Gpu, look
from pytest_llem.runners.lock_folder import LockFolder, host_name, why_private
from pytest_llem.runners.tickets import Claim, Ticket, Want, Who, at_work

__all__ = ["WAIT_S", "Devices", "Lease", "Tell"]

WAIT_S = 3600.0
"""So long a measurement waits for devices that others have, where nobody says otherwise."""

Tell = Callable[[str, float], None]
"""Is told what is waited for, and who has it, and the seconds so far."""

_AGAIN_S = 0.1
_RARELY_S = 0.5
"""Looking often would only disturb those who measure."""

_TELL_S = 1.0
_LOYAL_S = 60.0
"""So long it is waited for the very GPUs of an experiment's earlier cycles, before others do."""


@dataclass(frozen=True)
class Lease:
    """Devices that nobody else gets until :meth:`release`.

    Attributes:
        gpus: in the order in which the worker is to see them; none for other devices.
        alone: nobody else measures on the host.
        waited_s: how long it was waited for.
        left: runners of processes that had them and died.
        private: why others may not know of it; empty where nothing says so.
    """

    gpus: tuple[Gpu, ...] = ()
    alone: bool = False
    waited_s: float = 0.0
    left: frozenset[str] = frozenset()
    private: str = ""
    _claim: Claim | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """In the order of the PCI bus."""
        return tuple(gpu.index for gpu in self.gpus)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that show a worker on this host these GPUs and no others.

        By number, as vLLM can't read UUIDs there; a MIG instance has no other name.
        """
        if not self.gpus:
            return {}
        shown = [g.uuid if g.uuid.startswith("MIG-") else str(g.ordinal) for g in self.gpus]
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(shown)}

    @property
    def about(self) -> dict[str, Any]:
        """What is reported of it; plain data."""
        return {
            "gpus": [gpu.uuid for gpu in self.gpus],
            "alone": self.alone,
            "waited_s": round(self.waited_s, 3),
            "unshared": self.private or None,
        }

    def neighbours(self) -> Neighbours:
        """Begin to look who else measures on the host."""
        return Neighbours(self._claim)

    def release(self) -> None:
        """Let others have them; to be called once."""
        if self._claim is not None:
            self._claim.release()


class Neighbours:
    """Who else measured on the host since this was made."""

    def __init__(self, claim: Claim | None) -> None:
        """Look for the first time."""
        self._claim = claim
        self._seen = () if claim is None else claim.others()
        self._changes = 0 if claim is None else claim.changes()

    def text(self) -> str:
        """Who it was; empty for nobody."""
        if self._claim is None:
            return ""
        found = {ticket.number: ticket for ticket in (*self._seen, *self._claim.others())}
        if found:
            return "; ".join(ticket.who.text for ticket in found.values())
        return "" if self._claim.changes() == self._changes else "one that has ended meanwhile"


@dataclass(slots=True, kw_only=True)
class Devices:
    """Leases the devices of a host.

    Attributes:
        find: looks for the GPUs that a program of some environment sees.
        folder: of the locks.
        session: name of the pytest session, which others are told.
        limit_s: longest wait for what other sessions have; may be infinite.
        host: name of the host.
        apart: why others can't know of leases; where nothing is said, it is found out.
        assigned: names of the GPUs that the session's scheduler means for what is measured next.
    """

    find: Callable[[Mapping[str, str]], Found] = lambda environ: look(environ=environ)
    folder: LockFolder = field(default_factory=LockFolder)
    session: str = ""
    limit_s: float = WAIT_S
    host: str = field(default_factory=host_name)
    apart: str | None = None
    assigned: tuple[str, ...] = ()
    _found: dict[str | None, Found] = field(default_factory=dict)
    _had: dict[object, tuple[str, ...]] = field(default_factory=dict)

    def lease(
        self,
        experiment: Experiment,
        tell: Tell = lambda *_: None,
        place: str = "",
        key: object = None,
    ) -> Lease:
        """The devices of an experiment; waits until all that it needs are free.

        An experiment that leaves the device to the engine gets GPUs where there are any. One that
        had some before gets the same, unless they stay taken for a minute.

        Args:
            experiment: that is about to be measured.
            tell: called about once a second while others have them.
            place: name of the runner.
            key: of the experiment; its cycles are to be measured on the same GPUs.

        Raises:
            WorkerError: when there are not as many, the locks can't be made, or time is up.
        """
        found = self._visible(experiment)
        if not found.gpus:
            # What NVML doesn't show may still be there for the engine: it has the last word.
            want = Want(host=self.host, alone=True)
            return self._wait(want, (), (), tell, place)
        count = experiment.devices
        boards = tuple(dict.fromkeys(gpu.board for gpu in found.gpus))
        if len(found.gpus) < count:
            raise WorkerError(
                f"{experiment.id} computes on {count} GPUs, and this host has"
                f" {len(found.gpus)}{f' ({found.reason})' if found.reason else ''}",
                kind="refused",
                fix="lower gpus, tensor_parallel or pipeline_parallel, or say requires: {gpus: N}"
                " to have it skipped here",
            )
        want = Want(gpus=boards, count=min(count, len(boards)), host=self.host)
        liked = tuple(name for name in self._had.get(key, self.assigned) if name in boards)
        lease = self._wait(want, found.gpus, liked, tell, place, count)
        if key is not None:
            self._had[key] = tuple(dict.fromkeys(gpu.board for gpu in lease.gpus))
        return lease

    def are_wanted(self) -> bool:
        """Whether another process of the session has devices, or waits for some."""
        return at_work(self.folder, self.session)

    def _visible(self, experiment: Experiment) -> Found:
        """The GPUs that an experiment may compute on."""
        if experiment.device not in {"auto", "cuda"}:
            return Found()
        environ = {**os.environ, **experiment.env}
        visible = environ.get("CUDA_VISIBLE_DEVICES")
        if visible not in self._found:
            self._found[visible] = self.find(environ)
        return self._found[visible]

    def _wait(
        self,
        want: Want,
        gpus: Sequence[Gpu],
        liked: tuple[str, ...],
        tell: Tell,
        place: str,
        count: int = 0,
    ) -> Lease:
        loyal = Want(gpus=liked, count=want.count, host=want.host, alone=want.alone)
        loyal = loyal if len(liked) >= want.count > 0 else want
        claim = Claim(self.folder, loyal, Who(session=self.session, place=place))
        try:
            begun_s = told_s = time.monotonic()
            others_s = 0.0
            while True:
                now_s = time.monotonic()
                waited_s = now_s - begun_s
                taken = claim.attempt(loyal if waited_s < _LOYAL_S else want)
                if taken is not None:
                    return Lease(
                        tuple(gpu for gpu in gpus if gpu.board in taken)[:count],
                        want.alone,
                        waited_s if waited_s >= _AGAIN_S else 0.0,
                        claim.left,
                        self._private(),
                        claim,
                    )
                if now_s - told_s >= _TELL_S:
                    told_s = now_s
                    tell(_awaited(want, gpus, claim.behind), waited_s)
                pause_s = _AGAIN_S if waited_s < 10 * _RARELY_S else _RARELY_S
                # What the session itself measures will end; nobody waits for it in vain.
                whose = {ticket.who.session for ticket in claim.behind}
                own = self.session and whose == {self.session}
                others_s += 0.0 if own else pause_s
                self._check(others_s, want, gpus, claim.behind)
                time.sleep(pause_s)
        except BaseException:
            claim.release()
            raise

    def _check(
        self, others_s: float, want: Want, gpus: Sequence[Gpu], behind: Sequence[Ticket]
    ) -> None:
        if others_s >= self.limit_s:
            raise WorkerError(
                f"waited {others_s:.3g} s for {_awaited(want, gpus, behind)}",
                kind="refused",
                fix="run again when that has ended, name other GPUs with CUDA_VISIBLE_DEVICES, or"
                " wait longer: --llem-wait=SECONDS (none for ever)",
            )

    def _private(self) -> str:
        if self.apart is None:
            self.apart = why_private(self.folder.path)
        return self.apart


def _awaited(want: Want, gpus: Sequence[Gpu], behind: Sequence[Ticket]) -> str:
    """``GPU 0, held by pid 12 of alice, since 12:30``."""
    if want.alone:
        what = "this host to be free of other measurements, for the energy of its processors"
    else:
        numbers = ", ".join(str(gpu.index) for gpu in gpus)
        several = len(gpus) > 1
        what = f"{want.count} of the GPUs {numbers}" if several else f"GPU {numbers}"
    if not behind:
        return f"{what}, held by another program"
    who = "; ".join(ticket.who.text for ticket in behind[:3])
    more = f"; {len(behind) - 3} more" if len(behind) > 3 else ""
    waits = ", waited for before us by" if behind[0].holds is None else ", held by"
    return f"{what}{waits} {who}{more}"
