"""The whole session as one JSON document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_llem.reports.collected import Collected
from pytest_llem.results.steadiness import too_few
from pytest_llem.wire import to_dict

__all__ = ["SCHEMA_VERSION", "document"]

SCHEMA_VERSION = 1


def document(
    collected: Collected,
    *,
    session: str,
    environment: dict[str, Any],
    exit_status: int,
    notices: Sequence[str] = (),
    skipped_points: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Plain JSON data of a session.

    Args:
        collected: everything measured and judged.
        session: name of its results directory.
        environment: of the host.
        exit_status: of pytest.
        notices: what was said about runners, settings and order.
        skipped_points: points of grids that could not be measured, with reasons.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "session": session,
        "exit_status": exit_status,
        "environment": environment,
        "measurements": [to_dict(outcome) for outcome in collected.outcomes],
        "experiments": [
            {
                "study": study,
                "file": file,
                "experiment": result.outcomes[0].experiment if result.outcomes else experiment,
                "arm": result.arm,
                "config": dict(result.outcomes[0].config) if result.outcomes else None,
                "cycles": len(result.outcomes),
                "measured": len(result.measurements),
                "comparisons": {
                    metric: {"text": found} if isinstance(found, str) else to_dict(found)
                    for metric, found in result.comparisons.items()
                },
                "doubts": [*too_few(len(result.measurements)), *result.doubts],
                "statistics": {name: to_dict(s) for name, s in result.summary.items()},
            }
            for (study, file, experiment), result in collected.experiments().items()
        ],
        "notices": list(notices),
        "skipped_points": [dict(point) for point in skipped_points],
        "gates": [{**to_dict(gate), "outcome": gate.outcome} for gate in collected.gates],
    }
