"""What meters promise, and ``meter_conformance``."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from pytest_llem.extensions import METERS, Meter, Target, find
from pytest_llem.records import WORST_FIRST, Reading
from pytest_llem.testing.promises import Book, Promise, judge
from pytest_llem.wire import to_dict

__all__ = ["METER_PROMISES", "MeterTrial", "meter_conformance"]

_DOMAIN = re.compile(r"gpu:.+|(cpu|dram):\d+")
_METHODS = {"counter", "power", "estimate"}


class MeterTrial:
    """A meter of one target, and the readings of windows that several promises look at."""

    def __init__(
        self,
        meter: str | Callable[[Target], Meter],
        target: Target | None = None,
        *,
        window_s: float = 0.2,
        work: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take a meter.

        Args:
            meter: name of its entry point, or its class.
            target: what to read; the CPU where nothing is said.
            window_s: length of a window, in seconds.
            work: what goes on in a window of so many seconds.
        """
        self.entry = meter if isinstance(meter, str) else None
        make: Callable[[Target], Meter] = find(METERS, meter) if isinstance(meter, str) else meter
        self.make = make
        self.target = target or Target(device="cpu")
        self.meter = make(self.target)
        self._window_s = window_s
        self._work = work
        self._windows: tuple[Sequence[Reading], Sequence[Reading]] | None = None

    def __enter__(self) -> MeterTrial:
        """It is made already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the meter."""
        self.meter.close()

    def windows(self) -> tuple[Sequence[Reading], Sequence[Reading]]:
        """Readings of a window, and of another in the second half of it."""
        if self._windows is None:
            half_s = self._window_s / 2
            outer = self.meter.start(exact=True)
            began_s = time.monotonic()
            self._work(half_s)
            inner = self.meter.start(exact=False)
            middle_s = time.monotonic()
            self._work(half_s)
            ended_s = time.monotonic()
            second = tuple(self.meter.stop(inner, middle_s, ended_s))
            self._windows = tuple(self.meter.stop(outer, began_s, ended_s)), second
        return self._windows

    def readings(self) -> tuple[Reading, ...]:
        """Of both windows."""
        whole, half = self.windows()
        return (*whole, *half)


_book = Book[MeterTrial]()


def meter_conformance(
    meter: str | Callable[[Target], Meter],
    target: Target | None = None,
    *,
    window_s: float = 0.2,
    work: Callable[[float], None] = time.sleep,
    skip: Collection[str] = (),
) -> None:
    """Try a meter on all that energies rely on.

    Args:
        meter: name of its entry point, or its class.
        target: what to read; the CPU where nothing is said.
        window_s: length of a window, in seconds.
        work: what goes on in a window of so many seconds.
        skip: names of promises that aren't tried.

    Raises:
        AssertionError: naming every promise that isn't kept, and how.
        ValueError: for a promise to skip that doesn't exist.
        LlemError: when there is no entry point of that name.
    """
    __tracebackhide__ = True
    with MeterTrial(meter, target, window_s=window_s, work=work) as trial:
        judge(f"the meter {trial.meter.name}", METER_PROMISES, trial, skip)


@_book.promise("names", "it has a name, its entry point's, and says whether it estimates")
def _names(trial: MeterTrial) -> Iterator[str]:
    # Whatever its types say: they may have been checked by nobody.
    name: Any = trial.meter.name
    estimates: Any = trial.meter.estimates
    if not isinstance(name, str) or not name.strip():
        yield f"name is {name!r}, not a text"
    elif trial.entry is not None and name != trial.entry:
        yield f"name is {name!r}, but its entry point is called {trial.entry!r}"
    if not isinstance(estimates, bool):
        yield f"estimates is {estimates!r}"


@_book.promise("domains", "domains are gpu:<uuid>, cpu:<n>, dram:<n>; with none there is a reason")
def _domains(trial: MeterTrial) -> Iterator[str]:
    domains = list(trial.meter.domains)
    if wrong := [name for name in domains if not _DOMAIN.fullmatch(name)]:
        yield f"there is {', '.join(wrong)}"
    if len(domains) != len(set(domains)):
        yield f"one is there twice: {', '.join(domains)}"
    if not domains and not trial.meter.reason:
        yield "there is neither a domain nor a reason"


@_book.promise("readings", "each window has one reading of each domain, by this meter")
def _readings(trial: MeterTrial) -> Iterator[str]:
    for readings in trial.windows():
        found = sorted(reading.domain for reading in readings)
        if found != sorted(trial.meter.domains):
            yield f"of {sorted(trial.meter.domains)} it read {found}"
    if strangers := {r.meter for r in trial.readings()} - {trial.meter.name}:
        yield f"readings name {', '.join(sorted(strangers))} as their meter"


@_book.promise("honest", "an energy is a number of joules, or null with a reason; never 0 for null")
def _honest(trial: MeterTrial) -> Iterator[str]:
    for reading in trial.readings():
        energy_j, what = reading.energy_j, f"{reading.domain}: "
        if reading.quality not in WORST_FIRST or reading.method not in _METHODS:
            yield f"{what}quality {reading.quality!r}, method {reading.method!r}"
        if (energy_j is None) != (reading.quality == "unmeasured"):
            yield f"{what}energy_j is {energy_j} and quality {reading.quality}"
        if reading.quality in {"unmeasured", "estimated"} and not reading.reason:
            yield f"{what}{reading.quality} without a reason"
        if energy_j is not None and not (math.isfinite(energy_j) and energy_j >= 0):
            yield f"{what}energy_j is {energy_j}"
        sigma_j = reading.uncertainty_j
        if sigma_j is not None and not (math.isfinite(sigma_j) and sigma_j >= 0):
            yield f"{what}uncertainty_j is {sigma_j}"


@_book.promise("estimates", "what estimates says so with every reading, and nothing else does")
def _estimates(trial: MeterTrial) -> Iterator[str]:
    for reading in trial.readings():
        if reading.energy_j is not None and trial.meter.estimates != (
            reading.method == "estimate" and reading.quality == "estimated"
        ):
            yield (
                f"{reading.domain}: estimates is {trial.meter.estimates}, method {reading.method},"
                f" quality {reading.quality}"
            )


@_book.promise("nested", "windows may overlap: the part of one takes no more than the whole")
def _nested(trial: MeterTrial) -> Iterator[str]:
    whole, half = ({r.domain: r for r in readings} for readings in trial.windows())
    for domain in whole.keys() & half.keys():
        most_j, part_j = whole[domain].energy_j, half[domain].energy_j
        if most_j is None or part_j is None:
            continue
        known_j = math.hypot(
            whole[domain].uncertainty_j or math.inf, half[domain].uncertainty_j or math.inf
        )
        if part_j > most_j + 4 * known_j:
            yield f"{domain}: {part_j:.3g} J of {most_j:.3g} J"


@_book.promise("json", "readings, and about where it has that, are data that JSON can hold")
def _json(trial: MeterTrial) -> Iterator[str]:
    try:
        json.dumps([to_dict(reading) for reading in trial.readings()], allow_nan=False)
        json.dumps(getattr(trial.meter, "about", {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        yield str(error)


@_book.promise("closes", "close() lets another be made")
def _closes(trial: MeterTrial) -> Iterator[str]:
    trial.meter.close()
    trial.meter = trial.make(trial.target)
    domains: Any = trial.meter.domains
    if not isinstance(domains, Sequence):
        yield f"its domains are {domains!r}"


METER_PROMISES: tuple[Promise[MeterTrial], ...] = tuple(_book.promises)
"""All that meters promise, in the order in which they are tried."""
