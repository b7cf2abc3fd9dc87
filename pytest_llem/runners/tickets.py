"""Who measures on this host, and who waits to: a queue that all sessions and users share.

Each has a ticket, a file of its own that it keeps locked: what a dead process left is told by the
system, not by a pid. Whoever comes later takes nothing that an earlier one waits for, so that an
experiment on eight GPUs isn't passed by for ever by others on one.

Locks of the devices decide who has them; tickets only say in which order they are tried for, and
whose they are. So a lock may also be taken by others, with ``flock(1)``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import pwd
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_llem.errors import WorkerError
from pytest_llem.runners.lock_folder import LockFolder, is_same

__all__ = ["Claim", "Ticket", "Want", "Who", "at_work"]

_NAME = re.compile(r"ticket-(\d{1,18})-[0-9a-f]{8}\.json")
_RUNNING = "running"
_LONGEST_BYTES = 1 << 16
_ODD = re.compile(r"[^\w ,.:+/@-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What a measurement needs of a host.

    Attributes:
        gpus: names of the GPUs that do for it, the ones it likes best first.
        count: how many of them; 0 for a measurement that isn't on GPUs.
        host: name of the host.
        alone: nobody else may measure on the host meanwhile.
    """

    gpus: tuple[str, ...] = ()
    count: int = 0
    host: str = ""
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Somebody who measures, as others are told.

    Attributes:
        session: name of the pytest session.
        place: name of the runner: what it started may have to be ended, should it die.
    """

    session: str = ""
    place: str = ""
    pid: int = field(default_factory=os.getpid)
    user: str = field(default_factory=lambda: _user(os.getuid()))
    since: str = field(
        default_factory=lambda: datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    )

    @property
    def text(self) -> str:
        """``pid 12 of alice, session 20261122T1, since 12:30``; safe to print, whoever wrote it."""
        day, _, time = self.since.partition("T")
        now = datetime.datetime.now().astimezone()
        since = time[:5] if day == now.date().isoformat() else f"{day} {time[:5]}"
        session = f", session {self.session}" if self.session else ""
        return _ODD.sub("?", f"pid {self.pid} of {self.user}{session}, since {since}")[:200]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a ticket says.

    Attributes:
        number: those with lower ones come first.
        who: has drawn it.
        want: what it is for.
        holds: names of the GPUs it has got; None as long as it waits.
    """

    number: int
    who: Who
    want: Want
    holds: tuple[str, ...] | None = None

    @classmethod
    def read(cls, number: int, text: str) -> Ticket:
        """A ticket from its file.

        Raises:
            ValueError: for anything else.
        """
        try:
            data = json.loads(text)
            want, holds = data["want"], data["holds"]
            return cls(
                number=number,
                who=Who(**{name: type_(data["who"][name]) for name, type_ in _WHO.items()}),
                want=Want(
                    gpus=tuple(map(str, want["gpus"])),
                    count=int(want["count"]),
                    host=str(want["host"]),
                    alone=bool(want["alone"]),
                ),
                holds=None if holds is None else tuple(map(str, holds)),
            )
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a ticket: {error}") from error


_WHO: dict[str, type] = {"session": str, "place": str, "pid": int, "user": str, "since": str}


class Claim:
    """A place in the queue, and then the devices; ends with :meth:`release`, or its process.

    Attributes:
        behind: those who have what is wanted, or come first, as of the last attempt.
        left: runners of dead processes that had what was got now.
    """

    def __init__(self, folder: LockFolder, want: Want, who: Who) -> None:
        """Draw a ticket.

        Raises:
            WorkerError: when it can't be written.
        """
        self._folder = folder
        self._who = who
        self._want = want
        self._handles: list[int] = []
        self.behind: tuple[Ticket, ...] = ()
        self.left: frozenset[str] = frozenset()
        with folder.alone():
            last = max((number for number, _ in _files(folder.path)), default=0)
            self._number = last + 1
            self._path = folder.path / f"ticket-{self._number}-{secrets.token_hex(4)}.json"
            self._file = self._drawn()

    def _drawn(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            handle = os.open(self._path, flags, 0o644)
            # Whatever the user's mask: others must see that somebody is there.
            os.fchmod(handle, 0o644)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(handle, self._ticket(None))
        except OSError as error:
            raise WorkerError(
                f"no ticket can be written in {self._folder.path}: {error.strerror}",
                kind="start",
                fix="make room there, or set LLEM_LOCK_DIR to another folder of all who measure",
            ) from error
        return handle

    def attempt(self, want: Want | None = None) -> tuple[str, ...] | None:
        """Names of the GPUs that are ours now, in the order wanted; None where it is to wait.

        All that is wanted, or nothing.

        Args:
            want: in place of what was wanted before.

        Raises:
            WorkerError: when a lock can't be opened.
        """
        with self._folder.alone():
            if want is not None and want != self._want:
                self._want = want
                self._tell(None)
            want = self._want
            living, dead = _tickets(self._folder.path, self._number)
            first = [t for t in living if t.holds is None and t.number < self._number]
            taken = self._taken(want, first)
            if taken is None:
                self.behind = tuple(_in_the_way(want, living, first))
                _unlink(path for path, ticket in dead if not ticket or not ticket.holds)
                return None
            self._tell(taken)
            own = {want.host, *taken} if want.alone else set(taken)
            left = [t for _, t in dead if t and t.holds is not None and own & {*t.holds, _of(t)}]
            self.left = frozenset(ticket.who.place for ticket in left)
            self.behind = ()
            _unlink(path for path, _ in dead)
            return taken

    def others(self) -> tuple[Ticket, ...]:
        """Those who have devices of the same host now."""
        with self._folder.alone():
            living, _ = _tickets(self._folder.path, self._number)
        return tuple(t for t in living if t.holds is not None and t.want.host == self._want.host)

    def changes(self) -> int:
        """A number that changes whenever somebody gets devices, or lets them go."""
        with contextlib.suppress(OSError):
            return self._running().stat().st_mtime_ns
        return 0

    def release(self) -> None:
        """Let others have them; to be called once."""
        with contextlib.suppress(OSError):
            self._mark().unlink()
        with contextlib.suppress(OSError):
            self._path.unlink()
        for handle in (*self._handles, self._file):
            os.close(handle)

    def _taken(self, want: Want, first: Sequence[Ticket]) -> tuple[str, ...] | None:
        """The GPUs, locked; nothing is, where not all can be had."""
        here = [ticket for ticket in first if ticket.want.host == want.host]
        if any(ticket.want.alone or want.alone for ticket in here):
            return None
        claimed = {name for ticket in first for name in ticket.want.gpus}
        handles: list[int] = []
        got: list[str] = []
        host = self._folder.lock(f"host-{want.host}", shared=not want.alone)
        if host is None:
            return None
        handles.append(host)
        for name in want.gpus:
            if len(got) < want.count and name not in claimed:
                handle = self._folder.lock(name)
                if handle is not None:
                    handles.append(handle)
                    got.append(name)
        if len(got) < want.count:
            for handle in handles:
                os.close(handle)
            return None
        self._handles = handles
        return tuple(got)

    def _tell(self, holds: tuple[str, ...] | None) -> None:
        """Write the ticket anew, and that somebody measures from now on."""
        try:
            _write(self._file, self._ticket(holds))
            if holds is not None:
                self._running().mkdir(mode=0o777, exist_ok=True)
                with contextlib.suppress(PermissionError):  # another user's
                    self._running().chmod(0o1777)
                self._mark().touch()
        except OSError:
            pass  # The locks are what counts; a full disk makes others know less of us.

    def _running(self) -> Path:
        return self._folder.path / _RUNNING

    def _mark(self) -> Path:
        return self._running() / self._path.stem

    def _ticket(self, holds: tuple[str, ...] | None) -> Ticket:
        return Ticket(number=self._number, who=self._who, want=self._want, holds=holds)


def at_work(folder: LockFolder, session: str) -> bool:
    """Whether another process of a session measures, or waits to.

    Raises:
        WorkerError: when the folder can't be used.
    """
    with folder.alone():
        living, _ = _tickets(folder.path, 0)
    return any(t.who.session == session and t.who.pid != os.getpid() for t in living)


def _of(ticket: Ticket) -> str:
    """The host, for one that had it alone."""
    return ticket.want.host if ticket.want.alone else ""


def _in_the_way(want: Want, living: Sequence[Ticket], first: Sequence[Ticket]) -> Iterator[Ticket]:
    """Those who hold what is wanted; those who come first, where nobody holds it."""
    wanted = set(want.gpus)
    holders = [
        ticket
        for ticket in living
        if ticket.holds is not None
        and (
            wanted & set(ticket.holds)
            or (ticket.want.host == want.host and (want.alone or ticket.want.alone))
        )
    ]
    yield from holders
    if not holders:
        yield from (t for t in first if t.want.host == want.host or wanted & set(t.want.gpus))


def _files(folder: Path) -> Iterator[tuple[int, Path]]:
    for entry in os.scandir(folder):
        if found := _NAME.fullmatch(entry.name):
            yield int(found[1]), Path(entry.path)


def _tickets(folder: Path, own: int) -> tuple[list[Ticket], list[tuple[Path, Ticket | None]]]:
    """Tickets of the living but for our own, the first drawn first; and those of the dead."""
    living: list[Ticket] = []
    dead: list[tuple[Path, Ticket | None]] = []
    for number, path in sorted(_files(folder)):
        if number == own:
            continue
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                ticket = _parsed(number, os.read(handle, _LONGEST_BYTES))
                try:
                    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    if ticket is not None:
                        living.append(ticket)
                else:
                    if is_same(handle, path):
                        dead.append((path, ticket))
            finally:
                os.close(handle)
    return living, dead


def _parsed(number: int, data: bytes) -> Ticket | None:
    try:
        return Ticket.read(number, data.decode())
    except ValueError:
        return None  # cut short by a full disk, or of another version


def _write(handle: int, ticket: Ticket) -> None:
    data = dataclasses.asdict(ticket)
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(data).encode(), 0)


def _unlink(tickets: Iterable[Path]) -> None:
    """Take away what dead processes left; in a sticky folder only their own user may."""
    for path in tickets:
        for file in (path.parent / _RUNNING / path.stem, path):
            with contextlib.suppress(OSError):
                file.unlink()


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
