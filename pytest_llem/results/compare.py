"""Whether an experiment became worse than it was: a rule that knows noise from change. Pure.

All is done on logarithms: a change is a ratio, and noise is relative. With c the median of the
current cycles, b the medians of B reference sessions, and the sign such that more is worse:

    r  = c − median(b)
    w² = variance within a session: w is 1.4826/√2 times the median distance of two cycles of a
         session, over all pairs of all sessions, at least 1 %
    t² = (3·t₀² + (B − 1)·s²) / (3 + B − 1), the variance between sessions: s² is that of the b, and
         t₀ = 2 % stands for what a few sessions can't tell, with the weight of three of them
    SE² = t²·(1 + π/2B) + π/2·w²/n

A regression is r > ln(1 + budget) and r > 1.96·SE. π/2 is how much wider a median scatters than a
mean (of normal noise, many values). The session that is judged has a t of its own: more cycles
don't make it smaller, which a t-test of cycles against cycles takes no notice of.
perf/gate_power.py shows what that amounts to, and how often this rule is wrong.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["FEWEST", "Change", "Verdict", "change", "judged", "scatter"]

FEWEST = 3
"""Cycles that a session needs to be compared."""

Verdict = Literal["kept", "within noise", "worse"]

_WITHIN_LEAST = 0.01
_BETWEEN_FIRST = 0.02
_BETWEEN_WEIGHT = 3
_OF_MEDIAN = math.pi / 2
_MAD = 1.4826
_BEYOND = 1.96
_POWER = 0.8416
"""Of the normal distribution: the quantile of 80 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How a metric stands to what it was.

    Attributes:
        ratio: of the current cycles to what they are compared with.
        worse: its logarithm, positive for worse.
        noise: standard error of that.
        n: current cycles.
        sessions: references; 0 where the base was measured in this session.
        beyond: how many standard errors tell a change from noise.
    """

    ratio: float
    worse: float
    noise: float
    n: int
    sessions: int = 0
    beyond: float = _BEYOND

    @property
    def range(self) -> tuple[float, float]:
        """Ratios that differ from this one by no more than noise."""
        width = math.exp(self.beyond * self.noise)
        return self.ratio / width, self.ratio * width

    def detectable(self, budget: float) -> float:
        """The smallest worsening that would fail with 80 % probability, relative: 0.1 for 10 %."""
        return math.expm1(max(math.log1p(budget), self.beyond * self.noise) + _POWER * self.noise)


def change(
    current: Sequence[float], references: Sequence[Sequence[float]], *, higher_is_better: bool
) -> Change | str:
    """Compare cycles with those of earlier sessions; or why that can't be done.

    Args:
        current: a value of each cycle.
        references: the same of each session; those of too few cycles are left out.
        higher_is_better: of the metric.
    """
    long = [session for session in references if len(session) >= FEWEST]
    if len(current) < FEWEST or not long:
        fewest = len(current) if len(current) < FEWEST else max(map(len, references), default=0)
        whose = "" if len(current) < FEWEST else " of the reference"
        return f"{fewest} cycles{whose} are too few to compare; it takes {FEWEST}"
    if min(itertools.chain(current, *long)) <= 0:
        return "values of zero or less have no ratio"
    now, *then = ([math.log(value) for value in session] for session in (current, *long))
    difference = statistics.median(now) - statistics.median(map(statistics.median, then))
    return Change(
        ratio=math.exp(difference),
        worse=-difference if higher_is_better else difference,
        noise=_noise(now, then),
        n=len(current),
        sessions=len(long),
    )


def judged(found: Change, budget: float) -> Verdict:
    """Whether a change keeps a budget, 0.05 for 5 %, or breaks it beyond noise."""
    if found.worse <= math.log1p(budget):
        return "kept"
    return "worse" if found.worse > found.beyond * found.noise else "within noise"


def _noise(now: Sequence[float], then: Sequence[Sequence[float]]) -> float:
    """Standard error of the difference; all values are logarithms."""
    medians = [statistics.median(session) for session in then]
    spread = statistics.variance(medians) if len(medians) > 1 else 0.0
    more = len(medians) - 1
    between = (_BETWEEN_WEIGHT * _BETWEEN_FIRST**2 + more * spread) / (_BETWEEN_WEIGHT + more)
    within = max(_WITHIN_LEAST, scatter([now, *then])) ** 2
    of_sessions = between * (1 + _OF_MEDIAN / len(medians))
    return math.sqrt(of_sessions + _OF_MEDIAN * within / len(now))


def scatter(sessions: Sequence[Sequence[float]]) -> float:
    """Standard deviation of the cycles of a session, that some slow ones leave as it is.

    Of pairs, not about the median, as one of three cycles is the median itself: its distance of
    zero would make noise seem half of what it is.

    Args:
        sessions: logarithms, two at least of each.
    """
    apart = [
        abs(one - other)
        for session in sessions
        for one, other in itertools.combinations(session, 2)
    ]
    return _MAD / math.sqrt(2) * statistics.median(apart)
