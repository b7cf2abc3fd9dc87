"""``merge``: the reports of several sessions, each on a host of its own perhaps, as one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llem.errors import ResultsError
from pytest_llem.reports import files, json_report, terminal
from pytest_llem.reports.document import Report, read_report
from pytest_llem.reports.merged import Merged, merge
from pytest_llem.reports.rejudged import Judging
from pytest_llem.results.references import load, report_files
from pytest_llem.wire import checksum, to_dict

__all__ = ["add_command", "run"]


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``merge`` to the commands."""
    parser = commands.add_parser(
        "merge",
        help="reports of several sessions as one",
        description="Join the cycles of experiments that were measured on equal testbeds, keep all"
        " others apart, and judge gates over joined cycles again. Exit status 1 when a measurement"
        " or a gate failed, as one pytest over all would have, or nothing could be merged.",
    )
    parser.add_argument(
        "reports", nargs="+", type=Path, metavar="REPORT", help="a report, or a directory of them"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="write the report there")
    parser.add_argument(
        "--compare",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help="a report of earlier sessions, or a directory of them, to judge budgets for"
        " regressions by; may be given several times",
    )
    parser.add_argument("--strict", action="store_true", help="inconclusive and skipped fail")
    parser.add_argument("--allow-estimated", action="store_true", help="gates judge estimates, too")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Merge, print, and write; the exit status of one session over all."""
    output: Path | None = options.output
    if output is not None:
        files.check_writable(output)
    reports = _read(options.reports, output)
    judging = Judging(
        references=load(options.compare) if options.compare else None,
        allow_estimated=options.allow_estimated,
        strict=options.strict,
    )
    merged = merge(reports, judging)
    for line in (*terminal.lines(merged.collected), *merged.lines):
        sys.stdout.write(f"{line}\n")
    if output is not None:
        data = _document(merged, reports)
        files.write(output, json_report.text(data))
        sys.stdout.write(f"report: {output}\n")
    return merged.exit_status


def _read(paths: Sequence[Path], output: Path | None) -> list[Report]:
    """All reports.

    Raises:
        ResultsError: with a line for each that can't be read.
    """
    found, problems = [], []
    for path in report_files(paths):
        # What an earlier merge left in a directory is no shard of it.
        if output is not None and path not in paths and path.resolve() == output.resolve():
            continue
        try:
            found.append(read_report(path))
        except ResultsError as error:
            problems.append(str(error))
    if problems or not found:
        raise ResultsError("\nerror: ".join(problems) or "there is no report to merge")
    return found


def _document(merged: Merged, reports: Sequence[Report]) -> dict[str, Any]:
    """The merged report as plain JSON data."""
    notices = dict.fromkeys(line for report in reports for line in report.notices)
    points = dict.fromkeys(point for report in reports for point in report.skipped_points)
    names = sorted(one.session for one in merged.sessions)
    return json_report.document(
        merged.collected,
        session=f"merged-{checksum(names)[:8]}",
        environment=_common([one.environment for one in merged.sessions]),
        exit_status=merged.exit_status,
        notices=[*notices, *merged.lines],
        skipped_points=list(map(to_dict, points)),
        merged_from=merged.sessions,
    )


def _common(environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all sessions say alike; null where they differ: each one's own is in the report too."""
    first, *others = environments
    keys = dict.fromkeys(key for one in environments for key in one)
    return {
        key: first.get(key) if all(one.get(key) == first.get(key) for one in others) else None
        for key in keys
    }
