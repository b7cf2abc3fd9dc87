"""How often A/B comparisons are wrong while the machine drifts; a part of perf/gate_power.py.

A session measures base and head, n cycles of each. Beside the noise of single cycles there is what
changes from measurement to measurement: a GPU that heats up, neighbours that come and go. Every
rule judges the same noise, budget 5 %:

    ours             pytest_llem.results.paired: pairs, which come first in turns
    paired t         the mean of the same pairs' differences, Student's t, 5 % two-sided
    Wilcoxon         signed ranks of the same differences, 5 % two-sided, exact
    Welch            the same cycles as two samples
    in succession    all of the base, then all of the head, as two jobs do; the rule of
                     --llem-compare with the first as its reference

The interval that ours states is to hold the true change.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llem.results.compare import Change, change, judged
from pytest_llem.results.paired import paired, student_t
from pytest_llem.study.schedule import base_first

__all__ = ["MODELS", "RULES", "Drift", "report", "show"]

BUDGET = 0.05
CHANGES = (0.0, 0.10)
CYCLES = (3, 4, 6)
MOST_FALSE = 0.035
LEAST_FOUND = 0.88
LEAST_COVERED = 0.93
JUDGED = ("reference", 4)
SEED = 20_260_102


@dataclass(frozen=True)
class Drift:
    """Noise of a measurement, relative, and what changes from one to the next.

    Attributes:
        within: of a measurement.
        slow_share: of measurements that are slow for reasons of their own, by ``slow``.
        steady: more with each measurement.
        heating: how much more in the end, and after how many measurements two thirds of it.
        walk: standard deviation of a random step with each measurement.
        step: once, at any time of the session.
    """

    within: float
    slow_share: float = 0.0
    slow: float = 0.0
    steady: float = 0.0
    heating: tuple[float, float] = (0.0, 1.0)
    walk: float = 0.0
    step: float = 0.0

    def session(self, generator: random.Random, count: int) -> list[float]:
        """Logarithms of consecutive measurements of one thing."""
        rise, time = self.heating
        walked, at = 0.0, generator.randrange(1, count)
        found = []
        for i in range(count):
            walked += generator.gauss(0, self.walk)
            level = self.steady * i + rise * (1 - math.exp(-i / time)) + walked
            slow = math.log1p(self.slow) * (generator.random() < self.slow_share)
            found.append(level + self.step * (i >= at) + generator.gauss(0, self.within) + slow)
        return found


MODELS: Mapping[str, Drift] = {
    "reference": Drift(within=0.015, slow_share=0.05, slow=0.15),
    "quiet": Drift(within=0.004, slow_share=0.01, slow=0.10),
    "noisy cycles": Drift(within=0.03, slow_share=0.05, slow=0.15),
    "drifting": Drift(within=0.01, slow_share=0.02, slow=0.10, steady=0.02),
    "drifting back": Drift(within=0.005, steady=-0.04),
    "heating up": Drift(within=0.01, slow_share=0.02, slow=0.10, heating=(0.15, 3.0)),
    "wandering": Drift(within=0.01, slow_share=0.02, slow=0.10, walk=0.015),
    "a step": Drift(within=0.01, slow_share=0.02, slow=0.10, step=0.10),
}


@dataclass(frozen=True)
class Session:
    """Values of base and head, as pairs and in succession."""

    base: Sequence[float]
    head: Sequence[float]
    first: Sequence[float]
    later: Sequence[float]

    @functools.cached_property
    def off(self) -> list[float]:
        """Differences of the pairs."""
        return [math.log(b / a) for a, b in zip(self.base, self.head, strict=True)]

    @functools.cached_property
    def paired(self) -> Change:
        """What our rule makes of it."""
        found = paired(self.base, self.head, higher_is_better=False)
        assert isinstance(found, Change)
        return found


def drawn(model: Drift, generator: random.Random, n: int, true: float) -> Session:
    """A session of n cycles whose head is so much worse."""
    noise = model.session(generator, 2 * n)
    pairs = [noise[i : i + 2] for i in range(0, 2 * n, 2)]
    pairs = [pair if base_first(cycle) else pair[::-1] for cycle, pair in enumerate(pairs, 1)]
    return Session(
        base=[math.exp(base) for base, _ in pairs],
        head=[math.exp(head) * (1 + true) for _, head in pairs],
        first=[math.exp(value) for value in noise[:n]],
        later=[math.exp(value) * (1 + true) for value in noise[n:]],
    )


# --- the rules ------------------------------------------------------------------------------


def ours(session: Session) -> bool:
    """The rule of the gate."""
    return judged(session.paired, BUDGET) == "worse"


def paired_t(session: Session) -> bool:
    """The mean of differences, of which nothing is known beforehand."""
    off = session.off
    width = _t(len(off) - 1) * math.sqrt(_variance(off) / len(off))
    return statistics.fmean(off) > max(width, math.log1p(BUDGET))


def wilcoxon(session: Session) -> bool:
    """Fewer than six pairs can never be significant."""
    off = session.off
    ranked = sorted(off, key=abs)
    against = sum(rank for rank, value in enumerate(ranked, 1) if value < 0)
    sums = _rank_sums(len(off))
    p = 2 * sum(total <= against for total in sums) / len(sums)
    return p <= 0.05 and statistics.median(off) > math.log1p(BUDGET)


@functools.cache
def _rank_sums(n: int) -> tuple[int, ...]:
    """Sums of the ranks of one sign, for all signs that n differences may have."""
    every = itertools.product((0, 1), repeat=n)
    return tuple(sum(rank * sign for rank, sign in enumerate(signs, 1)) for signs in every)


def welch(session: Session) -> bool:
    """Two samples, whoever was measured beside whom."""
    base, head = ([math.log(v) for v in values] for values in (session.base, session.head))
    parts = [_variance(values) / len(values) for values in (base, head)]
    freedom = sum(parts) ** 2 / sum(part**2 / (len(base) - 1) for part in parts)
    off = statistics.fmean(head) - statistics.fmean(base)
    return off > max(_t(int(freedom)) * math.sqrt(sum(parts)), math.log1p(BUDGET))


def in_succession(session: Session) -> bool:
    """The rule for sessions, of which the first is the reference."""
    found = change(session.later, [session.first], higher_is_better=False)
    assert isinstance(found, Change)
    return judged(found, BUDGET) == "worse"


RULES: Mapping[str, Callable[[Session], bool]] = {
    "ours": ours,
    "paired t": paired_t,
    "Wilcoxon": wilcoxon,
    "Welch": welch,
    "in succession": in_succession,
}


def _variance(sample: Sequence[float]) -> float:
    mean = math.fsum(sample) / len(sample)
    return math.fsum((value - mean) ** 2 for value in sample) / (len(sample) - 1)


def _t(freedom: int) -> float:
    """Quantile of 97.5 % of Student's distribution."""
    few = {1: 12.706, 2: 4.303, 3: 3.182}
    return few.get(freedom) or student_t(freedom)


# --- the figures ----------------------------------------------------------------------------


def rates(name: str, n: int, trials: int) -> tuple[dict[str, list[float]], float]:
    """Share of alarms of each rule for each true change; and of intervals that hold it."""
    found: dict[str, list[float]] = {rule: [] for rule in RULES}
    held = 0
    for true in CHANGES:
        generator = random.Random(f"{SEED}/{name}/{n}/{true}")
        alarms = dict.fromkeys(RULES, 0)
        for _ in range(trials):
            session = drawn(MODELS[name], generator, n, true)
            for rule, alarm in RULES.items():
                alarms[rule] += alarm(session)
            low, high = session.paired.range
            held += low <= 1 + true <= high
        for rule, count in alarms.items():
            found[rule].append(count / trials)
    return found, held / trials / len(CHANGES)


def report(trials: int) -> dict[str, Any]:
    """Everything, as plain JSON data."""
    rows: list[dict[str, Any]] = []
    for name in MODELS:
        for n in CYCLES:
            alarms, covered = rates(name, n, trials)
            rows.append({"model": name, "pairs": n, "alarms": alarms, "covered": covered})
    judged_by = next(row for row in rows if (row["model"], row["pairs"]) == JUDGED)
    kept = all(
        row["alarms"]["ours"][0] <= MOST_FALSE + _chance(MOST_FALSE, trials)
        and row["covered"] >= LEAST_COVERED - _chance(LEAST_COVERED, 2 * trials)
        for row in rows
    )
    found = judged_by["alarms"]["ours"][1]
    return {
        "budget": BUDGET,
        "trials": trials,
        "seed": SEED,
        "models": {name: vars(model) for name, model in MODELS.items()},
        "rows": rows,
        "limits": {"false_alarms": MOST_FALSE, "found": LEAST_FOUND, "covered": LEAST_COVERED},
        "passed": kept and found >= LEAST_FOUND - _chance(LEAST_FOUND, trials),
    }


def _chance(share: float, trials: int) -> float:
    """What a share may be off after few trials: two standard errors."""
    return 2 * math.sqrt(share * (1 - share) / trials)


def show(data: Mapping[str, Any]) -> None:
    """Print the table."""
    print(f"% of {data['trials']:,} A/B runs that fail, budget 5 %: at no change / at +10 %")
    head = f"{'drift':<16}{'pairs':>7}" + "".join(f"{rule:>16}" for rule in RULES)
    print(f"{head}{'interval holds':>18}")
    for row in data["rows"]:
        cells = (
            f"{false * 100:.1f} / {right * 100:.1f}" for false, right in row["alarms"].values()
        )
        print(
            f"{row['model']:<16}{row['pairs']:>7}"
            + "".join(f"{cell:>16}" for cell in cells)
            + f"{row['covered'] * 100:>18.1f}"
        )
    kept = "kept" if data["passed"] else "NOT KEPT"
    print(
        f"limits: at most {MOST_FALSE:.1%} false and the interval holds in {LEAST_COVERED:.0%},"
        f" whatever the drift; at least {LEAST_FOUND:.0%} found with {JUDGED[1]} pairs and noise of"
        f" {JUDGED[0]!r}, but for chance: {kept}"
    )
