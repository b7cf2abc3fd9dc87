"""Gates: whether an experiment keeps the limits its study sets. Pure.

| situation | verdict |
| --- | --- |
| limit kept / violated | passed / failed |
| k of n cycles failed | failed, with the first cause |
| all cycles skipped | skipped; strict: failed |
| some cycles skipped | the others are judged, and how many they are is said; strict: failed |
| cycles of different testbeds | failed |
| metric null | failed, with the reason |
| metric estimated and estimates not allowed | skipped; strict: failed |
| metric shared with other measurements of the host | skipped; strict: failed |
| reading short or degraded | judged, with a line; strict: failed |

Budgets for regressions are judged by :mod:`.regression`; beside a base also

| situation | verdict of the budgets |
| --- | --- |
| k of n cycles of the base failed | failed, with the first cause |
| no cycle of the base was measured, or none of both | skipped; strict: failed |
| some cycles of the base were skipped | the other pairs are judged; strict: failed |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_llem.demands import Limit
from pytest_llem.metrics import METRICS, show
from pytest_llem.records import Judgement, Summary, Verdict
from pytest_llem.results.arms import Pairs, of_arms
from pytest_llem.results.mixed import mixed_testbeds
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.references import Reference, of_outcomes
from pytest_llem.results.regression import compared, judge_regression
from pytest_llem.results.statistics import summarise_figures

__all__ = ["judge", "judge_limit", "overall", "without_cycles"]


def judge(
    limits: Sequence[Limit],
    outcomes: Sequence[Outcome],
    references: Sequence[Reference] = (),
    *,
    base: Sequence[Outcome] | None = None,
    allow_estimated: bool,
    strict: bool,
) -> tuple[Verdict, ...]:
    """Judge all limits of an experiment by its cycles.

    Args:
        limits: of the study.
        outcomes: of the selected cycles, one at least.
        references: the same experiment in earlier sessions.
        base: of an A/B comparison, the selected cycles of the other arm; None where there is none.
        allow_estimated: judge estimated figures as if they were measured.
        strict: whatever isn't a clean pass fails.
    """
    causes = [cause for outcome in outcomes if (cause := _cause(outcome, strict=strict))]
    if causes:
        reason = f"{len(causes)} of {len(outcomes)} cycles failed: {causes[0]}"
        return (without_cycles("failed", reason, limits),)
    measured = [outcome.measurement for outcome in outcomes if outcome.measurement]
    if not measured:
        reason = f"all cycles were skipped: {outcomes[0].skipped}"
        return (without_cycles("failed" if strict else "skipped", reason, limits),)
    if strict and len(measured) < len(outcomes):
        reason = f"{len(outcomes) - len(measured)} of {len(outcomes)} cycles were skipped"
        return (without_cycles("failed", reason, limits),)
    for arm in (outcomes, base or ()):
        if mixed := mixed_testbeds([one.measurement for one in arm if one.measurement]):
            reason = "cycles of different testbeds have no common figure:"
            reason += f" {mixed}; measure all anew"
            return (without_cycles("failed", reason, limits),)
    now, pairs = of_outcomes("now", outcomes), None if base is None else of_arms(outcomes, base)
    lacks = None if base is None else _lacks_base(base, pairs, strict=strict)
    assert now is not None
    how = {"allow_estimated": allow_estimated, "strict": strict}
    verdicts = []
    for limit in limits:
        figures = [measurement.metrics[limit.metric] for measurement in measured]
        if limit.least is not None or limit.most is not None:
            verdicts.append(judge_limit(limit, summarise_figures(figures), **how))
        if limit.regression is None or lacks is not None:
            continue
        if pairs is not None:
            found = pairs.compared(limit.metric, limit.regression)
            beside = pairs.figures(limit.metric)
        else:
            found, beside = compared(limit.metric, now, references, budget=limit.regression), []
        verdicts.append(judge_regression(limit, figures, found, beside=beside, **how))
    if len(measured) < len(outcomes):
        some = f"; {len(measured)} of {len(outcomes)} cycles measured"
        verdicts = [replace(verdict, reason=verdict.reason + some) for verdict in verdicts]
    budgets = [limit for limit in limits if limit.regression is not None]
    return (*verdicts, without_cycles(*lacks, budgets)) if lacks and budgets else tuple(verdicts)


def _lacks_base(
    base: Sequence[Outcome], pairs: Pairs | None, *, strict: bool
) -> tuple[Judgement, str] | None:
    """What keeps a head from being judged beside its base, and what becomes of it."""
    unjudged: Judgement = "failed" if strict else "skipped"
    if causes := [cause for outcome in base if (cause := _cause(outcome, strict=strict))]:
        return "failed", f"{len(causes)} of {len(base)} cycles of the base failed: {causes[0]}"
    skipped = [outcome.skipped for outcome in base if outcome.skipped]
    if skipped and (strict or len(skipped) == len(base)):
        text = f"{len(skipped)} of {len(base)} cycles of the base were skipped: {skipped[0]}"
        return unjudged, text
    if pairs is None:
        return unjudged, "no cycle of both base and head was selected, so nothing is compared"
    return None


def _cause(outcome: Outcome, *, strict: bool) -> str:
    """Why a cycle failed; empty when it didn't."""
    if outcome.failure:
        return outcome.failure.message
    if strict and outcome.measurement and outcome.measurement.integrity:
        return f"integrity: {outcome.measurement.integrity[0]}"
    return ""


def without_cycles(outcome: Judgement, reason: str, limits: Sequence[Limit]) -> Verdict:
    """The verdict of a gate whose cycles are not all there to be judged."""
    return Verdict(
        metric="cycles",
        outcome=outcome,
        measured=None,
        limit="",
        reason=reason,
        where=limits[0].where if limits else "",
    )


def judge_limit(limit: Limit, summary: Summary, *, allow_estimated: bool, strict: bool) -> Verdict:
    """Judge one limit by the median of the cycles."""
    bounds = _bounds(limit)
    if summary.median is None:
        return _verdict(limit, "failed", summary, f"unmeasured, wanted {bounds}: {summary.reason}")
    if summary.quality == "estimated" and not allow_estimated:
        reason = "estimated, not measured, so not judged; --llem-allow-estimated judges it"
        return _verdict(limit, "failed" if strict else "skipped", summary, reason)
    if summary.quality == "shared":
        reason = f"shared, so not judged: {summary.reason}; without -n it is measured alone"
        return _verdict(limit, "failed" if strict else "skipped", summary, reason)
    text = f"{_shown(limit, summary.median)}{_difference(limit, summary.median)}"
    text += f" (median of {summary.n}"
    if summary.n > 1 and _spans(limit, summary):
        text += ", within noise"
    text += ")"
    if summary.quality == "estimated":
        text += ", estimated"
    elif summary.quality != "ok":
        text += f", reading {summary.quality}: {summary.reason}"
    # An estimate comes this far only where the user allowed it.
    clean = summary.quality in {"ok", "estimated"}
    kept = _keeps(limit, summary.median) and (clean or not strict)
    return _verdict(limit, "passed" if kept else "failed", summary, text)


def _verdict(limit: Limit, outcome: Judgement, summary: Summary, text: str) -> Verdict:
    return Verdict(
        metric=limit.metric,
        outcome=outcome,
        measured=summary.median,
        limit=_bounds(limit),
        reason=text,
        where=limit.where,
        quality=summary.quality,
    )


def _keeps(limit: Limit, value: float) -> bool:
    above = limit.least is None or value >= limit.least
    return above and (limit.most is None or value <= limit.most)


def _spans(limit: Limit, summary: Summary) -> bool:
    """Whether a bound lies within the interval for the median."""
    low, high = summary.low or 0.0, summary.high or 0.0
    return any(low <= bound <= high for bound in (limit.least, limit.most) if bound is not None)


def _difference(limit: Limit, value: float) -> str:
    """How the value stands to the bound it breaks, or else to the one it keeps."""
    broken_least = limit.least is not None and value < limit.least
    if broken_least or limit.most is None:
        return f" {'<' if broken_least else '≥'} {_bound(limit, limit.least, value)}"
    sign = ">" if value > limit.most else "≤"
    return f" {sign} {_bound(limit, limit.most, value)}"


def _bound(limit: Limit, bound: float | None, value: float) -> str:
    assert bound is not None
    percent = f", {(value - bound) / abs(bound) * 100:+.1f} %" if bound else ""
    return f"{_shown(limit, bound)}{percent}"


def _bounds(limit: Limit) -> str:
    """A limit as text: ``≥ 20.0/s``."""
    parts = []
    if limit.least is not None:
        parts.append(f"≥ {_shown(limit, limit.least)}")
    if limit.most is not None:
        parts.append(f"≤ {_shown(limit, limit.most)}")
    return " and ".join(parts)


def _shown(limit: Limit, value: float) -> str:
    return show(value, METRICS[limit.metric].unit)


def overall(verdicts: Sequence[Verdict]) -> Judgement:
    """The outcome of a gate: any failed fails it; else any passed passes it; else skipped."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if "failed" in outcomes:
        return "failed"
    return "passed" if "passed" in outcomes else "skipped"
