"""``python -m pytest_llem COMMAND``: the commands beside pytest."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import Any

from pytest_llem.cli import compare, doctor, export, init, merge, report, schema
from pytest_llem.errors import LlemError

__all__ = ["commands", "main"]


def commands(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[Any]:
    """Add all commands to a parser."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    init.add_command(commands)
    doctor.add_command(commands)
    compare.add_command(commands)
    report.add_command(commands)
    export.add_command(commands)
    merge.add_command(commands)
    schema.add_command(commands)
    return commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m pytest_llem", description="Tools beside the pytest plugin."
    )
    commands(parser)
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path or a processor's name may hold what the terminal can't show.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status: int = options.run(options)
    except LlemError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell reports Ctrl-C
    return status


if __name__ == "__main__":
    sys.exit(main())
