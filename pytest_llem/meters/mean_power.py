"""The energy of GPUs without a counter, from power readings that another process collects.

Between two readings a span apart nothing is lost (``boxcar``), so every reading counts, those
within the window too: a process of its own watches for them (``trace``), while the meter lives.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_llem.meters import boxcar, edges, within
from pytest_llem.meters.boxcar import Mean
from pytest_llem.meters.edges import Attributed, Evidence, Slope
from pytest_llem.meters.ticks import Clock, Look, Tick
from pytest_llem.meters.trace import Sample, TickSeries, Trace
from pytest_llem.records import ToIdle

__all__ = ["MeanPower", "Means", "TraceMeans", "Watch"]

_UNIT_J = 0.001
_HZ = 40.0
"""Samples a second: at least one in every period of 100 ms, also on a busy host."""

_PAST_S = 5.0
_SURE = 0.05
"""A sample this part of a period from a renewal may be of the one or the other."""

_LONGEST_REST_S = 4.0
_LONGEST_END_S = 3.0
_AFTER_SPAN = 4
_REST = 5
_PERIOD_S = 0.1
_NO_SPAN = (
    "there is no energy counter, and over which time its power readings are means doesn't show;"
    " a warm-up, or a longer window, shows it"
)


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
        self._trace = Trace(uuids, hz=_HZ, ticks=True)
        self._trace.start()
        self._trace.on()

    def means(self, from_s: float, to_s: float) -> Sequence[Means]:
        """Readings of each GPU between two times."""
        series = self._trace.ticks(from_s, to_s)
        samples = self._trace.samples(from_s, to_s)
        if not series:
            return [Means(period_s=None, means=(), reason=self._trace.reason)] * self._count
        return [
            _readings(one, [sample for sample in samples if sample.gpu == gpu])
            for gpu, one in enumerate(series)
        ]

    def close(self) -> None:
        """End the process."""
        self._trace.close()


def _readings(series: TickSeries, samples: Sequence[Sample]) -> Means:
    """The reading of every period, also where it is the same as the one before.

    When it is renewed shows by its changes; what it is then, by any sample until the next time.
    """
    told = [(one.at_s, one.usage_w) for one in samples if one.usage_w is not None]
    seen = [tick for tick in series.ticks if tick.value is not None]
    if series.reason or not told:
        return Means(period_s=None, means=(), reason=series.reason)
    if not series.period_s or not seen:
        # Nothing has changed so far: any time is as good as another.
        alike = [Mean(lo_s=at_s, hi_s=at_s, power_w=power_w) for at_s, power_w in told]
        return Means(period_s=None, means=alike)
    period_s, last_s = series.period_s, (seen[-1].lo_s + seen[-1].hi_s) / 2
    doubt_s = min(tick.hi_s - tick.lo_s for tick in seen) / 2
    found: dict[int, Mean] = {}
    # A reading that was seen to change counts as a sample right behind its renewal.
    just_s = 2 * _SURE * period_s
    told += [((t.lo_s + t.hi_s) / 2 + just_s, t.value) for t in seen if t.value is not None]
    for at_s, power_w in told:
        number = math.floor((at_s - last_s) / period_s)
        due_s = last_s + number * period_s
        if _SURE < (at_s - due_s) / period_s < 1 - _SURE:
            mean = Mean(lo_s=due_s - doubt_s, hi_s=due_s + doubt_s, power_w=power_w)
            found.setdefault(number, mean)
    return Means(period_s=period_s, means=[found[number] for number in sorted(found)])


def _constant(means: Sequence[Mean], start_s: float, end_s: float) -> Attributed:
    """The energy of a window in which, as before and after it, power didn't change."""
    powers = [mean.power_w for mean in means]
    power_w, spread_w = statistics.fmean(powers), statistics.pstdev(powers)
    energy_j = power_w * (end_s - start_s)
    ends = [
        Tick(mean.lo_s, mean.hi_s, power_w * (mean.time_s - means[0].time_s))
        for mean in (means[0], means[-1])
    ]
    rest = Slope(power_w=power_w, spread_w=spread_w, start=ends[0], end=ends[1])
    return Attributed(
        energy_j=energy_j,
        uncertainty_j=max(spread_w * (end_s - start_s), _UNIT_J),
        before=rest,
        tail_j=0.0,
        to_idle=ToIdle(above_j=0.0, uncertainty_j=_UNIT_J, settled_s=0.0),
    )


def _time_s(tick: Tick) -> float:
    return tick.time_s


def _is_back(before: Sequence[Tick], after: Sequence[Tick], period_s: float) -> bool:
    """Whether power is what it was before; the readings then fit together."""
    first = edges.slopes(before, period_s, _UNIT_J)
    last = edges.slopes(after[-2:], period_s, _UNIT_J)
    return bool(first and last) and last[-1].agrees(first[-1])


class MeanPower:
    """Energies of windows, for some GPUs."""

    def __init__(self, domains: Sequence[str], watch: Watch, clock: Clock) -> None:
        """Know of no span yet: it shows at the end of the first load."""
        self._domains = list(domains)
        self._watch = watch
        self._clock = clock
        self._spans: dict[str, float] = {}

    @property
    def spans(self) -> Mapping[str, float]:
        """Of each domain whose readings told it, over how many seconds they are means."""
        return self._spans

    def begin(self) -> None:
        """Wait until power is at rest: what follows is told from what was before."""

        def rested(domain: str, found: Means) -> bool:
            period_s = found.period_s or 0.0
            # Readings before the period was known may be closer together than it is.
            longest_s = self._spans.get(domain, boxcar.LIKELY_SPAN_S) + _REST * max(
                period_s, _PERIOD_S
            )
            times = [mean.time_s for mean in found.means]
            recent = [time_s for time_s in times if time_s >= times[-1] - longest_s]
            return len(recent) < len(times) and boxcar.at_rest(found.means, len(recent))

        self._wait(rested, self._clock.monotonic(), _LONGEST_REST_S)

    def end(self, start_s: float, end_s: float) -> dict[str, Attributed | str]:
        """Wait for the readings that tell of the window's end; its energies, or why not."""

        def enough(domain: str, found: Means) -> bool:
            behind = [mean for mean in found.means if mean.lo_s > end_s]
            if not found.period_s:
                return len(behind) >= edges.AFTER and boxcar.at_rest(found.means, len(found.means))
            if domain in self._spans:
                ticks = self._around(domain, found, start_s, end_s)
                return ticks is not None and _is_back(*ticks, found.period_s)
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

    def within(
        self, start_s: float, latest_s: float, end_s: float | None
    ) -> tuple[float, dict[str, Attributed | str]]:
        """The end of a window out of a load that goes on, and its energies, or why not.

        Args:
            start_s: of the window.
            latest_s: until when it may last.
            end_s: of the window, where others tell that; the first domain tells it otherwise.
        """
        told: dict[str, Attributed | str] = {}
        seen = self._watch.means(start_s - _PAST_S, latest_s)
        for domain, found in zip(self._domains, seen, strict=True):
            span_s = self._spans.get(domain)
            if found.reason or span_s is None:
                told[domain] = found.reason or _NO_SPAN
                continue
            period_s = found.period_s or _PERIOD_S
            made = within.of_means(found.means, span_s, period_s, start_s, latest_s)
            if made is None:
                told[domain] = "the window is too short, or readings in it went unseen"
                continue
            own_s, energy = made
            end_s = own_s if end_s is None else end_s
            told[domain] = within.moved(energy, own_s - start_s, end_s - own_s)
        return latest_s if end_s is None else end_s, told

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
        if not found.means:
            return "no power reading was seen: this host was too busy; measure again"
        # Power that never changed is the same over any time.
        never = boxcar.at_rest(found.means, len(found.means))
        period_s = found.period_s or (_PERIOD_S if never else 0.0)
        span_s = self._spans.get(domain, period_s if never else 0.0)
        if not period_s or not span_s:
            return _NO_SPAN
        if never and not found.period_s:
            return _constant(found.means, start_s, end_s)
        around = self._around(domain, found, start_s, end_s, span_s)
        if around is None:
            return "power wasn't at rest before the window, or readings around it went unseen"
        before, after = around
        if not _is_back(before, after, period_s):
            # With a wrong span what went in doesn't come out: it is looked for anew.
            self._spans.pop(domain, None)
            return (
                "the power readings around the window don't lead back to the power before it: the"
                " device went on drawing more, or readings went unseen on a busy host"
            )
        inside_j = max((tick for tick in (*before, *after) if tick.time_s <= end_s), key=_time_s)
        return edges.attribute(
            Evidence(
                start_s=start_s,
                end_s=end_s,
                before=before,
                at_end=Look(end_s, end_s, inside_j.joules),
                after=[tick for tick in after if tick.time_s > end_s],
                period_s=period_s,
                unit_j=_UNIT_J,
            )
        )

    def _around(
        self, domain: str, found: Means, start_s: float, end_s: float, span_s: float = 0.0
    ) -> tuple[list[Tick], list[Tick]] | None:
        """What a counter would have shown before a window and from then on, two ticks behind it."""
        span_s = span_s or self._spans[domain]
        period_s = found.period_s or _PERIOD_S
        ticks = boxcar.counter(found.means, start_s, period_s, span_s) or []
        before = [tick for tick in ticks if tick.time_s <= start_s]
        after = [tick for tick in ticks if tick.time_s > start_s]
        behind = [tick for tick in after if tick.time_s > end_s]
        return (before, after) if before and len(behind) > 1 else None

    def close(self) -> None:
        """Collect no more."""
        self._watch.close()
