"""``doctor``: what works here, what doesn't, why, and the command that mends it."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_llem.cli import machine
from pytest_llem.cli.check import Check, as_json, as_text, is_well
from pytest_llem.cli.containers import check_containers
from pytest_llem.cli.engines import check_workers
from pytest_llem.runners.detect import Access, detect

__all__ = ["SILENT", "add_command", "check_results", "examine", "in_time", "run"]

_RESULTS = "results"
_LIMIT_S = 8.0

SILENT = Check(
    "docker",
    "problem",
    f"nobody could say within {_LIMIT_S:g} s whether Docker works",
    "docker info  # waits as long; then sudo systemctl restart docker",
)
"""The row for a daemon that accepts a question and doesn't answer it."""


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``doctor`` to the commands."""
    parser = commands.add_parser(
        "doctor",
        help="what works here, and the command that mends what doesn't",
        description="Say what works here and what doesn't. Exit status 1 when there is a problem.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="say all of what is no problem, too"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print all rows; 0 when there is no problem, else 1."""
    checks = examine()
    text = as_json(checks) if options.json else as_text(checks, whole=options.verbose)
    sys.stdout.write(f"{text}\n")
    return 0 if is_well(checks) else 1


def examine() -> list[Check]:
    """All rows, in the order they are shown."""
    root = Path("/")
    system = platform.system()
    # Meanwhile the workers are asked: each may take all the time there is.
    containers = in_time(lambda: check_containers(detect()), SILENT, _LIMIT_S)
    return [
        machine.check_python(sys.version_info[:3], sys.executable),
        machine.check_platform(system, platform.release(), platform.machine()),
        # Pipes can't be waited for there, so no worker could be asked.
        *([] if system == "Windows" else check_workers()),
        machine.check_cpu(root, platform.machine()),
        machine.check_gpus(root),
        *containers(),
        check_results(Path.cwd()),
    ]


def in_time(
    look: Callable[[], list[Check]], silent: Check, limit_s: float
) -> Callable[[], list[Check]]:
    """Begin to look; what is returned waits for the rows, and has another one after a time."""
    found: list[Check] = []

    def begin() -> None:
        found.extend(look())

    # A daemon: one that waits for ever keeps nobody from going home.
    thread = threading.Thread(target=begin, daemon=True)
    deadline_s = time.monotonic() + limit_s
    thread.start()

    def rows() -> list[Check]:
        thread.join(max(0.0, deadline_s - time.monotonic()))
        return list(found) or [silent]

    return rows


def check_results(folder: Path, access: Access = os.access) -> Check:
    """Whether pytest, run in a folder, could keep its results there."""
    results = folder / _RESULTS
    if results.exists() and not results.is_dir():
        detail = f"{results} is not a directory"
        return Check("results", "problem", detail, f'mv "{results}" "{results}.old"')
    place = results if results.exists() else folder
    if not access(place, os.W_OK | os.X_OK):
        # The folder itself may be anyone's, the system's too: it is left alone.
        own = 'chown -R "$USER"' if results.exists() else 'install -d -o "$USER"'
        fix = f'sudo {own} "{results}"\n# or set llem_results_dir in the ini file'
        return Check("results", "problem", f"this user may not write in {place}", fix)
    return Check("results", "ok", f"{results} can be written")
