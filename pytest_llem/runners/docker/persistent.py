"""Containers that are kept for a backend: one at first need, another one should it be unwell.

What is called a restart is a new container in the place of the old one: it frees all that the old
one held, and also gets back GPUs that were taken away from the old one, which ``docker restart``
would not do.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llem.errors import ContainerError, WorkerError
from pytest_llem.runners.docker import health, kept
from pytest_llem.runners.docker.attendant import AttendantError
from pytest_llem.runners.docker.daemon import Daemon
from pytest_llem.runners.docker.execed import ExecTransport
from pytest_llem.runners.docker.kept import Kept
from pytest_llem.runners.docker.settings import Settings

__all__ = ["KEPT_S", "Places", "Wanted"]

KEPT_S = 3600.0
"""So long a container outlives the last session that used it, where one is to be left."""

_NOT_OF_THE_PLACE = frozenset({"refused", "missing", "container"})
"""Kinds of failures that another container would meet too, or that are ours."""

_FREEING_S = 1.0
_LOOK_AGAIN_S = 0.1
"""A driver may take a moment to free what a process that ended had."""

Begin = Callable[[Callable[[Mapping[str, Any], Mapping[str, Any]], Kept]], Kept]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a worker needs of a container.

    Attributes:
        key: containers of one key are as good as each other.
        backend: whose restarts are counted together.
        image: its name.
        gpus: how many it has.
        settings: how it is kept.
        begin: has a container begun; it is given what takes an order and what is to be reported.
        command: of a worker.
        opening: the first bytes that a worker is sent.
        log: for what it writes to standard error.
        secrets: for the worker alone.
    """

    key: str
    backend: str
    image: str
    gpus: int
    settings: Settings
    begin: Begin
    command: Sequence[str]
    opening: bytes
    log: Path
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


class Places:
    """The kept containers of a session."""

    def __init__(
        self,
        daemon: Daemon,
        heartbeat_s: float | None,
        *,
        kept_s: float = KEPT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Keep nothing yet.

        Args:
            daemon: where.
            heartbeat_s: seconds between heartbeats; None where none are sent.
            kept_s: how long a container outlives its session, where it is to be left.
            sleep: waits some seconds.
        """
        self.daemon = daemon
        self.heartbeat_s = heartbeat_s
        self.kept_s = kept_s
        self.sleep = sleep
        self.start_levels: dict[str, int] = {}
        """Bytes in use on each GPU when it was first seen, before anything of ours was on it."""
        self.restarts: dict[str, list[str]] = {}
        """Why, for each backend."""
        self._places: dict[str, _Place] = {}
        self._latest: _Place | None = None

    def start(self, wanted: Wanted) -> ExecTransport:
        """Start a worker in the container that is kept for it, once that is well.

        Raises:
            ContainerError: when no container is, or none can be started.
            OSError: when the log can't be written.
        """
        place = self._places.get(wanted.key)
        if place is None:
            place = self._places[wanted.key] = _Place(self)
        self._latest = place
        return place.start(wanted)

    def mend(self, error: WorkerError) -> bool:
        """Whether the latest place may do better with another container, which it gets then."""
        return self._latest is not None and self._latest.mend(error)

    def elsewhere(self) -> None:
        """The next failure is none of ours."""
        self._latest = None

    def close(self) -> None:
        """Remove what isn't to outlive the session."""
        while self._places:
            self._places.popitem()[1].close()
        self._latest = None


class _Place:
    """Where the workers of one key run."""

    def __init__(self, session: Places) -> None:
        self._session = session
        self._wanted: Wanted
        self._kept: Kept | None = None
        self._about: Mapping[str, Any] = {}
        self._begun = False
        self._ill = ""
        self._loaded: dict[str, int] | None = None
        self._digests: set[str] = set()
        self._attempts = 1
        self._again = False
        self._readings: list[dict[str, Any]] = []
        self._transport: ExecTransport | None = None

    # --- for the session ---------------------------------------------------------------------

    def start(self, wanted: Wanted) -> ExecTransport:
        self._wanted = wanted
        if not (self._again or self._ill):
            self._attempts, self._readings = 1, []
        self._attempts, self._again = self._attempts + self._again, False
        self._loaded, self._digests, self._transport = None, set(), None
        while True:
            while why := self._not_fit():
                self._restart(why)
            try:
                return self._executed()
            except ContainerError:
                # It may have ended since the look at it.
                self._ill = self._check()
                if not self._ill:
                    raise

    def mend(self, error: WorkerError) -> bool:
        if error.kind in _NOT_OF_THE_PLACE or self._kept is None:
            return False
        self._loaded = None
        why = error.message if error.kind == "crashed" else self._check()
        if not why or self._used_up:
            return False
        self._ill, self._again = why, True
        return True

    def close(self) -> None:
        if self._kept is not None:
            self._kept.leave()
            self._kept = None

    # --- for the transport -------------------------------------------------------------------

    def unwell(self) -> str:
        """Before another measurement with a loaded engine."""
        self._attempts, self._readings = 1, []
        self._ill = self._check()
        self._report()
        return self._ill

    def measured(self, digest: str) -> None:
        """After a measurement: what a loaded engine holds is seen at the first of each kind."""
        if self._wanted.gpus and digest not in self._digests:
            self._digests.add(digest)
            with contextlib.suppress(AttendantError):
                assert self._kept is not None
                found = health.read(self._kept.ask("gpus"))
                self._loaded = health.worst(self._loaded, found.gpus)

    # --- parts -------------------------------------------------------------------------------

    @property
    def _restarts(self) -> list[str]:
        return self._session.restarts.setdefault(self._wanted.backend, [])

    @property
    def _used_up(self) -> bool:
        return len(self._restarts) >= self._wanted.settings.max_restarts

    def _not_fit(self) -> str:
        """Why the container must be replaced before a worker is started; begun at first need."""
        why, self._ill = self._ill, ""
        if why:
            return why
        if self._kept is None:
            if self._begun:
                return "its container is gone"
            self._begin()
        return self._check()

    def _check(self) -> str:
        """Why no measurement can be made now; all that is seen is reported."""
        assert self._kept is not None
        try:
            if not self._wanted.gpus:
                self._kept.ask("alive")
                return ""
            return self._look()
        except AttendantError as error:
            return self._how_lost(self._kept, error)

    def _look(self) -> str:
        """The GPUs: a reading over the limit is looked at again for a moment."""
        assert self._kept is not None
        deadline = time.monotonic() + _FREEING_S
        while True:
            reading = health.read(self._kept.ask("gpus"))
            for gpu in reading.gpus:
                self._session.start_levels.setdefault(gpu.uuid, gpu.used_bytes)
            rule = health.Rule(
                start=self._session.start_levels,
                loaded=self._loaded,
                threshold_percent=self._wanted.settings.gpu_memory_threshold_pct,
                count=self._wanted.gpus,
            )
            why = health.verdict(reading, rule)
            if not why or reading.error or time.monotonic() > deadline:
                break
            self._session.sleep(_LOOK_AGAIN_S)
        self._readings.append(_told(reading, rule, why))
        return why

    def _how_lost(self, gone: Kept, error: AttendantError) -> str:
        code, oom = gone.how_ended()
        if code is None:
            return f"nobody answers in its container: {error}"
        return f"its container ended ({'out of memory' if oom else f'exit status {code}'})"

    def _begin(self) -> None:
        """A container for this place: one that was left for it, else a new one."""
        session, wanted = self._session, self._wanted
        outlives = not wanted.settings.auto_teardown

        def take(order: Mapping[str, Any], about: Mapping[str, Any]) -> Kept:
            self._about = about
            left = None
            if outlives and not self._begun:
                left = kept.find(session.daemon, wanted.key, session.heartbeat_s)
            return left or kept.begin(
                session.daemon,
                order,
                wanted.key,
                outlives_s=session.kept_s if outlives else None,
                heartbeat_s=session.heartbeat_s,
            )

        self._kept = wanted.begin(take)
        self._begun = True
        if not self._kept.found and wanted.settings.warmup_delay:
            session.sleep(wanted.settings.warmup_delay)

    def _restart(self, why: str) -> None:
        if self._used_up:
            raise self._given_up(why)
        self._restarts.append(why)
        if self._kept is not None:
            self._kept.remove()
            self._kept = None
        self._begin()

    def _given_up(self, why: str) -> ContainerError:
        wanted, times = self._wanted, len(self._restarts)
        error = ContainerError(
            f"the container of {wanted.backend} is unwell, and all its restarts"
            f" ({times} of max_restarts: {wanted.settings.max_restarts}) are used up: {why}",
            phase="run",
            cause="unwell",
            fix="see on the Docker daemon's host, with nvidia-smi and docker ps -a, what else holds"
            " memory or ends containers; then run again, with a higher max_restarts: under docker:"
            " where restarts are to be expected",
        )
        error.about = self._reported()
        return error

    def _executed(self) -> ExecTransport:
        wanted, session = self._wanted, self._session
        assert self._kept is not None
        name, stream = self._kept.execute(wanted.command, wanted.image)
        transport = ExecTransport(
            self._kept,
            name,
            stream,
            wanted.log,
            self._reported(),
            session.heartbeat_s,
            unwell=self.unwell,
            measured=self.measured,
        )
        transport.secrets = wanted.secrets
        transport.send(wanted.opening)
        self._transport = transport
        return transport

    def _report(self) -> None:
        if self._transport is not None:
            self._transport.about = self._reported()

    def _reported(self) -> dict[str, Any]:
        """The place, for the report of the measurement that is made now."""
        return {
            **self._about,
            "container": "" if self._kept is None else self._kept.id[:12],
            "left_by_earlier_session": self._kept is not None and self._kept.found,
            "attempts": self._attempts,
            "restarts": list(self._restarts),
            "max_restarts": self._wanted.settings.max_restarts,
            "health": list(self._readings),
        }


def _told(reading: health.Reading, rule: health.Rule, why: str) -> dict[str, Any]:
    """A reading for the report; plain data."""
    most = health.limits(reading, rule)
    return {
        "gpus": [
            {
                "uuid": gpu.uuid,
                "used_bytes": gpu.used_bytes,
                "total_bytes": gpu.total_bytes,
                "limit_bytes": most[gpu.uuid],
            }
            for gpu in reading.gpus
        ],
        "engine_loaded": rule.loaded is not None,
        "unwell": why or None,
    }
