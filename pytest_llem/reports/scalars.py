"""Single values under names of their own, for reports of others: junit, pytest-json-report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_llem.records import Figure, Quality, Verdict
from pytest_llem.reports.collected import Collected

__all__ = ["of_figures", "of_session", "of_verdicts"]


def of_figures(figures: Mapping[str, Figure]) -> dict[str, float]:
    """``llem.<metric>`` to its value; what is missing is left out."""
    return {
        _key(name, figure.quality): figure.value
        for name, figure in figures.items()
        if figure.value is not None
    }


def of_verdicts(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """``llem.median.<metric>`` that was judged, and ``llem.change.<metric>`` (0.1: 10 % more)."""
    found = {}
    for verdict in verdicts:
        if verdict.measured is not None:
            found[_key(f"median.{verdict.metric}", verdict.quality)] = verdict.measured
        if verdict.comparison and verdict.comparison.change is not None:
            found[_key(f"change.{verdict.metric}", verdict.quality)] = verdict.comparison.change
    return found


def of_session(collected: Collected) -> dict[str, Any]:
    """How much was measured, how gates ended, and the medians of each experiment."""
    experiments = collected.experiments
    return {
        "measurements": sum(len(result.measurements) for result in experiments.values()),
        "gates": dict(Counter(gate.outcome for gate in collected.gates)),
        "experiments": [
            {
                "study": study,
                "file": file,
                "experiment": name,
                "measured": len(result.measurements),
                "gate": result.gate.outcome if result.gate else None,
                **{
                    _key(metric, summary.quality): summary.median
                    for metric, summary in result.summary.items()
                    if summary.median is not None
                },
            }
            for (study, file, name), result in experiments.items()
        ],
    }


def _key(name: str, quality: Quality) -> str:
    """An estimate must not pass for a measurement where only its name is seen."""
    return f"llem.estimated.{name}" if quality == "estimated" else f"llem.{name}"
