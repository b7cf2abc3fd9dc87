"""``doctor``: what works here, what doesn't, why, and the command that mends it."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path
from typing import Any

from pytest_llem.cli import machine
from pytest_llem.cli.check import Check, as_json, as_text, is_well
from pytest_llem.cli.containers import check_containers
from pytest_llem.cli.engines import check_workers
from pytest_llem.runners.detect import Access, detect

__all__ = ["add_command", "check_results", "examine", "run"]

_RESULTS = "results"


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``doctor`` to the commands."""
    parser = commands.add_parser(
        "doctor",
        help="what works here, and the command that mends what doesn't",
        description="Say what works here and what doesn't. Exit status 1 when there is a problem.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print all rows; 0 when there is no problem, else 1."""
    checks = examine()
    sys.stdout.write((as_json if options.json else as_text)(checks) + "\n")
    return 0 if is_well(checks) else 1


def examine() -> list[Check]:
    """All rows, in the order they are shown."""
    root = Path("/")
    system = platform.system()
    return [
        machine.check_python(sys.version_info[:3], sys.executable),
        machine.check_platform(system, platform.release(), platform.machine()),
        # Pipes can't be waited for there, so no worker could be asked.
        *([] if system == "Windows" else check_workers()),
        machine.check_cpu(root, platform.machine()),
        machine.check_gpus(root),
        *check_containers(detect()),
        check_results(Path.cwd()),
    ]


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
