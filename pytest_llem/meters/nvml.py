"""The energy of NVIDIA GPUs: their counters, read around a window and never within it.

A GPU's energy counter is renewed every 20 or 100 ms. Windows are aligned to its ticks (``ticks``,
``edges``), so a window of a tenth of a second is as exact as one of a minute.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from pytest_llem import gpus
from pytest_llem.extensions import Target
from pytest_llem.meters import edges, sampled, ticks, within
from pytest_llem.meters.edges import Attributed, Evidence
from pytest_llem.meters.gpu_board import Board, Counters, probe, recover
from pytest_llem.meters.gpu_window import SHORT, End, Loose, Start, judged, watch_sensor
from pytest_llem.meters.mean_power import MeanPower, TraceMeans, Watch
from pytest_llem.meters.ticks import Clock, CounterLost, Look, Tick, Track
from pytest_llem.nvml import bindings, reason_of
from pytest_llem.records import Reading

__all__ = ["NvmlMeter"]

GAIN = 0.05
"""Relative systematic uncertainty of the sensors behind counter and power readings: ±5 % by
NVIDIA's documentation of nvmlDeviceGetPowerUsage; it doesn't shrink with longer windows."""

_BEFORE = 2
_GAP = 1.5
_PATIENCE_S = 1.0
_UNSEEN = (
    "no tick of the energy counter was seen around the window: it stopped, or this host was too"
    " busy to see it; leave it some processor time, and measure again"
)
_TOOSHORT = "the window is too short for its energy to be told"


class NvmlMeter:
    """Reads ``gpu:<uuid>`` of the target's GPUs."""

    name = "nvml"
    estimates = False

    def __init__(
        self,
        target: Target,
        library: Counters | None = None,
        clock: Clock = time,
        watch: Callable[[Sequence[str]], Watch] = TraceMeans,
    ) -> None:
        """Find the target's GPUs and probe their counters, all at the same time.

        Args:
            target: what to measure.
            library: ``pynvml``, or a test's own.
            clock: the module ``time``, or a test's own.
            watch: collects power readings of the GPUs of some UUIDs, where there is no counter.
        """
        self._clock = clock
        self._power: MeanPower | None = None
        self._loose: dict[str, Loose] = {}
        self.domains: Sequence[str] = ()
        self.reason = ""
        self._boards: list[Board] = []
        self._library: Counters | None = None
        if target.device != "cuda":
            self.reason = "it reads NVIDIA GPUs only"
            return
        found = gpus.look(library)
        wanted = found.gpus if target.count is None else found.gpus[: target.count]
        if not wanted:
            self.reason = found.reason
            return
        counters = cast(Counters, bindings()) if library is None else library
        try:
            counters.nvmlInit()
        except counters.NVMLError as error:
            self.reason = reason_of(error)
            return
        self._library = counters
        self._boards = [Board(gpu, counters, clock) for gpu in wanted]
        self.domains = tuple(board.domain for board in self._boards)
        probe(self._boards, clock)
        lacking = [board.domain for board in self._boards if board.lacks_counter]
        if lacking:
            uuids = [domain.removeprefix("gpu:") for domain in lacking]
            self._power = MeanPower(lacking, watch(uuids), clock)

    @property
    def about(self) -> Mapping[str, Mapping[str, Any]]:
        """What was found out of each domain: how its energy is read, how often it is renewed."""
        spans = {} if self._power is None else self._power.spans
        return {board.domain: board.about(spans.get(board.domain)) for board in self._boards}

    @property
    def _readable(self) -> dict[Track, Board]:
        return {b.track: b for b in self._boards if b.track is not None and not b.problem}

    def start(self, exact: bool = True) -> Start:
        """Wait until power is at rest and a counter has just ticked, two periods at most."""
        token = Start(exact=exact)
        if exact:
            recover(self._boards, self._clock)
        boards = self._readable
        since_s = self._clock.monotonic()
        if exact:
            # Mostly far from a tick, so that it tells of the last one, too.
            for board in boards.values():
                board.look()
        instants_w: dict[str, list[float]] = {}

        def enough(track: Track) -> bool:
            board = boards[track]
            if loose := self._loose.get(board.domain):
                watch_sensor(board, board.behind(loose.end), instants_w)
            run = board.rest()
            fresh = [tick for tick in run if tick.lo_s >= since_s]
            found = edges.slopes(run, track.period_s, track.step_j)
            at_rest = len(found) > 1 and found[-1].agrees(found[-2])
            return bool(fresh) and (at_rest or len(fresh) >= _BEFORE)

        if exact and self._power is not None:
            self._power.begin()
        if exact:
            self._gather(boards, enough, _BEFORE + 2)
            self._learn(boards, instants_w)
        for track, board in boards.items():
            run = board.rest()
            # Without a tick right before the window its energy can't be told from what went before.
            fresh = bool(run) and run[-1].lo_s >= since_s
            token.before[board.domain] = run if fresh else []
            look = track.last if exact else board.look()
            if look is not None:
                token.looks[board.domain] = look
        return token

    def _learn(self, boards: dict[Track, Board], instants_w: dict[str, list[float]]) -> None:
        """What the ticks behind an unaligned window, a warm-up say, tell of the counters."""
        for track, board in boards.items():
            loose = self._loose.pop(board.domain, None)
            behind = board.behind(loose.end) if loose else []
            if loose is None or len(behind) < 2:
                continue
            if behind[0].lo_s > loose.end.hi_s + _GAP * track.period_s:
                # Too late to tell how it ended: there may have been another load since.
                continue
            begin = Tick(loose.start.lo_s, loose.start.hi_s, loose.start.joules)
            evidence = Evidence(
                start_s=loose.start_s,
                end_s=loose.end_s,
                before=[begin],
                at_end=loose.end,
                after=behind,
                period_s=track.period_s,
                unit_j=track.step_j,
            )
            board.vote(sampled.sees_part(evidence, instants_w.get(board.domain, [])))

    def stop(self, token: Start, start_s: float, end_s: float) -> Sequence[Reading]:
        """Read the counters at once, wait until power is at rest, and attribute the energy."""
        end = self._watched(token)
        if token.exact and self._power is not None:
            end.by_power = self._power.end(start_s, end_s)
        return [self._reading(board, token, end, start_s, end_s) for board in self._boards]

    def stop_within(
        self, token: Start, start_s: float, latest_s: float
    ) -> tuple[float, Sequence[Reading]]:
        """End a window out of a load that goes on, at a tick: the last one before a time.

        Of several GPUs it is the first of their ticks. Returns the window's end, and its readings.
        """
        end = self._watched(token)
        for track, board in self._readable.items():
            look = end.looks.get(board.domain)
            if token.exact and look is not None and (behind := board.behind(look)):
                doubt_s = track.doubt_s + min(track.jitter_s, track.period_s / 10)
                end.lasts[board.domain] = within.last_tick(look, behind, track.period_s, doubt_s)
        end_s = min((tick.time_s for tick in end.lasts.values()), default=latest_s)
        slowest_s = max((track.period_s for track in self._readable), default=0.0)
        if not end.lasts or end_s < start_s + slowest_s / 2:
            end.lasts, end_s = {}, latest_s
        if token.exact and self._power is not None:
            told_s = end_s if end.lasts else None
            end_s, end.by_power = self._power.within(start_s, latest_s, told_s)
        return end_s, [self._reading(b, token, end, start_s, end_s) for b in self._boards]

    def _watched(self, token: Start) -> End:
        """What was seen behind a window that has just ended."""
        boards = self._readable
        end = End()
        for board in boards.values():
            if (look := board.look()) is not None:
                end.looks[board.domain] = look
                board.rest_s = look.lo_s
        if token.exact:
            self._settle(token, boards, end)
        return end

    def _settle(self, token: Start, boards: dict[Track, Board], end: End) -> None:
        """Watch ticks behind the window until the power is at rest."""
        before = {
            track: edges.slopes(token.before.get(board.domain, []), track.period_s, track.step_j)
            for track, board in boards.items()
        }

        def enough(track: Track) -> bool:
            board = boards[track]
            behind = board.behind(end.looks[board.domain])
            watch_sensor(board, behind, end.instants_w)
            found = edges.slopes(behind, track.period_s, track.step_j)
            return len(behind) >= edges.AFTER or edges.is_settled(before[track], found)

        self._gather(boards, enough, edges.AFTER + 2)

    def _gather(
        self, boards: dict[Track, Board], enough: Callable[[Track], bool], periods: int
    ) -> None:
        def lost(track: Track, error: CounterLost) -> None:
            boards[track].lose(str(error))

        # Longer where the host is so busy that ticks go unseen.
        longest_s = max(_PATIENCE_S, periods * max((t.period_s for t in boards), default=0.0))
        live = [track for track, board in boards.items() if not board.problem]
        ticks.gather(live, enough, lost, longest_s, self._clock)

    def _reading(
        self, board: Board, token: Start, end: End, start_s: float, end_s: float
    ) -> Reading:
        track, domain = board.track, board.domain
        if board.lacks_counter and token.exact:
            return self._by_power(domain, end.by_power.get(domain, _UNSEEN), end_s - start_s)
        if board.problem or track is None or domain not in end.looks:
            return self._unmeasured(domain, board.problem or _UNSEEN)
        look, before = end.looks[domain], token.before.get(domain, [])
        if not token.exact:
            if domain in token.looks:
                self._loose[domain] = Loose(token.looks[domain], look, start_s, end_s)
            return self._rough(track, domain, token.looks.get(domain), look)
        behind = board.behind(look)
        if not before or len(behind) < 2:
            return self._unmeasured(domain, _UNSEEN)
        evidence = Evidence(
            start_s=start_s,
            end_s=end_s,
            before=before,
            at_end=look,
            after=behind,
            period_s=track.period_s,
            unit_j=track.step_j,
            doubt_s=track.doubt_s + min(track.jitter_s, track.period_s / 10),
        )
        return self._attributed(board, evidence, end)

    def _attributed(self, board: Board, evidence: Evidence, end: End) -> Reading:
        """The energy by a counter of which it is known, or not, whether it sees all of the time."""
        start_s, end_s = evidence.start_s, evidence.end_s
        plain = self._plain(board, evidence, end)
        doubtful = board.sees_part > 0 or (board.sees_part == 0 and board.suspected)
        if not doubtful:
            return self._measured(board.domain, evidence, plain)
        part = sampled.attribute_sampled(evidence, board.varies_w(start_s, end_s))
        if part is None:
            return self._unmeasured(
                board.domain,
                f"{sampled.SEEN}, and none of a window of {end_s - start_s:.3g} s; make it longer",
            )
        if board.sees_part > 0:
            return self._measured(board.domain, evidence, part, sampled.SEEN)
        doubt_j = math.hypot(
            plain.uncertainty_j, part.uncertainty_j, part.energy_j - plain.energy_j
        )
        either = dataclasses.replace(plain, uncertainty_j=doubt_j)
        return self._measured(board.domain, evidence, either, sampled.EITHER)

    def _plain(self, board: Board, evidence: Evidence, end: End) -> Attributed:
        """The energy by a counter that sees all of the time."""
        if (last := end.lasts.get(board.domain)) is None:
            instants_w = end.instants_w.get(board.domain, [])
            board.vote(sampled.sees_part(evidence, instants_w))
            return edges.attribute(evidence)
        until_s = last.time_s - evidence.start_s
        return within.moved(within.attribute(evidence, last), until_s, evidence.end_s - last.time_s)

    def _measured(
        self, domain: str, evidence: Evidence, found: Attributed, doubt: str = ""
    ) -> Reading:
        if found.energy_j <= found.uncertainty_j:
            return self._unmeasured(domain, _TOOSHORT)
        quality, reason = judged(found, evidence, doubt)
        return Reading(
            domain=domain,
            meter=self.name,
            method="counter",
            energy_j=found.energy_j,
            uncertainty_j=found.uncertainty_j,
            systematic=GAIN,
            quality=quality,
            reason=reason,
            to_idle=found.to_idle,
            before_w=found.before.power_w if found.before else None,
        )

    def _by_power(self, domain: str, found: Attributed | str, duration_s: float) -> Reading:
        """The reading of a GPU that has no counter."""
        if isinstance(found, str) or found.energy_j <= 0:
            reason = found if isinstance(found, str) else _TOOSHORT
            return dataclasses.replace(self._unmeasured(domain, reason), method="power")
        relative = found.uncertainty_j / found.energy_j
        short = f"±{relative:.1%}: a window of {duration_s:.3g} s is short for readings of power"
        return Reading(
            domain=domain,
            meter=self.name,
            method="power",
            energy_j=found.energy_j,
            uncertainty_j=found.uncertainty_j,
            systematic=GAIN,
            quality="short" if relative > SHORT else "ok",
            reason=short if relative > SHORT else None,
            to_idle=found.to_idle,
            before_w=found.before.power_w if found.before else None,
        )

    def _rough(self, track: Track, domain: str, start: Look | None, end: Look) -> Reading:
        """The difference of two reads, each up to a period old."""
        if start is None:
            return self._unmeasured(domain, _UNSEEN)
        energy_j = end.joules - start.joules
        if energy_j <= 0:
            return self._unmeasured(domain, _TOOSHORT)
        return Reading(
            domain=domain,
            meter=self.name,
            method="counter",
            energy_j=energy_j,
            uncertainty_j=energy_j / (end.hi_s - start.lo_s) * track.period_s / 6**0.5,
            systematic=GAIN,
            quality="short",
            reason=f"not aligned to the counter's ticks, {track.period_s * 1e3:.3g} ms apart",
        )

    def _unmeasured(self, domain: str, reason: str) -> Reading:
        return Reading(
            domain=domain, meter=self.name, method="counter", quality="unmeasured", reason=reason
        )

    def close(self) -> None:
        """Close NVML, and end what watches power."""
        if self._power is not None:
            self._power.close()
            self._power = None
        library, self._library = self._library, None
        if library is not None:
            with contextlib.suppress(library.NVMLError):
                library.nvmlShutdown()
