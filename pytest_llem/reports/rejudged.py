"""The gates of several reports: which of them stand, and which are judged again. Pure.

A gate stands where all of its cycles come from its own session. Over joined cycles limits are
judged again, by what the reports say they are; budgets for regressions too, where there are
references, and else they stay as each session judged them, with its number of cycles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_llem.demands import Limit
from pytest_llem.records import Verdict
from pytest_llem.reports.collected import GateResult, apart
from pytest_llem.reports.document import Report
from pytest_llem.results.gates import judge, without_cycles
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.references import References
from pytest_llem.results.testbeds import parts_of

__all__ = ["Given", "Judging", "Key", "given_gates", "judged_again"]

Key = tuple[str, str, str]
"""Study, file, experiment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """How gates over joined cycles are judged.

    Attributes:
        references: for budgets; None leaves the verdicts that the sessions gave.
    """

    references: References | None = None
    allow_estimated: bool = False
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """A gate of a report, and the sessions whose cycles it judged."""

    gate: GateResult
    sessions: frozenset[str | None]

    def missing(self, outcomes: Sequence[Outcome]) -> int:
        """How many of its cycles have no outcome: their process was lost."""
        return self.gate.cycles - sum(outcome.session in self.sessions for outcome in outcomes)


def given_gates(reports: Sequence[Report], outcomes: Sequence[Outcome]) -> dict[Key, list[Given]]:
    """The gates of all reports, under the files and names that their outcomes have now."""
    files = {(one.session, one.study, one.experiment): one.file for one in outcomes}
    found: dict[Key, list[Given]] = {}
    for report in reports:
        of = _judged_by(report)
        for gate in report.gates:
            own = gate.experiment, frozenset({report.session})
            name, sessions = of.get((gate.study, gate.file, gate.experiment), own)
            known = [files.get((session, gate.study, name)) for session in sessions]
            file = next(filter(None, known), gate.file)
            result = GateResult(
                study=gate.study,
                file=file,
                node=gate.node,
                experiment=name,
                cycles=gate.cycles,
                verdicts=gate.verdicts,
                limits=gate.limits,
            )
            given = Given(result, sessions)
            rows = found.setdefault((gate.study, file, name), [])
            if given not in rows:
                rows.append(given)
    return found


def _judged_by(report: Report) -> dict[Key, tuple[str, frozenset[str | None]]]:
    """What a report's gates are of: experiments, and the sessions of the cycles.

    In a merged report the testbed may stand behind a gate's experiment.
    """
    grouped: dict[Key, list[Outcome]] = {}
    for one in report.measurements if report.merged_from else ():
        if one.arm == "base":
            continue  # no gate is about it alone
        grouped.setdefault((one.study, one.file, one.experiment), []).append(one)
    return {
        (study, file, apart(name, label)): (name, frozenset(one.session for one in part))
        for (study, file, name), own in grouped.items()
        for label, part in parts_of(own).items()
    }


def judged_again(
    key: Key,
    label: str,
    outcomes: Sequence[Outcome],
    known: Sequence[Given],
    judging: Judging,
) -> Iterator[GateResult]:
    """The gate of an experiment's cycles of one testbed, where any session had one."""
    sessions = {outcome.session for outcome in outcomes}
    own = [given for given in known if given.sessions & sessions]
    if not own:
        return
    study, _, name = key
    first = dataclasses.replace(own[0].gate, experiment=apart(name, label))
    if len(sessions) == len(own) == 1:
        yield first
        return
    cycles = list({(one.session, one.cycle): one for one in outcomes}.values())
    limits = tuple(dict.fromkeys(limit for given in own for limit in given.gate.limits))
    verdicts = [verdict for given in own if not given.gate.limits for verdict in _kept(given.gate)]
    missing = sum(max(0, given.missing(cycles)) for given in own)
    if missing and limits:
        text = f"{missing} of {len(cycles) + missing} cycles are in none of the reports"
        verdicts.append(without_cycles("failed", text, limits))
    elif limits:
        verdicts += _judged((study, name), limits, cycles, [given.gate for given in own], judging)
    yield dataclasses.replace(first, cycles=len(cycles), verdicts=tuple(verdicts), limits=limits)


def _judged(
    of: tuple[str, str],
    limits: Sequence[Limit],
    outcomes: Sequence[Outcome],
    own: Sequence[GateResult],
    judging: Judging,
) -> Iterator[Verdict]:
    """Verdicts over joined cycles; on regressions those of the sessions, without references.

    Those of an A/B comparison stand too: a cycle is compared with the one that it took turns with.
    """
    pairs = any(outcome.arm for outcome in outcomes)
    references = None if pairs else judging.references
    if references is None:
        for gate in own:
            yield from _kept(gate, regressions=True)
        limits = [dataclasses.replace(limit, regression=None) for limit in limits]
    yield from judge(
        limits,
        outcomes,
        () if references is None else references.of(*of),
        allow_estimated=judging.allow_estimated,
        strict=judging.strict,
    )


def _kept(gate: GateResult, *, regressions: bool = False) -> Iterator[Verdict]:
    """Verdicts of a session, with the number of cycles that they are of."""
    budgets = {limit.metric for limit in gate.limits if limit.regression is not None}
    for verdict in gate.verdicts:
        if not regressions or (verdict.metric in budgets and verdict.limit.startswith("at most ")):
            text = f"{verdict.reason} (of {gate.cycles} cycles of one session)"
            yield dataclasses.replace(verdict, reason=text)
