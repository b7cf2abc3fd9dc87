"""What became of one measurement of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_llem.demands import Arm, RunnerSpec
from pytest_llem.records import Failure, Measurement

__all__ = ["Outcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """An experiment × cycle of a study, measured, failed or skipped: just one of the three is set.

    Attributes:
        study: name of the study.
        file: of the study, as messages show it.
        node: pytest's id of the test.
        config: the experiment's fields, defaults included.
        finished: when, in UTC, ISO 8601.
        raw: the file of the session's directory that holds every request's times, a line each.
        gap: what came of the rest before it; null where none was due.
        place: what is known of where its worker ran: of a container image, daemon, user, limits.
        skip_wanted: it was skipped because the user said so, not because something is missing.
        session: that it was made in, where reports of several were merged; null in a session's own.
        arm: of an A/B comparison; null elsewhere.
        resumed: the session that measured it, where that was an earlier one; null for this one.
    """

    study: str
    file: str
    node: str
    experiment: str
    digest: str
    cycle: int
    runner: RunnerSpec
    finished: str
    config: Mapping[str, Any] = field(default_factory=dict)
    measurement: Measurement | None = None
    failure: Failure | None = None
    skipped: str | None = None
    raw: str | None = None
    gap: Mapping[str, Any] | None = None
    place: Mapping[str, Any] = field(default_factory=dict)
    skip_wanted: bool = False
    session: str | None = None
    arm: Arm | None = None
    resumed: str | None = None
