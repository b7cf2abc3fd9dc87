"""The energy of CPU packages and their memory: RAPL's counters, read around a window.

Within a window nothing reads them, but for a thread that looks once in minutes, so that no wrap is
missed. A counter is renewed about every millisecond. It isn't waited for, but read without a
pause until it has ticked a few times on either side, which takes some milliseconds:

    E = E(c) − E(a) − P_before (t0 − a) − P_after (c − t1)

with a and c the ticks next to the window, t0 and t1 its ends, and P the power from tick to tick
there, which is that of a CPU that reads counters. Nothing is assumed of a load that decays.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_llem.extensions import Target
from pytest_llem.meters import edges, ticks
from pytest_llem.meters.ticks import Clock, CounterLost, Look, Tick, Track
from pytest_llem.powercap import Zone, find_zones
from pytest_llem.records import Quality, Reading

__all__ = ["GAIN", "RaplMeter"]

GAIN = {"cpu": 0.05, "dram": 0.3}
"""Relative systematic uncertainty, from the literature; see docs/methodology.md. Packages: ours,
as no maker gives one. Memory: "up to ~30 %" by the read-me of Intel's Power Gadget."""

_UNIT_J = 1e-6
_WANTED = 3
"""Ticks on either side: two powers from tick to tick, and how far they differ."""

_PROBED = 8
_PROBE_S = 0.25
_PATIENCE_S = 0.02
_SHARP = 0.3
"""Part of a period within which a tick must be pinned down."""

_ALONE = 0.1
"""Relative uncertainty of a power between two ticks alone."""

_MISSED = 1.2
_SHORT = 0.01
_LEAST_WATCH_S = 0.5


@dataclass(eq=False)
class _Counter:
    """A zone that is read, and how often it ticks."""

    zone: Zone
    track: Track
    period_s: float = 0.0

    @property
    def domain(self) -> str:
        return self.zone.domain

    def fresh(self, since_s: float) -> list[Tick]:
        """The ticks since a time."""
        return [tick for tick in self.track.ticks if tick.lo_s >= since_s]

    def sharp(self, since_s: float) -> list[Tick]:
        """Those of them that were pinned down; all, as long as there is no period."""
        widest_s = _SHARP * self.period_s or math.inf
        return [tick for tick in self.fresh(since_s) if tick.hi_s - tick.lo_s <= widest_s]

    def best(self, since_s: float) -> list[Tick]:
        """The sharp ones, and all where that leaves no power from tick to tick."""
        sharp = self.sharp(since_s)
        return sharp if len(sharp) > 1 else self.fresh(since_s)


@dataclass
class _Start:
    """What a window began with.

    Attributes:
        before: of each domain, the ticks up to the start.
        looks: of each domain, the last read.
        lost: domains that can't be told for this window, and why.
    """

    exact: bool
    before: dict[str, list[Tick]] = field(default_factory=dict)
    looks: dict[str, Look] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)


class RaplMeter:
    """Reads ``cpu:N`` and ``dram:N`` of the host, whatever an experiment computes on."""

    name = "rapl"
    estimates = False

    def __init__(self, target: Target, root: Path | None = None, clock: Clock = time) -> None:
        """Find the zones and see how often they tick.

        Args:
            target: what to measure.
            root: of the powercap tree; by default where the system has it.
            clock: the module ``time``, or a test's own.
        """
        self._clock = clock
        self._watch: _Watch | None = None
        self._zones: list[Zone] = []
        self.reason = ""
        if not sys.platform.startswith("linux") or target.device == "mps":
            self.reason = "RAPL is read on Linux only"
        else:
            self._zones, self.reason = find_zones(root)
        self._counters = [
            _Counter(zone, _track(zone, clock)) for zone in self._zones if not zone.problem
        ]
        self.domains: Sequence[str] = tuple(zone.domain for zone in self._zones)
        self._probe()

    @property
    def problems(self) -> dict[str, tuple[str, str]]:
        """Domains that can't be read, why, and the command that mends it, if any does."""
        return {zone.domain: (zone.problem, zone.fix) for zone in self._zones if zone.problem}

    def _probe(self) -> None:
        """The period of each counter; some ticks may have gone unseen, but not the most."""
        self._gather(dict.fromkeys(self._counters, 0.0), _PROBED, _PROBE_S)
        for counter in self._live:
            seen = itertools.pairwise(counter.track.ticks)
            if gaps := [later.time_s - earlier.time_s for earlier, later in seen]:
                counter.period_s = statistics.median(gaps)
                counter.track.fresh_s = _MISSED * counter.period_s
            else:
                counter.zone.problem = f"the counter didn't move within {_PROBE_S:g} s"

    @property
    def _live(self) -> list[_Counter]:
        return [counter for counter in self._counters if not counter.zone.problem]

    # --- a window ----------------------------------------------------------------------------

    def start(self, exact: bool = True) -> _Start:
        """Read the counters until each has ticked three times, 20 ms at most."""
        token = _Start(exact=exact)
        since_s = self._clock.monotonic()
        if exact:
            self._settle(dict.fromkeys(self._live, since_s))
        for counter in self._live:
            if not exact:
                self._look(counter)
            if counter.track.last is not None:
                token.before[counter.domain] = counter.best(since_s)
                token.looks[counter.domain] = counter.track.last
        if live := self._live:
            every_s = min(counter.zone.wrap_s for counter in live) / 2
            self._watch = _Watch(
                max(_LEAST_WATCH_S, every_s), functools.partial(self._look_at_all, token)
            )
            self._watch.start()
        return token

    def stop(self, token: _Start, start_s: float, end_s: float) -> Sequence[Reading]:
        """Read the counters at once and until each has ticked three times; 20 ms at most."""
        if self._watch is not None:
            self._watch.end()
            self._watch = None
        self._look_at_all(token)
        ends = {c: c.track.last for c in self._live if c.track.last is not None}
        if token.exact:
            self._settle({counter: look.lo_s for counter, look in ends.items()})
        readings = {
            counter.domain: self._reading(counter, token, look, start_s, end_s)
            for counter, look in ends.items()
            if not counter.zone.problem and counter.domain in token.looks
        }
        why = {zone.domain: zone.why or token.lost.get(zone.domain) for zone in self._zones}
        return [
            self._unmeasured(domain, problem or "the counter was not read at the window's start")
            if problem or domain not in readings
            else readings[domain]
            for domain, problem in why.items()
        ]

    def close(self) -> None:
        """Let the files go."""
        if self._watch is not None:
            self._watch.end()
            self._watch = None
        for zone in self._zones:
            zone.close()

    # --- reading -----------------------------------------------------------------------------

    def _settle(self, since_s: Mapping[_Counter, float]) -> None:
        """Wait for enough sharp ticks of each counter since its time."""
        slowest_s = max((counter.period_s for counter in since_s), default=0.0)
        self._gather(since_s, _WANTED, max(_PATIENCE_S, 2 * _WANTED * slowest_s))
        still = {c: s for c, s in since_s.items() if not c.zone.problem and not c.fresh(s)}
        if still:
            # Before a counter is said to have stopped.
            self._gather(still, _WANTED, _PROBE_S)

    def _gather(self, since_s: Mapping[_Counter, float], count: int, longest_s: float) -> None:
        """Read without a pause until each counter has ticked so often, or time is up."""
        counters = {counter.track: counter for counter in since_s}

        def enough(track: Track) -> bool:
            counter = counters[track]
            return len(counter.sharp(since_s[counter])) >= count

        def lost(track: Track, error: CounterLost) -> None:
            counters[track].zone.problem = str(error)

        ticks.gather(counters, enough, lost, longest_s, self._clock)

    def _look(self, counter: _Counter) -> None:
        try:
            counter.track.look()
        except CounterLost as error:
            counter.zone.problem = str(error)

    def _look_at_all(self, token: _Start) -> None:
        """Read each counter once; one that may have gone all the way round is lost."""
        for counter in self._live:
            last, wrap_s = counter.track.last, counter.zone.wrap_s
            self._look(counter)
            now = counter.track.last
            gap_s = now.hi_s - last.lo_s if now and last else 0.0
            if gap_s > wrap_s:
                token.lost[counter.domain] = (
                    f"the counter was not read for {gap_s:.3g} s and may have wrapped more than"
                    f" once: at {2 * counter.zone.limit_w:g} W it goes round in {wrap_s:.3g} s"
                )

    # --- from ticks to joules ----------------------------------------------------------------

    def _reading(
        self, counter: _Counter, token: _Start, end: Look, start_s: float, end_s: float
    ) -> Reading:
        if not token.exact:
            return self._rough(counter, token.looks[counter.domain], end, end_s - start_s)
        if not counter.fresh(end.lo_s):
            gone = not counter.zone.energy.exists()
            why = "vanished" if gone else "stands still"
            return self._unmeasured(counter.domain, f"the counter {why} since the window")
        before, after = token.before[counter.domain], counter.best(end.lo_s)
        if before and before[-1].hi_s > start_s + counter.period_s:
            return self._unmeasured(counter.domain, "the meter was started within the window")
        if len(before) < 2 or len(after) < 2:
            why = ": the host was too busy to see them"
            start = token.looks[counter.domain]
            return self._rough(counter, start, end, end_s - start_s, why)
        energy_j, spread_j = _attribute(before, after, start_s, end_s, counter.period_s)
        if energy_j <= 0:
            why = "the window is too short for its energy to be told"
            return self._unmeasured(counter.domain, why)
        return self._made(counter, energy_j, spread_j, end_s - start_s, "")

    def _rough(
        self, counter: _Counter, start: Look, end: Look, window_s: float, why: str = ""
    ) -> Reading:
        """The difference of two reads, each up to a period old, and somewhat beside the window."""
        energy_j, duration_s = end.joules - start.joules, max(end.hi_s - start.lo_s, 1e-9)
        if energy_j <= 0:
            return self._unmeasured(counter.domain, "the counter did not move in the window")
        # A host that stalls reads late: what was used meanwhile is among it.
        doubt_s = math.hypot(counter.period_s / math.sqrt(6), max(0.0, duration_s - window_s))
        spread_j = energy_j / duration_s * doubt_s
        reason = f"not aligned to the counter's ticks{why}"
        return self._made(counter, energy_j, spread_j, duration_s, reason)

    def _made(
        self, counter: _Counter, energy_j: float, spread_j: float, duration_s: float, reason: str
    ) -> Reading:
        quality: Quality = "short" if reason else "ok"
        if not reason and spread_j > _SHORT * energy_j:
            quality = "short"
            reason = (
                f"±{spread_j / energy_j:.1%}: a window of {duration_s:.3g} s is short for a"
                f" counter renewed every {counter.period_s * 1e3:.2g} ms"
            )
        return Reading(
            domain=counter.domain,
            meter=self.name,
            method="counter",
            energy_j=energy_j,
            uncertainty_j=spread_j,
            systematic=GAIN[counter.domain.partition(":")[0]],
            quality=quality,
            reason=reason or None,
            # The power next to the window is that of reading counters, not of a host at rest.
            before_w=None,
        )

    def _unmeasured(self, domain: str, reason: str) -> Reading:
        return Reading(
            domain=domain, meter=self.name, method="counter", quality="unmeasured", reason=reason
        )


def _track(zone: Zone, clock: Clock) -> Track:
    def read() -> int:
        try:
            return zone.read()
        except (OSError, ValueError) as error:
            raise CounterLost(f"the counter can't be read any more: {error}") from error

    return Track(read, unit_j=_UNIT_J, modulus=zone.modulus, limit_w=zone.limit_w, clock=clock)


def _attribute(
    before: Sequence[Tick], after: Sequence[Tick], start_s: float, end_s: float, period_s: float
) -> tuple[float, float]:
    """The energy of a window and its standard uncertainty; see the module for the formula.

    Args:
        before: ticks up to its start, two or more.
        after: ticks behind its end, two or more.
        start_s: of the window.
        end_s: of the window.
        period_s: from tick to tick.
    """
    anchor, first = before[-1], after[0]
    lead_s, rest_s = start_s - anchor.time_s, first.time_s - end_s
    (lead_w, lead_spread_w), (rest_w, rest_spread_w) = (
        _power(run, period_s) for run in (before, after)
    )
    energy_j = first.joules - anchor.joules - lead_w * lead_s - rest_w * rest_s
    load_w = energy_j / max(end_s - start_s, period_s)
    parts = (
        lead_w * anchor.spread_s,
        rest_w * first.spread_s,
        lead_spread_w * lead_s,
        rest_spread_w * rest_s,
        # Where we did not run for longer than a period, somebody else did.
        (load_w - lead_w) * max(0.0, lead_s - _MISSED * period_s),
        (load_w - rest_w) * max(0.0, rest_s - _MISSED * period_s),
        _UNIT_J / math.sqrt(6),
    )
    return energy_j, math.hypot(*parts)


def _power(run: Sequence[Tick], period_s: float) -> tuple[float, float]:
    """Mean power over some ticks, and how far that of a period next to them may be from it."""
    first, last = run[0], run[-1]
    duration_s = max(last.time_s - first.time_s, 1e-9)
    mean_w = (last.joules - first.joules) / duration_s
    time_w = mean_w * math.hypot(first.spread_s, last.spread_s) / duration_s
    found = [slope.power_w for slope in edges.slopes(run, period_s, _UNIT_J)]
    apart_w = statistics.stdev(found) if len(found) > 1 else _ALONE * mean_w
    return mean_w, math.hypot(time_w, apart_w)


class _Watch(threading.Thread):
    """Looks at the counters now and then, so that each wrap in a long window is seen."""

    def __init__(self, every_s: float, look: Callable[[], None]) -> None:
        super().__init__(name="llem-rapl", daemon=True)
        self._every_s = every_s
        self._look = look
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(self._every_s):
            self._look()

    def end(self) -> None:
        """Return when it will not look any more."""
        self._over.set()
        self.join()
