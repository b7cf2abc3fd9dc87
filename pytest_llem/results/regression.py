"""Whether an experiment keeps its budget, against earlier sessions or a base beside it. Pure.

| situation | verdict |
| --- | --- |
| within the budget | passed |
| over it beyond noise | failed |
| over it, within noise | passed, with a line; strict: failed |
| fewer than 3 cycles, a value of zero or less | inconclusive: as above |
| no reference, or none of an equal testbed | skipped; strict: failed |
| metric null | failed, with the reason |
| metric estimated and estimates not allowed | skipped; strict: failed |
| metric shared with other measurements of the host | skipped; strict: failed |
| reading short or degraded | judged, with a line; strict: failed |
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pytest_llem.demands import Limit
from pytest_llem.metrics import METRICS, show
from pytest_llem.records import Comparison, Figure, Judgement, Summary, Verdict
from pytest_llem.results.compare import Change, change, judged
from pytest_llem.results.references import Reference, changed_subject, changed_testbed
from pytest_llem.results.statistics import summarise_figures

__all__ = ["compared", "judge_regression", "percent", "size"]


def judge_regression(
    limit: Limit,
    now: Sequence[Figure],
    found: Comparison | str,
    *,
    beside: Sequence[Figure] = (),
    allow_estimated: bool,
    strict: bool,
) -> Verdict:
    """Judge the regression of a metric.

    Args:
        limit: with a budget.
        now: the metric in this session, a figure of each cycle.
        found: how it compares, by the same budget; or why it can't be compared.
        beside: more figures, whose quality counts too.
        allow_estimated: judge estimated figures as if they were measured.
        strict: whatever isn't a clean pass fails.
    """
    budget = limit.regression
    assert budget is not None
    summary = summarise_figures(now)
    unjudged: Judgement = "failed" if strict else "skipped"
    if summary.median is None:
        return _verdict(limit, "failed", summary, f"unmeasured: {summary.reason}")
    if summary.quality == "estimated" and not allow_estimated:
        text = "estimated, not measured, so not compared; --llem-allow-estimated compares it"
        return _verdict(limit, unjudged, summary, text)
    worst = summarise_figures([*now, *beside])
    if worst.quality == "shared":
        text = f"shared, so not compared: {worst.reason}; without -n it is measured alone"
        return _verdict(limit, unjudged, summary, text)
    if isinstance(found, str):
        return _verdict(limit, unjudged, summary, f"{found} (budget {percent(budget)})")
    clean = found.outcome == "kept" and worst.quality in {"ok", "estimated"}
    failed = found.outcome == "worse" or (strict and not clean)
    text = found.text
    if worst.quality == "estimated":
        text += ", estimated"
    elif worst.quality != "ok":
        text += f", reading {worst.quality}: {worst.reason}"
    return _verdict(limit, "failed" if failed else "passed", summary, text, found)


def compared(
    metric: str,
    now: Reference,
    references: Sequence[Reference],
    *,
    budget: float | None = None,
) -> Comparison | str:
    """A metric of an experiment beside earlier sessions; or why it can't be compared.

    Args:
        metric: its name.
        now: the experiment in this session.
        references: the same in earlier ones.
        budget: 0.05 for 5 % worse; None to look without judging.
    """
    if not references:
        return "no reference to compare with"
    energy = METRICS[metric].uses_energy
    usable = [one for one in references if not changed_testbed(now, one, energy=energy)]
    if not usable:
        last = changed_testbed(now, references[-1], energy=energy)
        return f"not compared, the testbed differs: {'; '.join(last)}"
    like = [one for one in usable if one.kind(metric) == now.kind(metric)]
    sessions = [values for one in like if (values := one.values(metric))]
    if not sessions:
        return "no reference has a value of the same kind"
    current = now.values(metric) or []
    found = change(current, sessions, higher_is_better=METRICS[metric].higher_is_better)
    details = [f"with {text}" for text in changed_subject(now, usable[-1])]
    compared_with = len(sessions) if isinstance(found, str) else found.sessions
    if left := len(references) - compared_with:
        details.append(f"{left} of {len(references)} references left out")
    if isinstance(found, str):
        return Comparison(
            reference=statistics.median(map(statistics.median, sessions)),
            sessions=len(sessions),
            outcome="inconclusive",
            text="; ".join([f"inconclusive: {found}", *details]),
        )
    outcome = "kept" if budget is None else judged(found, budget)
    return Comparison(
        reference=statistics.median(current) / found.ratio,
        change=found.ratio - 1,
        noise=found.noise,
        detectable=found.detectable(budget or 0.0),
        sessions=found.sessions,
        outcome=outcome,
        text="; ".join([_text(metric, current, found, budget), *details]),
    )


def _text(metric: str, current: Sequence[float], found: Change, budget: float | None) -> str:
    now = statistics.median(current)
    then = now / found.ratio
    unit = METRICS[metric].unit
    way = f"{size(found)} {'as' if found.ratio == 1 else 'than'}"
    many = f" (median of {found.sessions} references)" if found.sessions > 1 else ""
    text = f"{show(now, unit)}, {way} {show(then, unit)}{many}, noise {found.noise * 100:.1f} %"
    if budget is not None:
        text += f", budget {percent(budget)}"
        if judged(found, budget) == "within noise":
            text += ": over it within noise, inconclusive"
    return f"{text}; finds {percent(found.detectable(budget or 0.0))} or more"


def size(found: Change) -> str:
    """``5.0 % worse``."""
    if found.ratio == 1:
        return "the same"
    return f"{abs(found.ratio - 1) * 100:.1f} % {'worse' if found.worse > 0 else 'better'}"


def percent(share: float) -> str:
    """``5 %`` for 0.05."""
    return f"{share * 100:.3g} %"


def _verdict(
    limit: Limit,
    outcome: Judgement,
    summary: Summary,
    text: str,
    comparison: Comparison | None = None,
) -> Verdict:
    assert limit.regression is not None
    return Verdict(
        metric=limit.metric,
        outcome=outcome,
        measured=summary.median,
        limit=f"at most {percent(limit.regression)} worse",
        reason=text,
        where=limit.where,
        quality=summary.quality,
        comparison=comparison,
    )
