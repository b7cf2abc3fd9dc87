"""Meters in a process of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pytest_llem.errors import LlemError
from pytest_llem.extensions import Target
from pytest_llem.meters.estimate import EstimateMeter
from pytest_llem.records import Reading
from pytest_llem.worker.bracket import MeterBracket
from pytest_llem.worker.meter_process import MeterApart, MeterProcess
from tests.rig.fixtures import MakePowercap
from tests.rig.powercap import Zone
from tests.rig.spans import Span, wrong

CPU = Target(device="cpu")
STEADY = Zone(name="package-0", wave="const:110", gated=False)


@pytest.fixture
def process() -> Iterator[MeterProcess]:
    """Started where a test asks for it: with the environment of then."""
    opened = MeterProcess()
    yield opened
    opened.close()


@pytest.fixture
def zones(powercap: MakePowercap, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of RAPL counters which the process is going to find."""
    root = powercap([STEADY]).root
    monkeypatch.setenv("LLEM_POWERCAP", str(root))
    return root


def test_a_window_is_read_as_beside_the_engine(
    powercap: MakePowercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = powercap([STEADY])
    monkeypatch.setenv("LLEM_POWERCAP", str(tree.root))
    process = MeterProcess()
    meter = process.meter("rapl", CPU)
    assert (meter.domains, meter.estimates, meter.reason) == (("cpu:0",), False, "")

    def windows() -> list[tuple[Reading, Span]]:
        asked_s = time.monotonic()
        meter.start()
        start_s = time.monotonic()
        time.sleep(0.3)
        end_s = time.monotonic()
        (reading,) = meter.stop(None, start_s, end_s)
        span = Span(asked_s=asked_s, start_s=start_s, end_s=end_s, told_s=time.monotonic())
        return [(reading, span)]

    found, late_s = tree.calmly(windows)
    for reading, span in found:
        assert not wrong(reading, tree, "intel-rapl:0", span, late_s)
    process.close()


@pytest.mark.usefixtures("zones")
def test_a_meter_without_an_end_of_its_own_ends_where_it_is_told(process: MeterProcess) -> None:
    meter = process.meter("rapl", CPU)
    assert isinstance(meter, MeterApart)
    meter.start()
    start_s = time.monotonic()
    time.sleep(0.05)
    latest_s = time.monotonic()
    end_s, (reading,) = meter.stop_within(None, start_s, latest_s)
    assert (end_s, reading.domain) == (latest_s, "cpu:0")


def test_a_model_of_this_process_stays_in_it(process: MeterProcess) -> None:
    meter: object = process.meter("estimate", CPU)
    assert isinstance(meter, EstimateMeter)


def test_a_meter_that_does_not_exist_is_refused(process: MeterProcess) -> None:
    with pytest.raises(LlemError, match="nothing is called 'ghost'"):
        process.meter("ghost", CPU)


@pytest.mark.usefixtures("zones")
def test_a_process_that_ends_leaves_its_domains_unmeasured(process: MeterProcess) -> None:
    meter = process.meter("rapl", CPU)
    os.kill(process.pid, signal.SIGKILL)
    meter.start()
    (reading,) = meter.stop(None, 1.0, 2.0)
    assert (reading.domain, reading.energy_j, reading.quality) == ("cpu:0", None, "unmeasured")
    assert "the process of the meters failed" in (reading.reason or "")
    with pytest.raises(LlemError, match="the process of the meters failed"):
        process.meter("rapl", CPU)


def test_it_ends_when_it_is_closed() -> None:
    process = MeterProcess()
    pid = process.pid
    process.close()
    assert not psutil.pid_exists(pid)


@pytest.mark.usefixtures("zones")
def test_an_event_loop_goes_on_while_a_bracket_waits(process: MeterProcess) -> None:
    meter = process.meter("rapl", CPU)
    bracket = MeterBracket([meter], time.monotonic)
    turns: list[str] = []

    async def turn(over: asyncio.Event) -> None:
        while not over.is_set():
            turns.append(threading.current_thread().name)
            await asyncio.sleep(0)

    async def window() -> tuple[float, float, int]:
        over = asyncio.Event()
        going_on = asyncio.ensure_future(turn(over))
        start_s = await bracket.start()
        during = len(turns)
        end_s, readings = await bracket.stop(start_s, time.monotonic())
        over.set()
        await going_on
        assert len(readings) == 1
        return start_s, end_s, during

    start_s, end_s, during = asyncio.run(window())
    assert start_s < end_s
    assert during > 1
    bracket.close()
