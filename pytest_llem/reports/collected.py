"""All that a session collected, grouped for reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llem.records import Measurement, Summary, Verdict
from pytest_llem.results.gates import overall
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.statistics import summarise

__all__ = ["Collected", "ExperimentResult", "GateResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """The verdicts of one gate."""

    study: str
    file: str
    node: str
    experiment: str
    cycles: int
    verdicts: tuple[Verdict, ...]

    @property
    def outcome(self) -> str:
        """``passed``, ``failed`` or ``skipped``."""
        return overall(self.verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResult:
    """An experiment with all its cycles."""

    outcomes: tuple[Outcome, ...]
    gate: GateResult | None

    @property
    def measurements(self) -> list[Measurement]:
        """Of the cycles that were measured."""
        return [o.measurement for o in self.outcomes if o.measurement]

    @property
    def summary(self) -> dict[str, Summary]:
        """Each metric over the measured cycles; empty when there are none."""
        return summarise(self.measurements)


@dataclass(frozen=True, slots=True)
class Collected:
    """Outcomes and gates in the order they came in."""

    outcomes: Sequence[Outcome]
    gates: Sequence[GateResult]

    def experiments(self) -> dict[tuple[str, str, str], ExperimentResult]:
        """(study, file, experiment) to what is known of it, in the order of first appearance."""
        grouped: dict[tuple[str, str, str], list[Outcome]] = {}
        for outcome in self.outcomes:
            key = (outcome.study, outcome.file, outcome.experiment)
            grouped.setdefault(key, []).append(outcome)
        gates = {(gate.study, gate.file, gate.experiment): gate for gate in self.gates}
        return {
            key: ExperimentResult(outcomes=tuple(grouped.get(key, ())), gate=gates.get(key))
            for key in [*grouped, *(key for key in gates if key not in grouped)]
        }
