"""What a window says of a run that goes on before and behind it. Pure; see docs/methodology.md.

Tokens count where they arrive, a prompt's where its first token arrives, requests where they end.
Latencies are of the requests that were submitted in the window, however late they end: a choice
by their ends would prefer short ones. All in ``(start, end]``.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_llem.experiment import Concurrency, Poisson
from pytest_llem.metrics import METRICS, show
from pytest_llem.records import Figure, RequestTiming, ToIdle, Window
from pytest_llem.traffic import Traffic
from pytest_llem.worker.drive import TOO_LATE, Driven
from pytest_llem.worker.quantity import null

__all__ = ["LEAST", "Steady", "counts", "look", "windows"]

LEAST = 2
"""Requests that must end within a window for a rate to be told."""

_SIGMAS = 3.0
_LATE = 0.25
"""Part of the mean time between two arrivals by which they may be late, one more than another.

What all are late by makes no difference: loops mostly wake up to a millisecond late.
"""

_ELSEWHERE = frozenset(
    {"load_s", "peak_memory_bytes", "cpu_steal_share", "idle_power_w", "carbon_g", "cost"}
)
"""Metrics that don't come from the window, or say themselves why they are null."""

_LATENCIES = ("ttft_", "itl_", "tpot_", "e2e_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """The measured window of a run.

    Attributes:
        window: the measured one, of no length where the run was never steady.
        counted: requests that the latencies are of.
        ended: requests that ended within the window.
        traffic: for the report.
        warnings: what to know beside the figures.
    """

    window: Window
    counted: tuple[RequestTiming, ...]
    ended: tuple[RequestTiming, ...]
    traffic: Traffic
    warnings: tuple[str, ...]

    def withhold(self, found: Mapping[str, Figure]) -> dict[str, Figure]:
        """The metrics, null where the window can't tell them."""
        if reason := self.traffic.reason:
            missing = null(reason).figure
            return {name: found[name] if name in _ELSEWHERE else missing for name in METRICS}
        if not self.counted:
            missing = null(_NONE_SUBMITTED).figure
            return {
                name: missing if name.startswith(_LATENCIES) else found[name] for name in METRICS
            }
        return dict(found)


_NONE_SUBMITTED = "no request was submitted within the steady window; raise prompts.count"


def look(driven: Driven, scenario: Poisson | Concurrency) -> Steady:
    """What the window of a run says."""
    timings = [completion.timing for completion in driven.completions]
    window = driven.window or Window(phase="measure", start_s=driven.over_s, duration_s=0.0)
    window = _alone(window)
    ended = [each for each in timings if each.token_s and _within(each.token_s[-1], window)]
    counted = [each for each in timings if _within(each.submitted_s, window)]
    reason = _reason(driven, len(ended))
    traffic = _traffic(driven, scenario, timings, window, len(counted), reason)
    return Steady(
        window=window,
        counted=tuple(counted),
        ended=tuple(ended),
        traffic=traffic,
        warnings=tuple(_warnings(driven, traffic)),
    )


def windows(driven: Driven, measured: Window) -> tuple[Window, Window, Window]:
    """Ramp, measured window and drain."""
    end_s = measured.start_s + measured.duration_s
    ramp_s, drain_s = measured.start_s - driven.begun_s, driven.ended_s - end_s
    return (
        Window(phase="ramp", start_s=driven.begun_s, duration_s=max(0.0, ramp_s)),
        measured,
        Window(phase="drain", start_s=end_s, duration_s=max(0.0, drain_s)),
    )


def counts(timings: Sequence[RequestTiming], window: Window) -> tuple[int, int, int]:
    """Requests, input tokens and output tokens of a window."""
    answered = [each for each in timings if each.token_s]
    return (
        sum(_within(each.token_s[-1], window) for each in answered),
        sum(each.input_tokens for each in answered if _within(each.token_s[0], window)),
        sum(_within(time_s, window) for each in answered for time_s in each.token_s),
    )


def _within(time_s: float, window: Window) -> bool:
    return window.start_s < time_s <= window.start_s + window.duration_s


def _alone(window: Window) -> Window:
    """A window without what its meters say of before and behind: there was no rest there."""
    readings = tuple(
        dataclasses.replace(reading, before_w=None, to_idle=ToIdle(reason=_GOES_ON))
        for reading in window.readings
    )
    return dataclasses.replace(window, readings=readings)


_GOES_ON = "requests go on after the steady window, so the device doesn't come back to idle"


def _reason(driven: Driven, ended: int) -> str | None:
    """Why no figure can be made of the window; None where they can."""
    if driven.steady_s is None:
        return "the run was never steady; raise prompts.count"
    if ended < LEAST:
        return (
            f"{ended} requests ended within the steady window, too few for a rate;"
            " raise prompts.count"
        )
    return None


def _traffic(
    driven: Driven,
    scenario: Poisson | Concurrency,
    timings: Sequence[RequestTiming],
    window: Window,
    counted: int,
    reason: str | None,
) -> Traffic:
    kind: Literal["poisson", "concurrency"] = "concurrency"
    asked: float
    if isinstance(scenario, Poisson):
        kind, asked = "poisson", scenario.poisson
    else:
        asked = float(scenario.concurrency)
    end_s = window.start_s + window.duration_s
    last_s = max((each.submitted_s for each in timings), default=driven.begun_s) - driven.begun_s
    never = driven.steady_s is None
    return Traffic(
        scenario=kind,
        asked=asked,
        requests=len(timings),
        counted=counted,
        arrivals_per_s=len(timings) / last_s if last_s > 0 else None,
        late_s=max(_late(timings), default=None),
        in_flight_max=_most_in_flight(timings),
        in_flight=(_in_flight(timings, window.start_s), _in_flight(timings, end_s)),
        steady_from_s=driven.steady_s,
        steady_to_s=None if never else driven.over_s,
        reason=reason,
    )


def _late(timings: Sequence[RequestTiming]) -> list[float]:
    return [each.submitted_s - each.due_s for each in timings if each.due_s is not None]


def _end_s(timing: RequestTiming) -> float:
    return timing.token_s[-1] if timing.token_s else timing.submitted_s


def _in_flight(timings: Sequence[RequestTiming], at_s: float) -> int:
    return sum(each.submitted_s <= at_s < _end_s(each) for each in timings)


def _most_in_flight(timings: Sequence[RequestTiming]) -> int:
    """Most at a time; one that ends when another is submitted makes room for it."""
    changes = [(each.submitted_s, 1) for each in timings]
    changes += [(_end_s(each), -1) for each in timings]
    return max(itertools.accumulate(change for _, change in sorted(changes)), default=0)


def _warnings(driven: Driven, traffic: Traffic) -> Iterator[str]:
    if traffic.reason is not None:
        yield f"no figures of a steady state: {traffic.reason}"
        return
    if not traffic.counted:
        yield f"no latencies: {_NONE_SUBMITTED}"
    if not driven.read:
        yield f"no energy: {TOO_LATE}"
    if traffic.scenario != "poisson":
        return
    late = _late([completion.timing for completion in driven.completions])
    if late and statistics.pstdev(late) * traffic.asked > _LATE:
        yield (
            f"requests were submitted {show(statistics.fmean(late), 's')} late on average and"
            f" {show(max(late), 's')} at most: the arrivals aren't those that were asked for; lower"
            " the rate, or leave the host more processor time"
        )
    first, last = traffic.in_flight
    if last - first > _SIGMAS * math.sqrt(traffic.counted + first):
        yield (
            f"{first} requests were in flight when the steady window began and {last} when it"
            " ended: they come faster than the engine answers them, and latencies grow with"
            " prompts.count; lower the rate"
        )
