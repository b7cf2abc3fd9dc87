"""The errors of pytest-llem.

Each message says what happened and, where there is one, what to do next::

    LlemError
    ├── StudyError     a study file can't be used; carries every problem of the file at once
    ├── RunnerError    a runner was named that doesn't exist or can't be used
    ├── ResultsError   results can't be written
    ├── ForkRefused    a worker can't be forked here; a fresh one does instead
    └── WorkerError    a worker did not deliver its measurement; carries cause, fix and log
        ├── EngineMissing  the backend's engine isn't installed where the worker runs
        └── ContainerError  Docker refused something, or what it started ended badly
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = [
    "ContainerError",
    "EngineMissing",
    "ForkRefused",
    "LlemError",
    "ResultsError",
    "RunnerError",
    "StudyError",
    "WorkerError",
]


class LlemError(Exception):
    """Base of all errors raised by pytest-llem on purpose."""


class StudyError(LlemError):
    """A study file can't be used.

    Attributes:
        problems: one line each, in the form ``file:line: what is wrong``.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        """Join the problems into one message, a line each."""
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class RunnerError(LlemError):
    """A runner was asked for that doesn't exist, or that can't be used here."""


class ResultsError(LlemError):
    """The results directory or a report can't be written."""


class ForkRefused(LlemError):
    """A worker can't be forked from a process that has imported the engine: the reason."""


class WorkerError(LlemError):
    """A worker did not deliver its measurement.

    Attributes:
        kind: one word for the cause: ``missing``, ``refused``, ``raised``, ``crashed``,
            ``timeout``, ``protocol`` or ``container``.
        fix: what to do about it; empty where that isn't known.
        log_tail: the last lines of the worker's log; empty where there are none.
    """

    def __init__(self, message: str, *, kind: str, fix: str = "", log_tail: str = "") -> None:
        """Describe the failure in a sentence that needs no traceback."""
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.fix = fix
        self.log_tail = log_tail


class EngineMissing(WorkerError):
    """The engine of the chosen backend isn't installed where the worker runs."""


class ContainerError(WorkerError):
    """Docker refused something, or what it started ended badly.

    Attributes:
        phase: what was being done: ``connect``, ``pull``, ``create``, ``start``, ``run``.
        cause: a name for the cause that doesn't change with the daemon's version; ``unknown`` for
            an error that isn't among those known here.
        about: plain data for the report: what is known of the place; empty for nothing.
    """

    def __init__(
        self, message: str, *, phase: str, cause: str, fix: str, log_tail: str = ""
    ) -> None:
        """Describe what happened, with the command that mends it."""
        super().__init__(message, kind="container", fix=fix, log_tail=log_tail)
        self.phase = phase
        self.cause = cause
        self.about: Mapping[str, Any] = {}
