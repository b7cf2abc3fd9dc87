"""``report``: pages for people, made of a JSON report that is there already."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pytest_llem.errors import ResultsError
from pytest_llem.reports import files, html_report, markdown
from pytest_llem.reports.document import Report, read_report
from pytest_llem.results import raw

__all__ = ["add_command", "run"]


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``report`` to the commands."""
    parser = commands.add_parser(
        "report",
        help="an HTML page or Markdown of a JSON report",
        description="Make pages for people of a report that --llem-json or --llem-save wrote.",
    )
    parser.add_argument("report", type=Path, metavar="REPORT", help="a JSON report")
    parser.add_argument("--html", type=Path, metavar="PATH", help="write an HTML page")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write Markdown")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="directory of the session's results, for power over time and single requests; looked"
        " for near the report and in results/ if not given",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write what is asked for; 2 where nothing is."""
    if options.html is None and options.markdown is None:
        sys.stderr.write("error: name what to write: --html PATH, --markdown PATH\n")
        return 2
    report = read_report(options.report)
    if options.html is not None:
        if missing := html_report.missing():
            raise ResultsError(f"--html {missing}")
        files.write(options.html, html_report.page(report, _series(report, options)))
    if options.markdown is not None:
        files.write(options.markdown, markdown.page(report))
    for path in filter(None, (options.html, options.markdown)):
        sys.stdout.write(f"{path}\n")
    return 0


def _series(report: Report, options: argparse.Namespace) -> dict[str, raw.Series]:
    near = options.report.resolve().parent
    around = [options.results] if options.results else [near, near.parent, Path()]
    wanted = html_report.wanted(report)
    found = raw.read_all(wanted, raw.folders(report.session, around))
    if options.results and not found and any(outcome.raw for outcome in wanted.values()):
        raise ResultsError(f"{options.results}: no results of session {report.session} are there")
    return found
