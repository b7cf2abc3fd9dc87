"""The process that forked workers come from: it has imported an engine and meters, and run nothing.

A fork copies the thread that calls it and no other. Whatever another thread held or was about to
do is lost, and an engine's pool of threads (OpenMP's, say) waits in the child for members that it
doesn't have. So nothing is computed here, and before each fork this process looks at itself: with
a second thread, or with a device open, it refuses. Threads of a library that takes care of forks,
as OpenBLAS does, are gone after a first one, which is made for that.

Standard input is a socket of the host's. Its messages are JSON lines: ``fork`` brings the three
standard streams of a worker along, and is answered with ``forked`` and ``ended``, or with
``refused``. At its end, or when its starter is gone, this process ends too. Workers are watched
over by a process of their own, like all others.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pytest_llem.errors import LlemError
from pytest_llem.extensions import BACKENDS, METERS, Backend, find, names
from pytest_llem.worker import lifeline

__all__ = ["serve", "unfit"]

_STREAMS = 3
_MESSAGE_BYTES = 1 << 16
_TRIAL_S = 10.0
_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/")
_FAULT = 70
"""Exit status of a worker that didn't get as far as being one (EX_SOFTWARE of sysexits.h)."""

BeWorker = Callable[[Mapping[str, Any]], NoReturn]


def serve(backend: str, be_worker: BeWorker) -> NoReturn:
    """Import an engine, then fork workers until the host is gone.

    Args:
        backend: that has the engine.
        be_worker: what a child does, given a header; it doesn't return.
    """
    lifeline.die_with_starter()
    control = socket.socket(fileno=os.dup(0))
    with open(os.devnull) as null:  # noqa: PTH123  a descriptor is all that is wanted
        os.dup2(null.fileno(), 0)
    refused = _preload(backend)
    _send(control, "ready", refused=refused)
    while True:
        header, streams = _receive(control)
        refused = refused or unfit()
        if refused:
            _send(control, "refused", reason=refused)
        else:
            child = _fork(control, streams, header, be_worker)
            _close(streams)
            _send(control, "forked", pid=child)
            # Nothing else is asked meanwhile: an engine has its device to itself.
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            _send(control, "ended", pid=child, status=status)


def unfit(process: Path = Path("/proc/self")) -> str:
    """Why workers can't be forked from this process; empty where they can.

    Args:
        process: its folder in /proc.
    """
    threads = len(list((process / "task").iterdir()))
    if threads > 1:
        return f"it has {threads} threads, which a fork doesn't copy: parallel work ran in it"
    for entry in (process / "fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of this very look is gone
            if (target := str(entry.readlink())).startswith(_DEVICES):
                return f"it has a device open ({target}), which can't be shared by a fork"
    return ""


def _preload(name: str) -> str:
    """Import the engine; why no worker can be forked afterwards, empty where one can."""
    try:
        backend: Backend = find(BACKENDS, name)()
        if None in backend.versions().values():
            # The worker says so in its first words, with the fix.
            return ""
        backend.preload()
        for meter in names(METERS):
            # A meter that can't be imported is named by whoever wants it.
            with contextlib.suppress(LlemError):
                find(METERS, meter)
    except Exception as error:
        traceback.print_exc()
        return f"importing the engine failed: {type(error).__name__}: {error}"
    gc.collect()
    # What is imported stays: no child need look through it, and copy its pages by that.
    gc.freeze()
    return _trial() or unfit()


def _trial() -> str:
    """Fork once for nothing: libraries that mind forks end their threads for it."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    deadline = time.monotonic() + _TRIAL_S
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            return "a first fork of it hung"
        time.sleep(0.001)
    return ""


def _fork(
    control: socket.socket, streams: Sequence[int], header: Mapping[str, Any], be_worker: BeWorker
) -> int:
    """Fork a worker with standard streams of its own, in a session of its own; its pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        control.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        _close(streams)
        be_worker(header)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(_FAULT)


def _close(streams: Sequence[int]) -> None:
    for stream in streams:
        os.close(stream)


def _send(control: socket.socket, frame: str, **fields: Any) -> None:
    try:
        control.sendall(json.dumps({"frame": frame, **fields}).encode() + b"\n")
    except OSError:
        os._exit(lifeline.LOST)


def _receive(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The header of the next worker, and its streams; ends this process with its starter."""
    text, streams = b"", []
    while not text.endswith(b"\n"):
        part, found, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, _STREAMS)
        if not part:
            os._exit(0)
        text += part
        streams += found
    return dict(json.loads(text)["header"]), streams
