"""All that a session collected, grouped for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_llem.demands import Arm
from pytest_llem.records import Comparison, Judgement, Measurement, Summary, Verdict
from pytest_llem.results.arms import of_arms
from pytest_llem.results.gates import overall
from pytest_llem.results.mixed import mixed_subjects
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.references import Reference, References, of_outcomes
from pytest_llem.results.regression import compared
from pytest_llem.results.statistics import summarise
from pytest_llem.results.steadiness import doubts

__all__ = ["COMPARED", "Collected", "ExperimentResult", "GateResult", "base_name"]

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
        base: outcomes of what it is compared with; None where that isn't measured.
    """

    outcomes: tuple[Outcome, ...]
    gate: GateResult | None
    replaced: tuple[Outcome, ...] = ()
    references: Sequence[Reference] | None = None
    base: tuple[Outcome, ...] | None = None

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
        """Speed and energy beside earlier sessions or the base, or why not.

        Empty where nothing is compared; what a gate judged is with its verdict.
        """
        judged = {v.metric for v in self.gate.verdicts if v.comparison} if self.gate else set()
        wanted = [metric for metric in COMPARED if metric not in judged]
        if self.base is not None:
            pairs = of_arms(self.outcomes, self.base)
            return {metric: pairs.compared(metric) for metric in wanted} if pairs else {}
        now = of_outcomes("now", self.outcomes)
        if self.references is None or now is None:
            return {}
        return {metric: compared(metric, now, self.references) for metric in wanted}

    @property
    def arm(self) -> Arm | None:
        """Of an A/B comparison."""
        return self.outcomes[0].arm if self.outcomes else None

    @property
    def doubts(self) -> tuple[str, ...]:
        """What its cycles say against their median: scatter, drift, another engine."""
        ordered = sorted(self.measurements, key=lambda measurement: measurement.cycle)
        if mixed := mixed_subjects(ordered):
            return (f"cycles of different versions: {mixed}; measure all anew", *doubts(ordered))
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
        """(study, file, experiment) to what is known of it, in the order of first appearance.

        Of an A/B comparison the base stands under a name of its own, :func:`base_name`.
        """
        grouped: dict[tuple[str, str, str], list[Outcome]] = {}
        for outcome in self.outcomes:
            is_base = outcome.arm == "base"
            name = base_name(outcome.experiment) if is_base else outcome.experiment
            grouped.setdefault((outcome.study, outcome.file, name), []).append(outcome)
        gates = {(gate.study, gate.file, gate.experiment): gate for gate in self.gates}
        return {
            key: self._result(key, grouped, gates.get(key))
            for key in [*grouped, *(key for key in gates if key not in grouped)]
        }

    def _result(
        self,
        key: tuple[str, str, str],
        grouped: Mapping[tuple[str, str, str], Sequence[Outcome]],
        gate: GateResult | None,
    ) -> ExperimentResult:
        """The last try of each cycle counts, as it does for the gate."""
        study, file, name = key
        outcomes = grouped.get(key, ())
        base = grouped.get((study, file, base_name(name)))
        last = _last(outcomes)
        return ExperimentResult(
            outcomes=tuple(last.values()),
            gate=gate,
            replaced=tuple(outcome for outcome in outcomes if outcome is not last[outcome.cycle]),
            references=None if self.references is None else self.references.of(study, name),
            base=None if base is None else tuple(_last(base).values()),
        )


def base_name(experiment: str) -> str:
    """What the base of an experiment is called; no experiment can be called so."""
    return f"{experiment} (base)"


def _last(outcomes: Sequence[Outcome]) -> dict[int, Outcome]:
    return {outcome.cycle: outcome for outcome in outcomes}
