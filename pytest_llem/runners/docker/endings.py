"""How a container ended, and why: its exit status is no more than a hint. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LIFELINE_LOST", "Ending", "why_ended"]

LIFELINE_LOST = 75
"""EX_TEMPFAIL of sysexits.h: the worker ends so when its standard input does."""

_KILLED = 128 + 9
_BUS_ERROR = 128 + 7
_NO_SPACE = "No space left on device"
_MORE_MEMORY = "free memory on the Docker daemon's host, or measure a smaller model or batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why a container ended.

    Attributes:
        cause: a name that doesn't change.
        message: a sentence.
        fix: what to do about it.
    """

    cause: str
    message: str
    fix: str


_OUT_OF_MEMORY = Ending(
    cause="out of memory",
    message="the kernel killed the worker: the container had no memory left",
    fix=f"{_MORE_MEMORY}; GPU memory is another thing",
)
_CHILD_OUT_OF_MEMORY = Ending(
    cause="child out of memory",
    message="the kernel killed a process that the worker had started: the container had no memory"
    " left",
    fix=_MORE_MEMORY,
)
_KILLED_BY_OTHERS = Ending(
    cause="killed",
    message="somebody else killed the container: docker kill, or the daemon's own end",
    fix="run again; journalctl -u docker on the daemon's host tells what happened",
)
_LIFELINE_LOST = Ending(
    cause="lifeline lost",
    message="the worker's connection to pytest broke, so it ended itself",
    fix="see that the network to the Docker daemon holds, then run again",
)
_DISK_FULL = Ending(
    cause="disk full",
    message="a disk, or a tmpfs of the container, was full",
    fix="docker system df on the daemon's host; or a directory of its own for the engine's files:"
    " docker: {volumes: [...]}",
)


def why_ended(
    status: int,
    oom_killed: bool,
    *,
    oom_kills: int | None = None,
    killed_by_us: bool = False,
    log: str = "",
    shm_size: str = "",
) -> Ending | None:
    """Why a container ended that nobody asked to end.

    Args:
        status: its exit status: of one that a signal ended, 128 and the signal's number as the
            daemon tells it, or the negative number as Python does.
        oom_killed: ``State.OOMKilled``: some process in it was killed for want of memory, the
            first or another.
        oom_kills: processes that the kernel killed for want of memory meanwhile, where the
            container's own counter was read. Of a process that was exec'd, Docker before 28 says
            nothing in ``oom_killed``.
        killed_by_us: whether this session killed it.
        log: the end of what it wrote to standard error.
        shm_size: of its /dev/shm.

    Returns:
        None where the status says all there is to say.
    """
    status = 128 - status if status < 0 else status
    if killed_by_us:
        return None
    if oom_killed or oom_kills:
        return _OUT_OF_MEMORY if status == _KILLED else _CHILD_OUT_OF_MEMORY
    if status == _BUS_ERROR:
        held = f" ({shm_size})" if shm_size else ""
        return Ending(
            cause="shared memory",
            message=f"SIGBUS ended the worker: its shared memory, /dev/shm{held}, was full",
            fix="docker: {shm_size: 16g} in the study, or ipc: host",
        )
    if status and _NO_SPACE in log:
        return _DISK_FULL
    return {_KILLED: _KILLED_BY_OTHERS, LIFELINE_LOST: _LIFELINE_LOST}.get(status)
