"""The two arms of an A/B comparison: a head beside a base that was measured in turns with it. Pure.

Of a cycle that only one arm measured nothing can be said; the others are pairs.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_llem.metrics import METRICS, show
from pytest_llem.records import Comparison, Figure
from pytest_llem.results.compare import Change, judged
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.paired import paired
from pytest_llem.results.references import Reference, changed_subject, changed_testbed, of_outcomes
from pytest_llem.results.regression import percent, size
from pytest_llem.results.statistics import summarise_figures

__all__ = ["Pairs", "of_arms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Cycles that were measured of both arms.

    Attributes:
        head: all of them.
        base: the same cycles, in the same order.
        each: head and base of each cycle.
        name: of the base, as a user would write it.
    """

    head: Reference
    base: Reference
    each: Mapping[int, tuple[Reference, Reference]]
    name: str

    def figures(self, metric: str) -> list[Figure]:
        """Those of both arms: a doubtful one casts doubt on the comparison, whosever it is."""
        return [*self.head.read(metric), *self.base.read(metric)]

    def compared(self, metric: str, budget: float | None = None) -> Comparison | str:
        """A metric beside the base; or why it can't be compared.

        Args:
            metric: its name.
            budget: 0.05 for 5 % worse; None to look without judging.
        """
        energy = METRICS[metric].uses_energy
        for cycle, (now, then) in self.each.items():
            if changed := changed_testbed(now, then, energy=energy):
                text = "; ".join(changed)
                return f"not compared, the testbeds of base and head differ in c{cycle}: {text}"
        base, head = self.base.values(metric), self.head.values(metric)
        if base is None or head is None:
            arm, reference = ("head", self.head) if head is None else ("base", self.base)
            reason = summarise_figures(reference.read(metric)).reason
            return f"not compared, unmeasured of the {arm}: {reason}"
        kinds = [arm.kind(metric) or "measured" for arm in (self.head, self.base)]
        if kinds[0] != kinds[1]:
            return f"not compared, one arm's is {kinds[0]} and the other's {kinds[1]}"
        found = paired(base, head, higher_is_better=METRICS[metric].higher_is_better)
        middle = statistics.median(base)
        if isinstance(found, str):
            text = "; ".join([f"inconclusive: {found}", *self._details()])
            return Comparison(reference=middle, sessions=0, outcome="inconclusive", text=text)
        low, high = found.range
        said = self._text(metric, statistics.median(head), middle, found, budget)
        return Comparison(
            reference=middle,
            sessions=0,
            outcome="kept" if budget is None else judged(found, budget),
            text="; ".join([said, *self._details()]),
            change=found.ratio - 1,
            noise=found.noise,
            detectable=found.detectable(budget or 0.0),
            pairs=found.n,
            low=low - 1,
            high=high - 1,
        )

    def _details(self) -> list[str]:
        """What differs between the arms, which is what the comparison is about."""
        changed = [f"with {text}" for text in changed_subject(self.head, self.base)]
        return [*(changed or ["versions are the same"]), f"base {self.name}"]

    def _text(
        self, metric: str, head: float, base: float, found: Change, budget: float | None
    ) -> str:
        unit = METRICS[metric].unit
        low, high = (f"{(ratio - 1) * 100:+.1f} %" for ratio in found.range)
        text = (
            f"{show(head, unit)}, the base {show(base, unit)}: pair by pair {size(found)}"
            f" ({found.n} pairs, 95 %: {low} to {high})"
        )
        if budget is not None:
            text += f", budget {percent(budget)}"
            if judged(found, budget) == "within noise":
                text += ": over it within noise, inconclusive"
        return f"{text}; finds {percent(found.detectable(budget or 0.0))} or more"


def of_arms(heads: Sequence[Outcome], bases: Sequence[Outcome]) -> Pairs | None:
    """The cycles that are measured in both; None where there is no such cycle."""
    head = {outcome.cycle: outcome for outcome in heads if outcome.measurement}
    base = {outcome.cycle: outcome for outcome in bases if outcome.measurement}
    cycles = sorted(head.keys() & base.keys())
    if not cycles:
        return None
    return Pairs(
        head=_reference([head[cycle] for cycle in cycles]),
        base=_reference([base[cycle] for cycle in cycles]),
        each={cycle: (_reference([head[cycle]]), _reference([base[cycle]])) for cycle in cycles},
        name=base[cycles[0]].runner.value,
    )


def _reference(outcomes: Sequence[Outcome]) -> Reference:
    found = of_outcomes("session", outcomes)
    assert found is not None
    return found
