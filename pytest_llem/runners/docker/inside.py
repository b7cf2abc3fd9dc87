"""What lives in a container that is kept, beside the workers: ``python3 -u -c`` this text.

``attend [SECONDS]`` answers questions of the session, a line of JSON each, on standard input and
output: how the GPUs are, and the end of all other processes. It ends with its standard input, or
when it hears nothing for so many seconds. Only one of them is in a container at a time; another one
says that it is ``busy``. Where it is the first process, the container ends with it.

``hold SECONDS`` is the first process of a container that outlives its session: it ends when it was
alone for so long.

Sent as text. The standard library of Python 3.7 is all it needs, and nothing of ours.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["attend", "hold"]

LOST = 75
_LOCK = "/tmp/.llem-attended"
_POLL_S = 30.0
_ROUNDS = 3
_UUID_BYTES = 96
_OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
"""Of control groups v2 and v1: both have a line ``oom_kill N``."""


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


def _gpus() -> dict[str, Any]:
    """Memory of all GPUs, and NVML's own number for what went wrong."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as absent:
        return {"missing": str(absent)}
    # Opened anew each time: a container that lost its GPUs finds out only so.
    error = library.nvmlInit_v2()
    if error:
        return _refused(library, error)
    try:
        count = ctypes.c_uint()
        error = library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        rows = []
        for index in range(0 if error else count.value):
            handle, memory = ctypes.c_void_p(), _Memory()
            uuid = ctypes.create_string_buffer(_UUID_BYTES)
            error = (
                library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
                or library.nvmlDeviceGetUUID(handle, uuid, _UUID_BYTES)
                or library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
            )
            if error:
                break
            row = {"uuid": uuid.value.decode(), "total": memory.total, "used": memory.used}
            rows.append(row)
        return _refused(library, error) if error else {"gpus": rows}
    finally:
        library.nvmlShutdown()


def _refused(library: Any, error: int) -> dict[str, Any]:
    library.nvmlErrorString.restype = ctypes.c_char_p
    return {"error": error, "words": (library.nvmlErrorString(error) or b"").decode()}


def _oom_kills() -> int:
    """Processes of this container that the kernel killed for want of memory so far."""
    for path in _OOM_COUNTERS:
        try:
            fields = [line.split() for line in Path(path).read_text().splitlines()]
        except OSError:
            continue
        return sum(int(field[1]) for field in fields if field[0] == "oom_kill")
    return 0


def _others() -> list[int]:
    """All processes but the first one and this one; those that ended don't count."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        pid = int(process.name)
        if pid not in (1, os.getpid()):
            try:
                state = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state not in "ZX":
                found.append(pid)
    return found


def _end_others() -> int:
    """Kill all of them, those too that are started meanwhile; returns how many were killed."""
    killed = set()
    deadline = time.monotonic() + 5.0
    rounds = 0
    while rounds < _ROUNDS and time.monotonic() < deadline:
        others = _others()
        rounds = 0 if others else rounds + 1
        for pid in others:
            try:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            except OSError:
                pass
        time.sleep(0.002)
    return len(killed)


def _answer(question: str) -> dict[str, Any]:
    if question == "gpus":
        return dict(_gpus(), oom_kills=_oom_kills())
    if question == "end":
        return {"killed": _end_others()}
    return {"oom_kills": _oom_kills()}


def _say(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def attend(patience_s: float | None) -> int:
    """Answer until nobody asks any more."""
    lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        _say({"busy": True})
        return 0
    _say({"ready": True})
    line = b""
    while True:
        ready, _, _ = select.select([0], [], [], patience_s)
        data = os.read(0, 1 << 16) if ready else b""
        if not data:
            return LOST
        *whole, line = (line + data).split(b"\n")
        for question in whole:
            if question:  # an empty line is a heartbeat
                _say(_answer(question.decode()))


def hold(idle_s: float) -> int:
    """Wait until this container was empty for so long."""
    seen_s = time.monotonic()
    while time.monotonic() - seen_s < idle_s:
        time.sleep(min(_POLL_S, idle_s / 4))
        if _others():
            seen_s = time.monotonic()
    return 0


def main() -> None:
    """Do what the arguments say."""
    # The first process of a container gets no signal that it doesn't ask for, and is the parent of
    # whatever lost its own.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    what, *seconds = sys.argv[1:]
    if what == "hold":
        os._exit(hold(float(seconds[0])))
    os._exit(attend(float(seconds[0]) if seconds else None))


if __name__ == "__main__":
    main()
