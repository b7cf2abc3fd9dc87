"""``schema``: the JSON Schema of reports, or of studies."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pytest_llem.reports.document import SCHEMA
from pytest_llem.study import json_schema

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
    text = SCHEMA.read_text(encoding="utf-8") if options.of == "report" else json_schema.text()
    sys.stdout.write(f"{text.rstrip()}\n")
    return 0
