"""All that a session collected, grouped for reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llem.records import Measurement, Summary, Verdict
from pytest_llem.results.gates import overall
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.statistics import summarise
from pytest_llem.results.steadiness import doubts

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
    """An experiment with all its cycles.

    Attributes:
        outcomes: one for each cycle: of its last try, should there be several.
        replaced: of the tries before that.
    """

    outcomes: tuple[Outcome, ...]
    gate: GateResult | None
    replaced: tuple[Outcome, ...] = ()

    @property
    def measurements(self) -> list[Measurement]:
        """Of the cycles that were measured."""
        return [o.measurement for o in self.outcomes if o.measurement]

    @property
    def summary(self) -> dict[str, Summary]:
        """Each metric over the measured cycles; empty when there are none."""
        return summarise(self.measurements)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against its figures: too few cycles, scatter, drift."""
        ordered = sorted(self.measurements, key=lambda measurement: measurement.cycle)
        return doubts(ordered)


@dataclass(frozen=True, slots=True)
class Collected:
    """Outcomes and gates in the order they came in.

    Attributes:
        outcomes: of a cycle there are several where something, such as pytest-rerunfailures,
            ran its test again.
    """

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
            key: _result(grouped.get(key, ()), gates.get(key))
            for key in [*grouped, *(key for key in gates if key not in grouped)]
        }


def _result(outcomes: Sequence[Outcome], gate: GateResult | None) -> ExperimentResult:
    """The last try of each cycle counts, as it does for the gate."""
    last = {outcome.cycle: outcome for outcome in outcomes}
    return ExperimentResult(
        outcomes=tuple(last.values()),
        gate=gate,
        replaced=tuple(outcome for outcome in outcomes if outcome is not last[outcome.cycle]),
    )
