"""``compare``: reports beside each other, with the verdicts that gates would give."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llem.demands import Limit
from pytest_llem.records import Comparison, Judgement
from pytest_llem.reports.collected import COMPARED
from pytest_llem.results.references import Reference, load
from pytest_llem.results.regression import compared, judge_regression
from pytest_llem.study import budgets
from pytest_llem.wire import to_dict

__all__ = ["add_command", "run"]


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Add ``compare`` to the commands."""
    parser = commands.add_parser(
        "compare",
        help="reports of earlier sessions beside a later one",
        description="Compare the last report with all before it. Exit status 1 when a budget is"
        " broken, as a gate with --llem-compare would fail.",
    )
    parser.add_argument(
        "reports", nargs="+", type=Path, metavar="REPORT", help="a report, or a directory of them"
    )
    parser.add_argument(
        "--fail",
        action="append",
        default=[],
        metavar="METRIC:PERCENT",
        help="how much worse a metric may be; may be given several times",
    )
    parser.add_argument("--strict", action="store_true", help="inconclusive and skipped fail")
    parser.add_argument(
        "--allow-estimated", action="store_true", help="compare estimates, too, with --fail"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a line for each comparison; 1 when one fails, 2 for fewer than two reports."""
    *earlier, last = options.reports
    if not earlier:
        sys.stderr.write("error: name at least two reports; the last is compared with the others\n")
        return 2
    given = budgets.parse(options.fail, "--fail")
    references, current = load(earlier), load([last])
    rows = [
        {"study": study, "experiment": name, **row}
        for (study, name), now in current.each()
        for row in _rows(now, references.of(study, name), given, options)
    ]
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=1, allow_nan=False) + "\n")
    for row in () if options.json else rows:
        outcome = "" if row["outcome"] is None else f"{row['outcome']}: "
        name = f"{row['study']}::{row['experiment']}"
        sys.stdout.write(f"{name}: {outcome}{row['metric']}: {row['text']}\n")
    return 1 if any(row["outcome"] == "failed" for row in rows) else 0


def _rows(
    now: Reference,
    known: Sequence[Reference],
    given: Mapping[str, float],
    options: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """A row for each metric of an experiment, as plain data; without budgets nothing is judged."""
    for metric, budget in given.items():
        verdict = judge_regression(
            Limit(metric=metric, regression=budget),
            now.read(metric),
            compared(metric, now, known, budget=budget),
            allow_estimated=options.allow_estimated,
            strict=options.strict,
        )
        yield _row(metric, verdict.outcome, verdict.reason, verdict.comparison)
    for metric in () if given else COMPARED:
        found = compared(metric, now, known)
        if isinstance(found, str):
            yield _row(metric, None, found, None)
        else:
            yield _row(metric, None, found.text, found)


def _row(
    metric: str, outcome: Judgement | None, text: str, comparison: Comparison | None
) -> dict[str, Any]:
    plain = None if comparison is None else to_dict(comparison)
    return {"metric": metric, "outcome": outcome, "text": text, "comparison": plain}
