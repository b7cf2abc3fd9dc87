"""``export``: reports as a table, for spreadsheets, pandas and others."""

from __future__ import annotations

import argparse
import importlib
import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_llem.errors import LlemError
from pytest_llem.reports.document import read_report
from pytest_llem.reports.files import check_writable, write
from pytest_llem.reports.tables import TABLES, Table, as_csv

__all__ = ["add_command", "run"]

_PARQUET = 'pip install "pytest-llem[parquet]"'


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``export`` to the commands."""
    parser = commands.add_parser(
        "export",
        help="reports as a table: CSV or Parquet",
        description="Make one table of one or several reports of --llem-json.",
    )
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT", help="a report")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write it: a name that ends in .csv or .parquet; without it CSV is printed",
    )
    parser.add_argument(
        "--table",
        choices=TABLES,
        default="measurements",
        help="a row for each measurement (the default), for each figure of each measurement, or"
        " for each metric of each experiment over its cycles",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the table.

    Raises:
        LlemError: when a report can't be read, or the table not be written.
    """
    output: Path | None = options.output
    make = _maker(output)
    if output is not None:
        check_writable(output)
    table = TABLES[options.table]([read_report(path) for path in options.reports])
    made = make(table)
    if output is None:
        sys.stdout.write(made.decode())
        return 0
    write(output, made)
    rows = sum(1 for _ in table.rows)
    sys.stdout.write(f"Wrote {output}: {rows} rows, {len(table.columns)} columns\n")
    return 0


def _maker(output: Path | None) -> Callable[[Table], bytes]:
    """What makes the bytes of a file, by the end of its name."""
    suffix = ".csv" if output is None else output.suffix.lower()
    if suffix not in _MAKERS:
        accepted = " or ".join(_MAKERS)
        raise LlemError(f"{output}: the name must end in {accepted}, which says what is written")
    return _MAKERS[suffix]


def _csv(table: Table) -> bytes:
    return as_csv(table).encode()


def _parquet(table: Table) -> bytes:
    try:
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise LlemError(f"Parquet needs pyarrow ({error}); {_PARQUET}") from error
    columns = {}
    for name, values in table.columns.items():
        kind = arrow.float64() if name in table.numbers else None
        if kind is None and all(value is None for value in values):
            kind = arrow.string()  # a column of no type at all is more than most readers take
        columns[name] = arrow.array(values, kind)
    buffer = io.BytesIO()
    parquet.write_table(arrow.table(columns), buffer)
    return buffer.getvalue()


_MAKERS: Mapping[str, Callable[[Table], bytes]] = {".csv": _csv, ".parquet": _parquet}
