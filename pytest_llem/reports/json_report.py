"""The whole session as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_llem.reports.collected import Collected, ExperimentResult, GateResult
from pytest_llem.reports.document import (
    SCHEMA_VERSION,
    ExperimentReport,
    GateReport,
    MergedFrom,
    NotCompared,
    Report,
    SkippedPoint,
)
from pytest_llem.results.steadiness import too_few
from pytest_llem.wire import from_dict, to_dict

__all__ = ["document", "text"]


def document(
    collected: Collected,
    *,
    session: str,
    environment: Mapping[str, Any],
    exit_status: int,
    notices: Sequence[str] = (),
    skipped_points: Sequence[Mapping[str, Any]] = (),
    merged_from: Sequence[MergedFrom] = (),
) -> dict[str, Any]:
    """Plain JSON data of a session.

    Args:
        collected: everything measured and judged.
        session: name of its results directory.
        environment: of the host.
        exit_status: of pytest.
        notices: what was said about runners, settings and order.
        skipped_points: points of grids that could not be measured, with reasons.
        merged_from: the sessions of a merged report.
    """
    report = Report(
        schema_version=SCHEMA_VERSION,
        session=session,
        exit_status=exit_status,
        environment=environment,
        measurements=tuple(collected.outcomes),
        experiments=tuple(
            _experiment(*key, result) for key, result in collected.experiments.items()
        ),
        notices=tuple(notices),
        skipped_points=tuple(from_dict(SkippedPoint, point) for point in skipped_points),
        gates=tuple(map(_gate, collected.gates)),
        merged_from=tuple(merged_from),
    )
    return to_dict(report)


def text(document: Mapping[str, Any]) -> Iterator[str]:
    """A report's file in many short parts: that of ten thousand measurements is hundreds of MB.

    Raises:
        ValueError: at a part that JSON has no word for, as is NaN.
    """
    yield from json.JSONEncoder(indent=1, allow_nan=False).iterencode(document)
    yield "\n"


def _experiment(study: str, file: str, name: str, result: ExperimentResult) -> ExperimentReport:
    return ExperimentReport(
        study=study,
        file=file,
        experiment=result.outcomes[0].experiment if result.arm else name,
        arm=result.arm,
        config=dict(result.outcomes[0].config) if result.outcomes else None,
        cycles=len(result.outcomes),
        measured=len(result.measurements),
        comparisons={
            metric: NotCompared(text=found) if isinstance(found, str) else found
            for metric, found in result.comparisons.items()
        },
        doubts=(*too_few(len(result.measurements)), *result.doubts),
        statistics=result.summary,
    )


def _gate(gate: GateResult) -> GateReport:
    return GateReport(
        study=gate.study,
        file=gate.file,
        node=gate.node,
        experiment=gate.experiment,
        cycles=gate.cycles,
        verdicts=gate.verdicts,
        outcome=gate.outcome,
        limits=gate.limits,
    )
