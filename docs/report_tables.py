"""Tables of a report's fields: what stands between two comments in report.md is made here."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from docs import report_shapes
from docs.report_schema import fields, kinds, meaning
from pytest_llem import records, traffic
from pytest_llem.demands import Limit, RunnerSpec
from pytest_llem.meters.gpu_state import GpuProcess, GpuState
from pytest_llem.reports import document
from pytest_llem.results.outcome import Outcome

__all__ = ["filled"]

_PART = re.compile(r"(<!-- fields of (\w+) -->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)

_HOMES = {
    "Environment": "environment",
    "ExperimentReport": "experiments",
    "SkippedPoint": "skipped-points",
    "GateReport": "gates",
    "MergedFrom": "merged-sessions",
    "GpuState": "state-of-a-gpu",
    "Idle": "idle-power",
    "TraceSummary": "power-trace",
    "Precision": "precision-and-phases",
    "Prefill": "precision-and-phases",
    "WarmUp": "precision-and-phases",
    "ToIdle": "reading",
    "RunnerSpec": "runner",
    "FixedGap": "gap",
    "ThermalGap": "gap",
    "GpuTestbed": "testbed",
    "Workload": "workload",
    "FileWorkload": "workload",
}
"""Headings of classes whose name is another."""

_PLAIN: Mapping[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    types.NoneType: "null",
}


def filled(page: str) -> str:
    """The page with its tables made anew."""
    return _PART.sub(lambda found: found[1] + _table(_class(found[2])) + found[3], page)


def _class(name: str) -> type:
    own: Mapping[str, Any] = {
        **vars(records),
        **vars(traffic),
        **vars(document),
        **vars(report_shapes),
        **{cls.__name__: cls for cls in (Limit, RunnerSpec, GpuState, GpuProcess, Outcome)},
    }
    found: type = own[name]
    return found


def _table(cls: type) -> str:
    lines = ["| field | type | meaning |", "| --- | --- | --- |"]
    for name, hint in fields(cls).items():
        # Between pipes one has to be written otherwise.
        cells = (f"`{name}`", _type(hint), meaning(cls, name))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _type(hint: Any) -> str:
    words = list(dict.fromkeys(_words(kind) for kind in kinds(hint)))
    words.sort(key="null".__eq__)
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _words(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin is tuple and args[-1] is Ellipsis:
        return f"list of {_plural(_type(args[0]))}"
    if origin is tuple:
        return f"list of {len(args)} {_plural(_type(args[0]))}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping" if args[1] is Any else f"mapping to {_plural(_type(args[1]))}"
    home = _HOMES.get(hint.__name__, hint.__name__.lower())
    return f"[mapping](#{home})" if home in _ANCHORS else "mapping"


_ANCHORS = frozenset(_HOMES.values()) | {
    "outcome",
    "measurement",
    "window",
    "reading",
    "figure",
    "traffic",
    "stages",
    "model",
    "conditions",
    "summary",
    "comparison",
    "limit",
    "verdict",
    "failure",
    "subject",
}


def _plural(kind: str) -> str:
    return re.sub(r"\b(text|mapping|number)\b(?!\()", r"\1s", kind)
