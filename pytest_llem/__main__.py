"""``python -m pytest_llem COMMAND``: the commands beside pytest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pytest_llem.cli import doctor

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m pytest_llem", description="Tools beside the pytest plugin."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    doctor.add_command(commands)
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        return 130  # as a shell reports Ctrl-C
    return status


if __name__ == "__main__":
    sys.exit(main())
