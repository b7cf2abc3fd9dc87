"""The worker's protocol: hello, then a request, then phases and a result; more, if it says so.

Frames are JSON objects, one a line. Standard output belongs to them alone: what an engine
prints is sent to standard error. Worker to host: ``hello phase progress series result error``;
host to worker: ``request``, ``close`` to one that kept its engine, and ``heartbeat`` and ``cancel``
for the watch process. An engine's worker may also ask for a meter of the host, with
``meter_request window_start window_stop``; answers are ``meter_ready window_started readings``. One
in a container asks for its pids with ``pids_request``, and gets ``pids``.

Roles: ``engine`` makes a measurement; ``meter`` says which meters there are, and reads them for
windows of an engine that runs elsewhere (``beside``); ``template`` imports an engine, and forks
workers of the role ``engine``.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

from pytest_llem import __version__
from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import BACKENDS, Backend, find
from pytest_llem.gpus import greeting
from pytest_llem.records import Idle
from pytest_llem.wire import PROTOCOL, checksum, from_dict, to_dict
from pytest_llem.worker import lifeline
from pytest_llem.worker.beside import boot_id, describe_meters, serve_windows
from pytest_llem.worker.frames import Frames
from pytest_llem.worker.held import Held
from pytest_llem.worker.host_meter import Host, host_meters
from pytest_llem.worker.host_pids import HostPids
from pytest_llem.worker.measure import measure
from pytest_llem.worker.phases import Phases
from pytest_llem.worker.secret import take
from pytest_llem.worker.template import serve

__all__ = ["main"]


def main(header: Mapping[str, Any]) -> NoReturn:
    """Be a worker, or what workers are forked from."""
    if header["role"] == "template":
        serve(header["backend"], _work)
    _work(header)


def _work(header: Mapping[str, Any]) -> NoReturn:
    """Answer requests, and exit at once.

    The engine is closed by then; taking down an interpreter with torch in it would take time for
    nothing.
    """
    lifeline.guard(header.get("heartbeat_s"))
    status = _serve(Frames(), header)
    sys.stderr.flush()
    os._exit(status)


def _serve(frames: Frames, header: Mapping[str, Any]) -> int:
    """Hello, requests, results; returns the exit status."""
    try:
        if header["role"] == "meter":
            frames.send("hello", **_about(), meters=describe_meters())
            serve_windows(sys.stdin, frames.send)
            return 0
        return _measure_all(frames, _hello(frames, header))
    except Exception as error:
        traceback.print_exc()
        kind = "refused" if isinstance(error, LlemError) else type(error).__name__
        frames.send("error", kind=kind, message=str(error) or type(error).__name__)
        return 1


def _measure_all(frames: Frames, backend: Backend) -> int:
    """Answer requests: one, or as long as the engine is to be kept."""
    lines = iter(sys.stdin.readline, "")
    host = Host(frames.send, lines)
    held = None
    for line in lines:
        request = json.loads(line)
        if request["frame"] == "close":
            if held is not None:
                held.close(Phases(frames.send))
            return 0
        take(request.pop("secrets", {}))
        held = held or _held(backend, request, host)
        idle = None if request["idle"] is None else from_dict(Idle, request["idle"])
        measurement = measure(
            from_dict(Experiment, request["experiment"]),
            request["digest"],
            request["cycle"],
            held,
            frames.send,
            idle,
            keep=request["keep"],
            mode=request["worker"],
        )
        data = to_dict(measurement)
        frames.send("result", measurement=data, sha256=checksum(data))
        if not request["keep"]:
            return 0
    return lifeline.LOST


def _held(backend: Backend, request: Mapping[str, Any], host: Host) -> Held:
    """Nothing yet, with what the host can be asked for."""
    return Held(
        backend,
        functools.partial(host_meters, request["beside"], host),
        functools.partial(HostPids, host) if request["pids"] else None,
    )


def _hello(frames: Frames, header: Mapping[str, Any]) -> Backend:
    """Say who we are, and whether the engine is here; the host decides what follows."""
    name = header["backend"]
    backend: Backend = find(BACKENDS, name)()
    # An experiment on the CPU need not wait for the GPUs' driver.
    nvidia = {} if header.get("device") == "cpu" else {"nvidia": greeting()}
    frames.send(
        "hello",
        **_about(),
        **nvidia,
        backend=name,
        versions=dict(backend.versions()),
        install=backend.install,
    )
    return backend


def _about() -> dict[str, Any]:
    """What every hello says."""
    return {
        "protocol": PROTOCOL,
        "llem": __version__,
        "python": platform.python_version(),
        "boot_id": boot_id(),
    }
