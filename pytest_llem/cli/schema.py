"""``schema``: the JSON Schema of reports, or of studies."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from pytest_llem.reports.document import SCHEMA

__all__ = ["add_command", "run"]


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``schema`` to the commands."""
    parser = commands.add_parser(
        "schema",
        help="print the JSON Schema of reports or of studies",
        description="Print the JSON Schema of reports, or of studies with the backends that are"
        " installed.",
    )
    parser.add_argument("of", choices=("report", "study"), help="what it is the schema of")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print it."""
    if options.of == "report":
        text = SCHEMA.read_text(encoding="utf-8")
    else:
        # It takes pydantic, which the other commands do without.
        text = importlib.import_module("pytest_llem.study.json_schema").text()
    sys.stdout.write(f"{text.rstrip()}\n")
    return 0
