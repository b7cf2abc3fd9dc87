"""Frozen records of how requests came, and where their time went; as those of ``records``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Spread", "Stages", "Traffic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How the values of single requests are spread, in seconds."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """Where the time of the requests went that the latencies are of.

    Attributes:
        queue_s: from submission until the engine began to compute; null with a reason where the
            engine can't tell.
        prefill_s: from there to the first token; null as before.
        decode_s: from the first token to the last; null where there is no token.
    """

    queue_s: Spread | None = None
    prefill_s: Spread | None = None
    decode_s: Spread | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How requests came where they weren't all there from the beginning.

    Times are of the clock of the windows.

    Attributes:
        scenario: which of the two it was.
        asked: requests a second, or requests in flight.
        requests: that were made in all, ramp and drain included.
        counted: requests that the latencies are of: submitted within the measured window.
        arrivals_per_s: mean rate at which requests were submitted, from the run's beginning to the
            last submission; null where no request was answered.
        late_s: the longest time that a request was submitted after it was due; null where none was
            due at a time.
        in_flight_max: most requests in flight at a time.
        in_flight: requests in flight at the beginning and at the end of the measured window.
        steady_from_s: when the run became steady; null where it never did.
        steady_to_s: when it was no longer; null as before.
        reason: why no figure is made of the window; null where they are.
    """

    scenario: Literal["poisson", "concurrency"]
    asked: float
    requests: int
    counted: int
    arrivals_per_s: float | None
    late_s: float | None
    in_flight_max: int
    in_flight: tuple[int, int]
    steady_from_s: float | None
    steady_to_s: float | None
    reason: str | None = None
