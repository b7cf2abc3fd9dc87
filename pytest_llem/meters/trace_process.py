"""The program of the power trace: a process of its own that asks NVML while an engine computes.

Started by :mod:`pytest_llem.meters.trace`. It is told what to do by JSON lines on standard input,
and answers each by one on standard output: first a hello, then

========================  ====================================================================
``{"do": "on"}``          sample from now on
``{"do": "off"}``         sample no more
``{"do": "samples",`` …   what was sampled between ``from`` and ``to``
``{"do": "ticks",`` …     renewals of the power reading between ``from`` and ``to``
========================  ====================================================================

It ends with its standard input, and with the process that started it. Times are of the monotonic
clock, which all processes of a host share.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pytest_llem.meters import glance
from pytest_llem.meters.power_ticks import Tick, TickFinder
from pytest_llem.nvml import (
    CLOCK_SM,
    FIELD_POWER_INSTANT,
    TEMPERATURE_GPU,
    Boards,
    NvmlRefused,
    event_bits,
)

__all__ = ["Sampler", "Watcher", "main"]

_PARENT_EVERY_S = 0.5
"""An engine's process may hold a copy of our standard input: its end isn't all there is to see."""

_MOST_SAMPLES = 2_000_000
"""About half a gigabyte: so many are kept, and no more are made."""

_MOST_TICKS = 500_000
_SEARCHING_S, _WAITING_S = 0.0005, 0.0001
"""Pauses between polls: while a period is searched for, and while a tick is due."""


class _Loop:
    """Something that is done again and again in a thread, between on and off."""

    def __init__(self) -> None:
        self._on = threading.Event()
        self._changed = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def switch(self, on: bool) -> None:
        """Begin, or pause."""
        (self._on.set if on else self._on.clear)()
        self._changed.set()

    def _run(self) -> None:
        while True:
            self._on.wait()
            self._changed.clear()
            self._work()

    def _work(self) -> None:
        """Go on until :meth:`_pause` says no."""

    def _pause(self, seconds: float) -> bool:
        """Wait; False when it is over."""
        if seconds > 0 and self._changed.wait(seconds):
            self._changed.clear()
        return self._on.is_set()


class Sampler(_Loop):
    """Samples all that is of interest of some GPUs, some times a second.

    Attributes:
        sources: for each GPU what its power is: ``instant`` or ``usage``.
        samples: rows of round, GPU, time, power, power usage, temperature, SM clock, event bits.
            What could not be read is None.
        reasons: for each GPU why something could not be read, the latest.
    """

    def __init__(self, boards: Boards, hz: float, glance: int | None = None) -> None:
        """Find out what the GPUs can tell, and begin switched off.

        ``glance`` is where the latest power of all of them is written.
        """
        self._glance = glance
        self.samples: list[tuple[Any, ...]] = []
        self.reasons: list[str] = ["" for _ in boards.handles]
        self._boards = boards
        self._period_s = 1 / hz
        self._round = 0
        self.sources = [self._source(handle) for handle in boards.handles]
        super().__init__()

    def _source(self, handle: object) -> str:
        try:
            self._instant_w(handle)
        except NvmlRefused:
            return "usage"
        return "instant"

    def _instant_w(self, handle: object) -> float:
        boards = self._boards
        (field,) = boards.ask(
            boards.library.nvmlDeviceGetFieldValues, handle, [FIELD_POWER_INSTANT]
        )
        if field.nvmlReturn != 0:
            raise NvmlRefused(f"the GPU doesn't tell its power now (error {field.nvmlReturn})")
        return float(field.value.uiVal) / 1000

    def _work(self) -> None:
        due_s = time.monotonic()
        while True:
            self._sample()
            # A round that took longer than a period isn't made up for.
            due_s = max(due_s + self._period_s, time.monotonic())
            if not self._pause(due_s - time.monotonic()):
                self._show(None)
                return

    def _sample(self) -> None:
        if len(self.samples) >= _MOST_SAMPLES:
            self.reasons = [f"there was room for {_MOST_SAMPLES} samples only"] * len(self.reasons)
            return
        for gpu, handle in enumerate(self._boards.handles):
            self.samples.append((self._round, gpu, *self._ask(gpu, handle)))
        self._round += 1
        latest = [row[3] for row in self.samples[-len(self._boards.handles) :]]
        self._show(None if None in latest else sum(latest))

    def _show(self, power_w: float | None) -> None:
        if self._glance is not None:
            glance.write(self._glance, power_w)

    def _ask(self, gpu: int, handle: object) -> tuple[Any, ...]:
        library = self._boards.library

        def read(function: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return self._boards.ask(function, handle, *arguments)
            except NvmlRefused as refused:
                self.reasons[gpu] = str(refused)
                return None

        asked_s = time.monotonic()
        power_w = None
        if self.sources[gpu] == "instant":
            try:
                power_w = self._instant_w(handle)
            except NvmlRefused as refused:
                self.reasons[gpu] = str(refused)
        at_s = (asked_s + time.monotonic()) / 2
        usage_mw = read(library.nvmlDeviceGetPowerUsage)
        usage_w = None if usage_mw is None else usage_mw / 1000
        if self.sources[gpu] == "usage":
            power_w, at_s = usage_w, (asked_s + time.monotonic()) / 2
        celsius = read(library.nvmlDeviceGetTemperature, TEMPERATURE_GPU)
        clock = read(library.nvmlDeviceGetClockInfo, CLOCK_SM)
        bits = read(functools.partial(event_bits, library))
        return at_s, power_w, usage_w, celsius, clock, bits


class Watcher(_Loop):
    """Watches one GPU's power usage for the moments at which it is renewed.

    Attributes:
        ticks: the latest of them.
        reason: why there are no more, should that be so.
    """

    def __init__(self, boards: Boards, handle: object) -> None:
        """Begin switched off."""
        self.ticks: deque[Tick] = deque(maxlen=_MOST_TICKS)
        self.reason = ""
        self._boards = boards
        self._handle = handle
        self._finder = TickFinder()
        super().__init__()

    @property
    def period_s(self) -> float | None:
        """How often it is renewed; None while that isn't known."""
        found = self._finder.fit
        return None if found is None else found.period_s

    def _work(self) -> None:
        # A grid from before a pause would have drifted away.
        self._finder = finder = TickFinder()
        while True:
            asked_s = time.monotonic()
            try:
                value = self._boards.ask(self._boards.library.nvmlDeviceGetPowerUsage, self._handle)
            except NvmlRefused as refused:
                self.reason = str(refused)
                finder = self._finder = TickFinder()
            else:
                tick = finder.feed(asked_s, time.monotonic(), value / 1000)
                if tick is not None:
                    self.ticks.append(tick)
            pause_s = finder.next_poll_s() - time.monotonic()
            shortest_s = _SEARCHING_S if finder.fit is None else _WAITING_S
            if not self._pause(max(pause_s, shortest_s)):
                return


class _Program:
    """Does what it is told."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        boards = Boards(settings["uuids"])
        hz = settings["hz"]
        self._sampler = None if hz is None else Sampler(boards, hz, settings["glance"])
        self._watchers = (
            [Watcher(boards, handle) for handle in boards.handles] if settings["ticks"] else []
        )

    def hello(self) -> dict[str, Any]:
        """What it can sample."""
        return {"sources": self._sampler.sources if self._sampler else []}

    def answer(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Follow an order; returns what there is to say."""
        do = order["do"]
        if do in {"on", "off"}:
            for loop in (self._sampler, *self._watchers):
                if loop is not None:
                    loop.switch(do == "on")
            return {"cpu_s": time.process_time()}
        between = (order["from"], order["to"])
        return self._samples(*between) if do == "samples" else self._ticks(*between)

    def _samples(self, from_s: float, to_s: float) -> dict[str, Any]:
        if self._sampler is None:
            return {"samples": [], "reasons": []}
        rows = [row for row in self._sampler.samples if from_s <= row[2] <= to_s]
        return {"samples": rows, "reasons": self._sampler.reasons}

    def _ticks(self, from_s: float, to_s: float) -> dict[str, Any]:
        return {
            "ticks": [
                {
                    "period_s": watcher.period_s,
                    "reason": watcher.reason,
                    "rows": [
                        (tick.lo_s, tick.hi_s, tick.value, tick.seen)
                        for tick in tuple(watcher.ticks)
                        if tick.hi_s >= from_s and tick.lo_s <= to_s
                    ],
                }
                for watcher in self._watchers
            ]
        }


def main(settings: Mapping[str, Any]) -> None:
    """Be the process.

    Args:
        settings: ``uuids`` of the GPUs, ``hz`` of the samples (None for none), whether to watch
            ``ticks``, ``parent``, the process id of whoever started it, and ``glance``, a
            descriptor for the power of the moment, or None.
    """
    # A terminal's Ctrl-C is for pytest, which then tells all others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        program = _Program(settings)
    except NvmlRefused as refused:
        _say({"reason": str(refused)})
        return
    _say(program.hello())
    for line in _lines(settings["parent"]):
        _say(program.answer(json.loads(line)))


def _lines(parent: int) -> Iterator[bytes]:
    """Lines of standard input, until its end or until whoever started us is gone."""
    rest = b""
    while os.getppid() == parent:
        ready, _, _ = select.select([0], [], [], _PARENT_EVERY_S)
        if not ready:
            continue
        data = os.read(0, 1 << 16)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def _say(answer: Mapping[str, Any] | Sequence[Any]) -> None:
    data = json.dumps(answer, separators=(",", ":")).encode() + b"\n"
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(1, data) :]
