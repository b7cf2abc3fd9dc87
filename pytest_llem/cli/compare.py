"""``compare``: reports beside each other, with the verdicts that gates would give."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_llem.demands import Limit
from pytest_llem.records import Verdict
from pytest_llem.reports.collected import COMPARED
from pytest_llem.results.gates import overall
from pytest_llem.results.references import Reference, References, load
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
    references, current = load(earlier), load([last]).single()
    how = {"allow_estimated": options.allow_estimated, "strict": options.strict}
    rows = list(_rows(current, references, given, how))
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=1, allow_nan=False) + "\n")
    for row in () if options.json else rows:
        outcome = "" if row["outcome"] is None else f"{row['outcome']}: "
        name = f"{row['study']}::{row['experiment']}"
        sys.stdout.write(f"{name}: {outcome}{row['metric']}: {row['text']}\n")
    return 1 if any(row["outcome"] == "failed" for row in rows) else 0


def _rows(
    current: Mapping[tuple[str, str], Reference],
    references: References,
    given: Mapping[str, float],
    how: Mapping[str, bool],
) -> Iterator[dict[str, Any]]:
    """A row for each experiment and metric, as plain data."""
    for (study, name), now in current.items():
        known = references.of(study, name)
        for metric, budget in given.items():
            limit = Limit(metric=metric, regression=budget)
            yield {"study": study, "experiment": name, **_judged(limit, now, known, how)}
        for metric in () if given else COMPARED:
            found = compared(metric, now, known)
            text = found if isinstance(found, str) else found.text
            row = {"study": study, "experiment": name, "metric": metric, "outcome": None}
            comparison = None if isinstance(found, str) else to_dict(found)
            yield {**row, "text": text, "comparison": comparison}


def _judged(limit: Limit, now: Reference, known: Any, how: Mapping[str, bool]) -> dict[str, Any]:
    verdict: Verdict = judge_regression(
        limit, now, known, allow_estimated=how["allow_estimated"], strict=how["strict"]
    )
    return {
        "metric": limit.metric,
        "outcome": overall([verdict]),
        "text": verdict.reason,
        "comparison": None if verdict.comparison is None else to_dict(verdict.comparison),
    }
