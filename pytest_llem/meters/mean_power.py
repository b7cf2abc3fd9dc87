"""The energy of GPUs without a counter, from power readings that another process collects.

Between two readings a span apart nothing is lost (``boxcar``), so every reading counts, those
within the window too: a process of its own watches for them (``trace``), while the meter lives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_llem.meters import boxcar, edges
from pytest_llem.meters.boxcar import Mean
from pytest_llem.meters.edges import Attributed, Evidence
from pytest_llem.meters.ticks import Clock, Look
from pytest_llem.meters.trace import Trace

__all__ = ["MeanPower", "Means", "TraceMeans", "Watch"]

_UNIT_J = 0.001
_PAST_S = 5.0
_LONGEST_REST_S = 4.0
_LONGEST_END_S = 5.0
_AFTER_SPAN = 4
_REST = 4
_LIKELY_SPAN_S = 1.0
"""Documented of nvmlDeviceGetPowerUsage, for Ampere except GA100 and newer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Readings of one GPU.

    Attributes:
        period_s: from one to the next; None while that isn't known.
        reason: why there are none, or no more; empty where nothing is amiss.
    """

    period_s: float | None
    means: Sequence[Mean]
    reason: str = ""


class Watch(Protocol):
    """Collects readings as they are renewed, without this process doing anything."""

    def means(self, from_s: float, to_s: float) -> Sequence[Means]:
        """Readings of each GPU between two times of the monotonic clock."""

    def close(self) -> None:
        """Collect no more."""


class TraceMeans:
    """The process of the power trace, watching for renewed readings all the time."""

    def __init__(self, uuids: Sequence[str]) -> None:
        """Start it; it is there when first asked."""
        self._count = len(uuids)
        self._trace = Trace(uuids, hz=None, ticks=True)
        self._trace.start()
        self._trace.on()

    def means(self, from_s: float, to_s: float) -> Sequence[Means]:
        """Readings of each GPU between two times."""
        series = self._trace.ticks(from_s, to_s)
        if not series:
            return [Means(period_s=None, means=(), reason=self._trace.reason)] * self._count
        return [
            Means(
                period_s=one.period_s,
                means=[
                    Mean(lo_s=tick.lo_s, hi_s=tick.hi_s, power_w=tick.value)
                    for tick in one.ticks
                    if tick.value is not None
                ],
                reason=one.reason,
            )
            for one in series
        ]

    def close(self) -> None:
        """End the process."""
        self._trace.close()


class MeanPower:
    """Energies of windows, for some GPUs."""

    def __init__(self, domains: Sequence[str], watch: Watch, clock: Clock) -> None:
        """Know of no span yet: it shows at the end of the first load."""
        self._domains = list(domains)
        self._watch = watch
        self._clock = clock
        self._spans: dict[str, float] = {}

    def begin(self) -> None:
        """Wait until power is at rest: what follows is told from what was before."""

        def rested(domain: str, found: Means) -> bool:
            span_s = self._spans.get(domain, _LIKELY_SPAN_S)
            count = round(span_s / found.period_s) + _REST if found.period_s else _REST
            return boxcar.at_rest(found.means, count)

        self._wait(rested, self._clock.monotonic(), _LONGEST_REST_S)

    def end(self, start_s: float, end_s: float) -> dict[str, Attributed | str]:
        """Wait for the readings that tell of the window's end; its energies, or why not."""

        def enough(domain: str, found: Means) -> bool:
            behind = [mean for mean in found.means if mean.lo_s > end_s]
            if domain in self._spans or not found.period_s:
                return len(behind) >= edges.AFTER
            span_s = boxcar.find_span(found.means, start_s, end_s, found.period_s)
            if span_s is not None:
                self._spans[domain] = span_s
            return span_s is not None or (
                len(behind) >= edges.AFTER
                and boxcar.at_rest(found.means, len(behind) + _AFTER_SPAN)
            )

        found = self._wait(enough, start_s, _LONGEST_END_S)
        return {
            domain: self._energy(domain, means, start_s, end_s)
            for domain, means in zip(self._domains, found, strict=True)
        }

    def _wait(
        self, enough: Callable[[str, Means], bool], since_s: float, longest_s: float
    ) -> Sequence[Means]:
        """Ask until every GPU has enough readings, or time is up."""
        until_s = self._clock.monotonic() + longest_s
        while True:
            now_s = self._clock.monotonic()
            found = self._watch.means(since_s - _PAST_S, now_s)
            # Each domain learns from being asked: none is left out.
            done = {
                domain: bool(one.reason) or enough(domain, one)
                for domain, one in zip(self._domains, found, strict=True)
            }
            if all(done.values()) or now_s > until_s:
                return found
            periods = [one.period_s for one in found if one.period_s]
            self._clock.sleep(min(periods, default=0.1) / 2)

    def _energy(self, domain: str, found: Means, start_s: float, end_s: float) -> Attributed | str:
        if found.reason:
            return found.reason
        if not found.period_s:
            return "no power reading was renewed while it was watched"
        # Power that never changed is the same over any time.
        span_s = self._spans.get(domain, found.period_s)
        if domain not in self._spans and not boxcar.at_rest(found.means, len(found.means)):
            return (
                "there is no energy counter, and over which time its power readings are means"
                " doesn't show; a warm-up, or a longer window, shows it"
            )
        ticks = boxcar.counter(found.means, start_s, found.period_s, span_s)
        before = [tick for tick in ticks or () if tick.time_s <= start_s]
        inside = [tick for tick in ticks or () if tick.time_s <= end_s]
        after = [tick for tick in ticks or () if tick.time_s > end_s]
        if not before or len(after) < 2:
            return "power wasn't at rest before the window, or readings around it went unseen"
        return edges.attribute(
            Evidence(
                start_s=start_s,
                end_s=end_s,
                before=before,
                at_end=Look(end_s, end_s, inside[-1].joules),
                after=after[: edges.AFTER],
                period_s=found.period_s,
                unit_j=_UNIT_J,
            )
        )

    def close(self) -> None:
        """Collect no more."""
        self._watch.close()
