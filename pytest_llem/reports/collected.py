"""All that a session collected, grouped for reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llem.records import Comparison, Judgement, Measurement, Summary, Verdict
from pytest_llem.results.gates import overall
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.references import Reference, References, of_outcomes
from pytest_llem.results.regression import compared
from pytest_llem.results.statistics import summarise
from pytest_llem.results.steadiness import doubts

__all__ = ["COMPARED", "Collected", "ExperimentResult", "GateResult"]

COMPARED = ("output_tokens_per_s", "energy_per_output_token_j")
"""What is compared where nobody asks for anything in particular."""


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
    def outcome(self) -> Judgement:
        """``passed``, ``failed`` or ``skipped``."""
        return overall(self.verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResult:
    """An experiment with all its cycles.

    Attributes:
        outcomes: one for each cycle: of its last try, should there be several.
        replaced: of the tries before that.
        references: the same experiment in earlier sessions; None where nothing is compared.
    """

    outcomes: tuple[Outcome, ...]
    gate: GateResult | None
    replaced: tuple[Outcome, ...] = ()
    references: Sequence[Reference] | None = None

    @property
    def measurements(self) -> list[Measurement]:
        """Of the cycles that were measured."""
        return [o.measurement for o in self.outcomes if o.measurement]

    @property
    def summary(self) -> dict[str, Summary]:
        """Each metric over the measured cycles; empty when there are none."""
        return summarise(self.measurements)

    @property
    def comparisons(self) -> dict[str, Comparison | str]:
        """Speed and energy beside earlier sessions, or why not; empty where nothing is compared.

        What a gate judged is with its verdict.
        """
        now = of_outcomes("now", self.outcomes)
        if self.references is None or now is None:
            return {}
        judged = {v.metric for v in self.gate.verdicts if v.comparison} if self.gate else set()
        return {
            metric: compared(metric, now, self.references)
            for metric in COMPARED
            if metric not in judged
        }

    @property
    def doubts(self) -> tuple[str, ...]:
        """What its cycles say against their median: scatter, drift."""
        ordered = sorted(self.measurements, key=lambda measurement: measurement.cycle)
        return doubts(ordered)


@dataclass(frozen=True, slots=True)
class Collected:
    """Outcomes and gates in the order they came in.

    Attributes:
        outcomes: of a cycle there are several where something, such as pytest-rerunfailures,
            ran its test again.
        references: earlier sessions; None where nothing is compared.
    """

    outcomes: Sequence[Outcome]
    gates: Sequence[GateResult]
    references: References | None = None

    def experiments(self) -> dict[tuple[str, str, str], ExperimentResult]:
        """(study, file, experiment) to what is known of it, in the order of first appearance."""
        grouped: dict[tuple[str, str, str], list[Outcome]] = {}
        for outcome in self.outcomes:
            key = (outcome.study, outcome.file, outcome.experiment)
            grouped.setdefault(key, []).append(outcome)
        gates = {(gate.study, gate.file, gate.experiment): gate for gate in self.gates}
        return {
            key: _result(grouped.get(key, ()), gates.get(key), self._references(key))
            for key in [*grouped, *(key for key in gates if key not in grouped)]
        }

    def _references(self, key: tuple[str, str, str]) -> Sequence[Reference] | None:
        study, _, experiment = key
        return None if self.references is None else self.references.of(study, experiment)


def _result(
    outcomes: Sequence[Outcome], gate: GateResult | None, references: Sequence[Reference] | None
) -> ExperimentResult:
    """The last try of each cycle counts, as it does for the gate."""
    last = {outcome.cycle: outcome for outcome in outcomes}
    return ExperimentResult(
        outcomes=tuple(last.values()),
        gate=gate,
        replaced=tuple(outcome for outcome in outcomes if outcome is not last[outcome.cycle]),
        references=references,
    )
