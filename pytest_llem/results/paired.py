"""Whether a head is worse than a base that was measured beside it, pair by pair. Pure.

A pair is a cycle of each, one right after the other. What drifts over a session (temperature,
clocks, what else runs) is in both, and gone from their difference; what still changes between the
two of a pair has one sign where the base came first and the other where the head did, which takes
turns (:func:`pytest_llem.study.schedule.base_first`).

With x the n differences of logarithms, head − base:

    r  = the median of all means of two of the x, each with itself too (Hodges and Lehmann): as sure
         as a mean where noise is normal, and not led astray by one slow cycle
    s² = (2·x₀² + (n − 1)·var(x)) / (2 + n − 1): few pairs tell little of their scatter, so
         x₀ = 3 % counts as much as two more of them
    SE² = s²/n

The interval for the change is r ± t·SE, with Student's t of 2 + n − 1 degrees of freedom and 95 %;
a regression is r > ln(1 + budget) with an interval that is all worse. x₀ and its weight are the
least with which the interval keeps its word, at 3 pairs already, for all noise that
perf/gate_power.py knows; it shows how often the rule is wrong, too.

(J. L. Hodges, E. L. Lehmann, "Estimates of Location Based on Rank Tests", Annals of Mathematical
Statistics 34, 1963. The variance is that of G. K. Smyth, "Linear Models and Empirical Bayes
Methods", Statistical Applications in Genetics and Molecular Biology 3, 2004, with a prior that is
given.)
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from pytest_llem.results.compare import FEWEST, Change

__all__ = ["paired", "student_t"]

_FIRST = 0.03
_WEIGHT = 2
_Z = 1.959964
"""Of the normal distribution: the quantile of 97.5 %."""


def paired(base: Sequence[float], head: Sequence[float], *, higher_is_better: bool) -> Change | str:
    """Compare cycles with those of a base, pair by pair; or why that can't be done.

    Args:
        base: a value of each pair.
        head: the same, in the same order.
        higher_is_better: of the metric.
    """
    if len(head) < FEWEST:
        many = "1 pair of cycles is" if len(head) == 1 else f"{len(head)} pairs of cycles are"
        return f"{many} too few to compare; it takes {FEWEST}"
    if min(*base, *head) <= 0:
        return "values of zero or less have no ratio"
    off = [math.log(now / then) for then, now in zip(base, head, strict=True)]
    middle = statistics.median(
        (one + other) / 2 for one, other in itertools.combinations_with_replacement(off, 2)
    )
    more = len(off) - 1
    variance = (_WEIGHT * _FIRST**2 + more * statistics.variance(off)) / (_WEIGHT + more)
    return Change(
        ratio=math.exp(middle),
        worse=-middle if higher_is_better else middle,
        noise=math.sqrt(variance / len(off)),
        n=len(off),
        beyond=student_t(_WEIGHT + more),
    )


def student_t(freedom: int) -> float:
    """The quantile of 97.5 % of Student's distribution; to 0.001 from 4 degrees of freedom on.

    (M. Abramowitz, I. A. Stegun, "Handbook of Mathematical Functions", 1964, 26.7.5.)
    """
    z, v = _Z, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )
