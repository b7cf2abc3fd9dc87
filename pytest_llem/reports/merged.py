"""Several reports as one: an experiment's cycles are joined where testbeds are equal. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_llem.reports.collected import Collected, GateResult, apart, base_name
from pytest_llem.reports.document import MergedFrom, Report
from pytest_llem.reports.rejudged import Judging, Key, given_gates, judged_again
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.testbeds import parts_of
from pytest_llem.wire import checksum, to_dict

__all__ = ["Merged", "merge"]

_NAMED = 3
"""Experiments that a line names; of more it says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What came of it.

    Attributes:
        sessions: that it is made of.
        lines: what was joined, kept apart and left out, for people.
    """

    collected: Collected
    sessions: tuple[MergedFrom, ...]
    exit_status: int
    lines: tuple[str, ...]


def merge(reports: Sequence[Report], judging: Judging | None = None) -> Merged:
    """Merge the reports of several sessions, at least one.

    Args:
        reports: in the order in which their experiments are shown.
        judging: of gates over joined cycles.
    """
    outcomes, doubled = _outcomes(reports)
    sessions = {one.session: one for report in reports for one in _sessions(report)}
    given = given_gates(reports, outcomes)
    grouped: dict[Key, list[Outcome]] = {}
    for outcome in outcomes:
        grouped.setdefault(_key(outcome), []).append(outcome)
    how = judging or Judging()
    said = _Said(doubled)
    judged: list[GateResult] = []
    for key, own in grouped.items():
        parts = parts_of(own)
        said.take(key, parts)
        for label, part in parts.items():
            judged += judged_again(key, label, part, given.get(key, ()), how)
    judged += [row.gate for key, rows in given.items() if key not in grouped for row in rows]
    return Merged(
        collected=Collected(outcomes, judged, how.references),
        sessions=tuple(sessions.values()),
        exit_status=_status(reports, outcomes, judged),
        lines=tuple(said.lines()),
    )


def _key(one: Outcome) -> Key:
    name = base_name(one.experiment) if one.arm == "base" else one.experiment
    return one.study, one.file, name


def _sessions(report: Report) -> Sequence[MergedFrom]:
    own = MergedFrom(
        session=report.session, exit_status=report.exit_status, environment=report.environment
    )
    return report.merged_from or (own,)


# --- measurements --------------------------------------------------------------------------


def _outcomes(reports: Sequence[Report]) -> tuple[list[Outcome], int]:
    """All outcomes with their sessions, each once; and how many there were more."""
    found: dict[str, Outcome] = {}
    doubled = 0
    files: dict[tuple[str, str, str], str] = {}
    for report in reports:
        here = {(one.study, one.experiment, one.file) for one in report.measurements}
        for one in report.measurements:
            outcome = _with_session(one, report.session)
            # The same study may lie in another folder of another host.
            file = files.setdefault((one.study, one.experiment, one.digest), one.file)
            if (one.study, one.experiment, file) not in here:
                outcome = dataclasses.replace(outcome, file=file)
            identity = _identity(outcome)
            doubled += identity in found
            found.setdefault(identity, outcome)
    return list(found.values()), doubled


def _with_session(outcome: Outcome, session: str) -> Outcome:
    """An outcome that says which session's folder its raw file is in."""
    if outcome.session is not None:
        return outcome
    raw = outcome.raw and f"{session}/{outcome.raw}"
    return dataclasses.replace(outcome, session=session, raw=raw)


def _identity(outcome: Outcome) -> str:
    """The same for the same measurement, through whichever report it comes.

    No two measurements have equal times, whatever they are called.
    """
    if outcome.measurement:
        return checksum(to_dict(outcome.measurement))
    return checksum([outcome.session, outcome.node, outcome.cycle, outcome.finished])


# --- what is said --------------------------------------------------------------------------


def _status(
    reports: Sequence[Report], outcomes: Sequence[Outcome], judged: Sequence[GateResult]
) -> int:
    """What one pytest session over all would have exited with.

    A session that was interrupted stays so. One that failed by something that its report doesn't
    show, another test for instance, fails all.
    """
    worst = max((one.exit_status for one in reports if one.exit_status != _NOTHING), default=0)
    if worst > 1:
        return worst
    elsewhere = any(report.exit_status == 1 and not _shows_failure(report) for report in reports)
    failed = any(o.failure for o in outcomes) or any(g.outcome == "failed" for g in judged)
    return 1 if failed or elsewhere else 0


_NOTHING = 5
"""The exit status of a session that had nothing to run."""


def _shows_failure(report: Report) -> bool:
    return any(outcome.failure for outcome in report.measurements) or any(
        gate.outcome == "failed" for gate in report.gates
    )


class _Said:
    """Collects what was joined and kept apart, so that a line speaks for many experiments."""

    def __init__(self, doubled: int) -> None:
        self._doubled = doubled
        self._joined: dict[tuple[int, int], list[str]] = {}
        self._apart: dict[tuple[str, ...], list[str]] = {}

    def take(self, key: Key, parts: Mapping[str, Sequence[Outcome]]) -> None:
        """Take an experiment."""
        name = key[2]
        if len(parts) > 1:
            self._apart.setdefault(tuple(parts), []).append(name)
        for label, part in parts.items():
            sessions = len({outcome.session for outcome in part})
            if sessions > 1:
                self._joined.setdefault((len(part), sessions), []).append(apart(name, label))

    def lines(self) -> Iterator[str]:
        """Some lines, however many experiments there are."""
        for (cycles, sessions), names in self._joined.items():
            yield f"joined: {cycles} cycles of {sessions} sessions: {_named(names)}"
        for labels, names in self._apart.items():
            yield f"kept apart: {' | '.join(labels)}: {_named(names)}"
        if self._doubled:
            each = "measurement" if self._doubled == 1 else "measurements"
            yield f"counted once: {self._doubled} {each} in more than one report"


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
