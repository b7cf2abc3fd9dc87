"""How often rules for regressions are wrong: false alarms, and changes that they overlook.

Run it with: python perf/gate_power.py [--quick] [--trials N] [--json PATH]

Sessions are drawn from models of noise: cycles scatter about a level of their session, sessions
about the truth, some cycles are slow for reasons of their own, and some models warm up from cycle
to cycle. Every rule judges the same sessions. The budget is 5 %: an alarm at no change is false,
one at +10 % is right.

    ours             pytest_llem.results.compare, against all reference sessions
    mean:5%          the mean is more than 5 % above that of the latest reference, as in
                     pytest-benchmark
    Student, Welch   t-tests of cycles against those of the latest reference, 5 % two-sided, and
                     worse; the first with pooled variance, as in pyperf
    Mann-Whitney     of cycles against those of all references, 5 % two-sided, exact, and worse

The models and seeds were fixed before the rule, but for ``own sessions``, which perf/gate_noise.py
fitted to sessions that were measured later. The limits, at most 3.5 % false alarms and at least
88 % of +10 % found with 3 cycles and 5 references, are for the noise of ``reference``. So that
model is judged, and every other whose cycles, sessions and slow cycles scatter no more than its
own. On a machine that is noisier it takes more sessions to find as little, or A/B.

A second table is of A/B comparisons, on machines that drift: perf/paired_power.py.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from perf import paired_power
from pytest_llem.results.compare import Change, change, judged

BUDGET = 0.05
MOST_FALSE = 0.035
LEAST_FOUND = 0.88
SEED = 20_260_101
CHANGES = (0.0, 0.10)
SETTINGS = ((3, 1), (3, 5), (5, 5), (10, 5))
"""Cycles of a session, and reference sessions."""

Session = list[float]


@dataclass(frozen=True)
class Model:
    """Noise, relative: of a cycle, of a session, share and size of slow cycles, drift per cycle."""

    within: float
    between: float
    slow_share: float = 0.0
    slow: float = 0.0
    drift: float = 0.0

    def session(self, generator: random.Random, n: int, truth: float) -> Session:
        """Values of n cycles."""
        level = math.log(truth) + generator.gauss(0, self.between)
        return [
            math.exp(level + generator.gauss(0, self.within) + self.drift * cycle)
            * (1 + self.slow * (generator.random() < self.slow_share))
            for cycle in range(n)
        ]


OWN = Path(__file__).with_name("gate_noise.json")
"""Of perf/gate_noise.py."""

MODELS: Mapping[str, Model] = {
    "reference": Model(within=0.015, between=0.02, slow_share=0.05, slow=0.15),
    "quiet": Model(within=0.004, between=0.006, slow_share=0.01, slow=0.10),
    "noisy cycles": Model(within=0.03, between=0.01, slow_share=0.05, slow=0.15),
    "noisy sessions": Model(within=0.005, between=0.03, slow_share=0.02, slow=0.15),
    "warming up": Model(within=0.01, between=0.015, slow_share=0.02, slow=0.10, drift=0.01),
    "own sessions": Model(**json.loads(OWN.read_text())["model"]),
}


def beyond(model: Model) -> str:
    """In what a model is noisier than the limits suppose; empty where they are for it too.

    Drift isn't looked at: it is the same in every session, and so in none of the differences.
    """
    limit = MODELS["reference"]
    parts = {
        "cycles": (model.within, limit.within),
        "sessions": (model.between, limit.between),
        "slow cycles": (model.slow_share * model.slow, limit.slow_share * limit.slow),
    }
    return ", ".join(
        f"{name} {ours:.1%} > {theirs:.1%}"
        for name, (ours, theirs) in parts.items()
        if ours > theirs
    )


# --- the rules ------------------------------------------------------------------------------


def ours(current: Session, references: Sequence[Session]) -> bool:
    """The rule of the gate."""
    found = change(current, references, higher_is_better=False)
    assert isinstance(found, Change)
    return judged(found, BUDGET) == "worse"


def mean_percent(current: Session, references: Sequence[Session]) -> bool:
    """A mean against a mean, noise or not."""
    return statistics.fmean(current) > statistics.fmean(references[-1]) * (1 + BUDGET)


def student(current: Session, references: Sequence[Session]) -> bool:
    """Two samples of equal size with pooled variance."""
    a, b = current, references[-1]
    spread = (_variance(a) + _variance(b)) / len(a)
    return _beyond(a, b, spread, 2 * len(a) - 2)


def welch(current: Session, references: Sequence[Session]) -> bool:
    """Two samples with variances of their own, degrees of freedom by Welch and Satterthwaite."""
    a, b = current, references[-1]
    parts = [_variance(sample) / len(sample) for sample in (a, b)]
    freedom = sum(parts) ** 2 / sum(part**2 / (len(a) - 1) for part in parts)
    return _beyond(a, b, sum(parts), int(freedom))


def mann_whitney(current: Session, references: Sequence[Session]) -> bool:
    """Ranks of cycles; few of them can never be significant."""
    others = [value for session in references for value in session]
    u = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in current for b in others)
    return u >= _critical_u(len(current), len(others))


RULES: Mapping[str, Callable[[Session, Sequence[Session]], bool]] = {
    "ours": ours,
    "mean:5%": mean_percent,
    "Student": student,
    "Welch": welch,
    "Mann-Whitney": mann_whitney,
}

# Of Student's distribution at 97.5 %, for 1 to 18 degrees of freedom.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262),
    *(2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101),
)


def _beyond(a: Session, b: Session, spread: float, freedom: int) -> bool:
    difference = statistics.fmean(a) - statistics.fmean(b)
    return difference > _T[min(max(freedom, 1), len(_T)) - 1] * math.sqrt(spread)


def _variance(sample: Session) -> float:
    mean = math.fsum(sample) / len(sample)
    return math.fsum((value - mean) ** 2 for value in sample) / (len(sample) - 1)


@functools.cache
def _critical_u(m: int, n: int) -> float:
    """The least U whose upper tail has at most 2.5 %; infinite where none has."""
    counts = _counts(m, n)
    total, tail = math.comb(m + n, m), 0
    for u in range(m * n, -1, -1):
        tail += counts[u]
        if tail / total > 0.025:
            return float(u + 1) if u < m * n else math.inf
    return 0.0


@functools.cache
def _counts(m: int, n: int) -> tuple[int, ...]:
    """How many orders of m and n values have each U."""
    if m == 0 or n == 0:
        return (1,)
    found = [0] * (m * n + 1)
    # The greatest of all is one of the m, and above all n others, or one of the n.
    for u, count in enumerate(_counts(m - 1, n)):
        found[u + n] += count
    for u, count in enumerate(_counts(m, n - 1)):
        found[u] += count
    return tuple(found)


# --- the figures ----------------------------------------------------------------------------


def rates(name: str, n: int, sessions: int, trials: int) -> dict[str, list[float]]:
    """Share of alarms of each rule, for each true change."""
    found: dict[str, list[float]] = {rule: [] for rule in RULES}
    for true in CHANGES:
        generator = random.Random(f"{SEED}/{name}/{n}/{sessions}/{true}")
        alarms = dict.fromkeys(RULES, 0)
        for _ in range(trials):
            references = [MODELS[name].session(generator, n, 1.0) for _ in range(sessions)]
            current = MODELS[name].session(generator, n, 1.0 + true)
            for rule, alarm in RULES.items():
                alarms[rule] += alarm(current, references)
        for rule, count in alarms.items():
            found[rule].append(count / trials)
    return found


def report(trials: int) -> dict[str, Any]:
    """Everything, as plain JSON data."""
    rows: list[dict[str, Any]] = [
        {"model": name, "cycles": n, "references": b, "alarms": rates(name, n, b, trials)}
        for name in MODELS
        for n, b in SETTINGS
    ]
    beside = paired_power.report(trials)
    return {
        "schema_version": 1,
        "budget": BUDGET,
        "trials": trials,
        "seed": SEED,
        "models": {name: vars(model) for name, model in MODELS.items()},
        "rows": rows,
        "limits": {"false_alarms": MOST_FALSE, "found": LEAST_FOUND},
        "not_judged": {name: why for name, model in MODELS.items() if (why := beyond(model))},
        "paired": beside,
        "passed": all(_keeps(row) for row in rows) and beside["passed"],
    }


_JUDGED = (3, 5)
"""Cycles and references that the limits are for."""


def _is_judged(row: Mapping[str, Any]) -> bool:
    return (row["cycles"], row["references"]) == _JUDGED and not beyond(MODELS[row["model"]])


def _keeps(row: Mapping[str, Any]) -> bool:
    """Whether a row keeps the limits, or they aren't for it."""
    false, right = row["alarms"]["ours"]
    return not _is_judged(row) or (false <= MOST_FALSE and right >= LEAST_FOUND)


def show(data: Mapping[str, Any]) -> None:
    """Print the table, and what became of the limits."""
    print(f"% of {data['trials']:,} runs that fail, budget 5 %: at no change / at +10 %")
    print(f"{'noise':<16}{'cycles':>7}{'refs':>6}" + "".join(f"{rule:>16}" for rule in RULES))
    for row in data["rows"]:
        cells = (
            f"{false * 100:.1f} / {right * 100:.1f}" for false, right in row["alarms"].values()
        )
        print(
            f"{row['model']:<16}{row['cycles']:>7}{row['references']:>6}"
            + "".join(f"{cell:>16}" for cell in cells)
        )
    n, b = _JUDGED
    limits = f"{n} cycles, {b} references: at most {MOST_FALSE:.1%} false, {LEAST_FOUND:.0%} found"
    for row in data["rows"]:
        if _is_judged(row):
            print(f"{limits}, {row['model']!r}: {'kept' if _keeps(row) else 'NOT KEPT'}")
    for name, why in data["not_judged"].items():
        print(f"not judged, {name!r}: {why}, which the limits don't suppose")


def main() -> int:
    """Draw, judge, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="1,000 trials instead of 4,000")
    parser.add_argument("--trials", type=int, help="of each kind")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    options = parser.parse_args()
    data = report(options.trials or (1_000 if options.quick else 4_000))
    show(data)
    print()
    paired_power.show(data["paired"])
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0 if data["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
