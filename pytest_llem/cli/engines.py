"""Asks real workers what they have, as a measurement would, with a time limit."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llem.cli.check import Check
from pytest_llem.cli.meters import broken_meters, judge_meters, owner
from pytest_llem.errors import WorkerError
from pytest_llem.extensions import BACKENDS, WELL_KNOWN, Launch, Transport, names
from pytest_llem.runners.conversation import signal_name
from pytest_llem.runners.frames import FrameReader
from pytest_llem.runners.local import start

__all__ = ["ask", "check_workers", "one_is_enough"]

_LIMIT_S = 8.0
_HELLO_S = 7.0
"""What is left of the limit is for ending workers that didn't answer."""

_SHOWN = 300
_DISTRIBUTION = "pytest-llem"
_MISSING = "not installed: "


@dataclass(frozen=True, slots=True)
class _Question:
    """What to ask a worker, and how to read its first frame."""

    row: str
    backend: str
    role: str
    judge: Callable[[dict[str, Any]], list[Check]]
    broken: Callable[[str], list[Check]]


def check_workers() -> list[Check]:
    """Rows for every backend and every meter there is; workers are asked all at once."""
    backends = names(BACKENDS)
    if not backends:
        fix = f'pip install "{_DISTRIBUTION}[pytorch]"'
        return [Check("backends", "problem", "none is registered: an incomplete install", fix)]
    questions = [
        _Question(
            _row(name),
            name,
            "engine",
            lambda frame, name=name: [_judge(name, frame)],  # type: ignore[misc]
            lambda detail, name=name: [_broken(name, detail)],  # type: ignore[misc]
        )
        for name in backends
    ]
    questions.append(_Question("meters", "", "meter", judge_meters, broken_meters))
    return one_is_enough(_ask_all(questions))


def one_is_enough(checks: Sequence[Check]) -> list[Check]:
    """The same rows; engines that this package is for, but nobody installed, are no problem.

    Not as long as another one works: hardly anybody has them all.
    """
    own = {_row(name) for name in WELL_KNOWN}
    if not any(check.name in own and check.status == "ok" for check in checks):
        return list(checks)
    return [
        dataclasses.replace(check, status="note")
        if check.name in own and check.detail.startswith(_MISSING)
        else check
        for check in checks
    ]


def _ask_all(questions: Sequence[_Question]) -> list[Check]:
    began = time.monotonic()
    answers: dict[str, list[Check]] = {}
    with tempfile.TemporaryDirectory(prefix="pytest-llem-", ignore_cleanup_errors=True) as folder:
        # Daemons: one that sticks must not keep the others' answers from being printed.
        threads = [
            threading.Thread(
                target=_answer,
                args=(question, Path(folder) / f"{number}.log", began + _HELLO_S, answers),
                daemon=True,
            )
            for number, question in enumerate(questions)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, began + _LIMIT_S - time.monotonic()))
    return [row for q in questions for row in answers.get(q.row) or q.broken(_silence())]


def ask(
    name: str, transport: Transport, deadline: float, clock: Callable[[], float] = time.monotonic
) -> Check:
    """The row of a backend, by what its worker says first.

    Args:
        name: of the backend.
        transport: of a worker that nobody has spoken to yet; it is left running.
        deadline: by the clock.
        clock: in seconds; by it the transport waits.
    """
    try:
        return _judge(name, _first_frame(transport, deadline, clock))
    except WorkerError as error:
        return _broken(name, error.message)


def _answer(
    question: _Question, log: Path, deadline: float, answers: dict[str, list[Check]]
) -> None:
    """Start a worker, note its answer, and end it."""
    try:
        transport = start(Launch(backend=question.backend, log=log, role=question.role))
    except OSError as error:
        detail = f"its worker can't be started: {error}"
        fix = f'"{sys.executable}" -c "pass"  # this must work first'
        answers[question.row] = [Check(question.row, "problem", detail, fix)]
        return
    except importlib.metadata.PackageNotFoundError:
        detail = f"{_DISTRIBUTION} can be imported here but isn't installed"
        fix = f"pip install {_DISTRIBUTION}"
        answers[question.row] = [Check(question.row, "problem", detail, fix)]
        return
    try:
        answers[question.row] = question.judge(_first_frame(transport, deadline))
    except WorkerError as error:
        answers[question.row] = question.broken(error.message)
    finally:
        transport.stop(0.0)


def _first_frame(
    transport: Transport, deadline: float, clock: Callable[[], float] = time.monotonic
) -> dict[str, Any]:
    """What a worker says first.

    Raises:
        WorkerError: when it says nothing in time, ends, or can't be understood.
    """
    reader = FrameReader()
    while (left := deadline - clock()) > 0:
        data = transport.receive(left)
        if data == b"":
            raise WorkerError(_end(transport, left), kind="crashed")
        try:
            for frame in reader.feed(data or b""):
                return frame
        except (ValueError, RecursionError) as error:
            raise WorkerError(f"its worker isn't understood: {error}", kind="protocol") from error
    raise WorkerError(_silence(), kind="timeout")


def _end(transport: Transport, timeout_s: float) -> str:
    """How a worker ended that said nothing."""
    status = transport.wait(timeout_s)
    how = "it closed its output" if status is None else f"exit status {status}"
    if status is not None and status < 0:
        how = signal_name(-status)
    return f"its worker ended without an answer ({how}) {transport.log_tail(1)}".rstrip()


def _judge(name: str, frame: dict[str, Any]) -> Check:
    """The row for a worker that has spoken."""
    if frame["frame"] == "error":
        return _broken(name, str(frame.get("message")))
    versions = frame.get("versions")
    if frame["frame"] != "hello" or not isinstance(versions, dict):
        return _broken(name, "its worker didn't begin with a hello that names versions")
    missing = [package for package, version in versions.items() if version is None]
    found = [f"{package} {version}" for package, version in versions.items() if version]
    if missing:
        detail = f"{_MISSING}{', '.join(missing)}"
        return Check(_row(name), "problem", detail, str(frame.get("install")))
    return Check(_row(name), "ok", ", ".join(found) or "it names no versions")


def _silence() -> str:
    return f"its worker didn't answer within {_HELLO_S:g} s"


def _broken(name: str, detail: str) -> Check:
    """A row for a backend whose own code is at fault; its engine was not even asked for."""
    point = owner(BACKENDS, name)
    fix = f'python -c "import {point.module}"  # shows why'
    distribution = point.dist.name if point.dist else _DISTRIBUTION
    if distribution != _DISTRIBUTION:
        fix += f"\npip uninstall {distribution}  # if you don't need it"
    return Check(_row(name), "problem", detail[:_SHOWN], fix)


def _row(name: str) -> str:
    return f"backend {name}"
