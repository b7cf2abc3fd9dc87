"""All that a session collected, grouped for reports."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llem.demands import Arm, Limit
from pytest_llem.records import Comparison, Judgement, Measurement, Summary, Verdict
from pytest_llem.results.arms import of_arms
from pytest_llem.results.gates import overall
from pytest_llem.results.mixed import mixed_subjects
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.references import Reference, References, of_outcomes
from pytest_llem.results.regression import compared
from pytest_llem.results.statistics import summarise
from pytest_llem.results.steadiness import doubts
from pytest_llem.results.testbeds import parts_of

__all__ = ["COMPARED", "Collected", "ExperimentResult", "GateResult", "apart", "base_name"]

COMPARED = ("output_tokens_per_s", "energy_per_output_token_j")
"""What is compared where nobody asks for anything in particular."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """The verdicts of one gate.

    Attributes:
        cycles: that were judged.
        limits: that they were judged by.
    """

    study: str
    file: str
    node: str
    experiment: str
    cycles: int
    verdicts: tuple[Verdict, ...]
    limits: tuple[Limit, ...] = ()

    @property
    def outcome(self) -> Judgement:
        """``passed``, ``failed`` or ``skipped``."""
        return overall(self.verdicts)


@dataclass(frozen=True, kw_only=True)
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

    @functools.cached_property
    def summary(self) -> dict[str, Summary]:
        """Each metric over the measured cycles; empty when there are none."""
        return summarise(self.measurements)

    @functools.cached_property
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

    @functools.cached_property
    def doubts(self) -> tuple[str, ...]:
        """What its cycles say against their median: scatter, drift, another engine."""
        made = [outcome for outcome in self.outcomes if outcome.measurement]
        made.sort(key=lambda outcome: (outcome.session or "", outcome.cycle))
        ordered = [outcome.measurement for outcome in made if outcome.measurement]
        if mixed := mixed_subjects(ordered):
            return (f"cycles of different versions: {mixed}; measure all anew", *doubts(ordered))
        return doubts(ordered)


@dataclass(frozen=True)
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

    @functools.cached_property
    def experiments(self) -> dict[tuple[str, str, str], ExperimentResult]:
        """(study, file, experiment) to what is known of it, in the order of first appearance.

        Cycles of different testbeds have no common figure. They are experiments of their own here,
        with what tells them apart behind their names.
        Of an A/B comparison the base stands under a name of its own, :func:`base_name`.
        """
        grouped: dict[tuple[str, str, str], list[Outcome]] = {}
        for outcome in self.outcomes:
            is_base = outcome.arm == "base"
            name = base_name(outcome.experiment) if is_base else outcome.experiment
            grouped.setdefault((outcome.study, outcome.file, name), []).append(outcome)
        gates = {(gate.study, gate.file, gate.experiment): gate for gate in self.gates}
        found = {}
        for (study, file, name), outcomes in grouped.items():
            base = grouped.get((study, file, base_name(name)))
            references = None if self.references is None else self.references.of(study, name)
            # A session has a single gate for all of them; it stands with the first.
            gate = gates.pop((study, file, name), None)
            for label, part in parts_of(outcomes).items():
                key = (study, file, apart(name, label))
                found[key] = _result(part, gates.pop(key, gate), references, base)
                gate = None
        return found | {key: _result((), gate, None) for key, gate in gates.items()}


def apart(experiment: str, label: str) -> str:
    """The name of an experiment's cycles of one testbed; of the only one it is the experiment's."""
    return f"{experiment} ({label})" if label else experiment


def base_name(experiment: str) -> str:
    """What the base of an experiment is called; no experiment can be called so."""
    return f"{experiment} (base)"


def _result(
    outcomes: Sequence[Outcome],
    gate: GateResult | None,
    references: Sequence[Reference] | None,
    base: Sequence[Outcome] | None = None,
) -> ExperimentResult:
    """The last try of each cycle counts, as it does for the gate."""
    last = _last(outcomes)
    of = [last[outcome.session, outcome.cycle] for outcome in outcomes]
    return ExperimentResult(
        outcomes=tuple(last.values()),
        gate=gate,
        replaced=tuple(
            tried for tried, kept in zip(outcomes, of, strict=True) if tried is not kept
        ),
        references=references,
        base=None if base is None else tuple(_last(base).values()),
    )


def _last(outcomes: Sequence[Outcome]) -> dict[tuple[str | None, int], Outcome]:
    return {(outcome.session, outcome.cycle): outcome for outcome in outcomes}
