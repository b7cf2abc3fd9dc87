"""Pytest sessions in processes forked from one that has imported what they all need.

Importing pytest, pydantic and the plugin is half of what a short session takes, and the tests here
run some thousand of them. A session begins as ``python -m pytest`` does: with the same search path,
environment, arguments and standard streams, and nothing that another session left behind, as the
process that it is forked from runs none.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["Template"]

_ENDLESS_S = 600.0
"""A session that takes so long hangs, and is killed."""

_LOADER = ("LD_LIBRARY_PATH", "LD_PRELOAD")
"""Variables that the dynamic loader reads as a process begins: a fork can't change what they do."""


class Template:
    """Starts sessions, one at a time."""

    def __init__(self) -> None:
        """Begin with nothing; the first session starts the process that others are forked from."""
        self._processes: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}

    def run(
        self, arguments: Sequence[str], out: Path, err: Path, environment: Mapping[str, str]
    ) -> int:
        """Run pytest here; its exit status, negative for a signal.

        Args:
            arguments: of pytest.
            out: file for its standard output.
            err: file for its standard error.
            environment: all its variables.
        """
        process = self._started(environment)
        assert process.stdin is not None
        assert process.stdout is not None
        request = {
            "arguments": list(arguments),
            "out": str(out),
            "err": str(err),
            "folder": str(Path.cwd()),
            "environment": dict(environment),
        }
        process.stdin.write(json.dumps(request).encode() + b"\n")
        pid = int(process.stdout.readline())
        if not select.select([process.stdout], [], [], _ENDLESS_S)[0]:
            os.kill(pid, signal.SIGKILL)
        return int(process.stdout.readline())

    def close(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.communicate()

    def _started(self, wanted: Mapping[str, str]) -> subprocess.Popen[bytes]:
        loader = tuple(wanted.get(name, "") for name in _LOADER)
        if loader not in self._processes:
            # Sessions get these folders as any program would, from their own environment; and the
            # token of whichever test came first would make this process one that it left behind.
            left_out = {"PYTHONPATH", "LLEM_TEST_TOKEN"}
            environment = {k: v for k, v in wanted.items() if k not in left_out}
            self._processes[loader] = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Nothing may wait in a buffer where nobody sees that it has come.
                bufsize=0,
                env=environment,
            )
        return self._processes[loader]


def _import_all() -> None:
    """What a session imports of pytest, of the plugin, and of what that needs."""
    wanted = ["pytest", "uuid", "yaml", "pydantic.type_adapter"]
    for package in ("_pytest", "pytest_llem.plugin"):
        wanted += [f"{package}.{name}" for name in _modules(package)]
    for name in wanted:
        with contextlib.suppress(ImportError):  # the SDK of Docker needn't be installed
            importlib.import_module(name)
    # What pydantic makes of a record's types takes as long as many an import.
    validate = importlib.import_module("pytest_llem.study.schema").validate
    for module, name in (("study.keys", "Execution"), ("experiment", "Experiment")):
        validate(getattr(importlib.import_module(f"pytest_llem.{module}"), name), {})
    # Pytest would warn that it comes too late to have a say in how the plugin is imported; this
    # word keeps it from wanting to.
    package_itself = sys.modules["pytest_llem"]
    package_itself.__doc__ = f"{package_itself.__doc__}PYTEST_DONT_REWRITE"


def _modules(package: str) -> Iterator[str]:
    return (
        module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__)
    )


def _serve() -> None:
    """Fork a session for each line, and answer with its pid, then with its exit status."""
    _import_all()
    # Sessions needn't look through all this for garbage.
    gc.collect()
    gc.freeze()
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
        _say(pid)
        _, status = os.waitpid(pid, 0)
        _say(os.waitstatus_to_exitcode(status))


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _become(request: Mapping[str, Any]) -> NoReturn:
    """Be the session: ``python -m pytest``."""
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT),
        (2, request["err"], os.O_WRONLY | os.O_CREAT),
    ):
        opened = os.open(path, flags, 0o666)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    added = os.environ.get("PYTHONPATH", "")
    sys.path[:1] = [request["folder"], *filter(None, added.split(os.pathsep))]
    sys.argv = ["-m", *request["arguments"]]
    runpy.run_module("pytest", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    _serve()
