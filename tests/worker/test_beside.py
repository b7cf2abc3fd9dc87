"""The role ``meter``: a worker of its own on the host, asked for windows over its pipes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.errors import LlemError
from pytest_llem.extensions import Launch, Transport
from pytest_llem.records import Reading, ToIdle
from pytest_llem.runners.frames import FrameReader
from pytest_llem.runners.joining import join
from pytest_llem.runners.local import start
from pytest_llem.wire import from_dict
from pytest_llem.worker.beside import boot_id, serve_windows
from tests.rig.fixtures import MakePowercap
from tests.rig.powercap import Zone
from tests.rig.spans import Span, wrong

READING = Reading(
    domain="cpu:0",
    meter="rapl",
    method="counter",
    energy_j=5.0,
    uncertainty_j=0.1,
    systematic=0.05,
    to_idle=ToIdle(above_j=2.0),
)
READY = {"frame": "meter_ready", "domains": ["cpu:0"], "estimates": False, "reason": ""}


class Desk:
    """The other end of a worker of the role ``meter``."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._reader = FrameReader()
        self._frames: list[dict[str, Any]] = []
        self.hello = self.hear()

    def hear(self) -> dict[str, Any]:
        while not self._frames:
            data = self.transport.receive(60)
            assert data, self.transport.log_tail(20)
            self._frames.extend(self._reader.feed(data))
        return self._frames.pop(0)

    def ask(self, frame: str, **fields: Any) -> dict[str, Any]:
        self.transport.send(json.dumps({"frame": frame, **fields}).encode() + b"\n")
        return self.hear()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[[Path], Desk]]:
    opened: list[Transport] = []

    def make(root: Path) -> Desk:
        environment = {"LLEM_POWERCAP": str(root)}
        launch = Launch(backend="", log=tmp_path / "log", role="meter", environment=environment)
        opened.append(start(launch))
        return Desk(opened[-1])

    yield make
    for transport in opened:
        transport.stop(0)


# --- the worker ----------------------------------------------------------------------------


def told(meter: Desk, exact: bool, seconds: float) -> tuple[Reading, Span]:
    """What a meter says of a window."""
    asked_s = time.monotonic()
    assert meter.ask("window_start", meter="rapl", exact=exact) == {"frame": "window_started"}
    start_s = time.monotonic()
    time.sleep(seconds)
    end_s = time.monotonic()
    answer = meter.ask("window_stop", meter="rapl", start_s=start_s, end_s=end_s)
    assert answer["frame"] == "readings"
    (reading,) = [from_dict(Reading, row) for row in answer["readings"]]
    told_s = time.monotonic()
    return reading, Span(asked_s=asked_s, start_s=start_s, end_s=end_s, told_s=told_s)


def test_windows_are_read_by_a_worker_on_the_host(
    powercap: MakePowercap, desk: Callable[[Path], Desk]
) -> None:
    tree = powercap([Zone(name="package-0", wave="const:110")])

    def windows() -> list[tuple[Reading, Span]]:
        meter = desk(tree.root)
        assert meter.hello["boot_id"] == boot_id()
        assert meter.ask("meter_request", meter="rapl", device="cuda", count=1) == READY
        found = [told(meter, *asked) for asked in ((True, 0.5), (False, 0.3), (True, 0.4))]
        for reading, _ in found:
            assert join([reading], boot_id(), meter.hello["boot_id"]) == (reading,)
        meter.transport.send(b'{"frame": "close"}\n')
        assert meter.transport.wait(20) == 0
        return found

    found, late_s = tree.calmly(windows)
    for reading, span in found:
        assert not wrong(reading, tree, "intel-rapl:0", span, late_s)


def test_a_counter_that_cannot_be_read_is_told_as_beside_the_engine(
    powercap: MakePowercap, desk: Callable[[Path], Desk]
) -> None:
    meter = desk(powercap([Zone(name="package-0", unreadable=True)]).root)
    meter.ask("meter_request", meter="rapl", device="cpu", count=1)
    meter.ask("window_start", meter="rapl", exact=True)
    (row,) = meter.ask("window_stop", meter="rapl", start_s=1.0, end_s=2.0)["readings"]
    assert row["energy_j"] is None
    assert "can't be read" in row["reason"]


def test_a_meter_that_is_asked_nonsense_says_so_and_ends(
    tmp_path: Path, desk: Callable[[Path], Desk]
) -> None:
    meter = desk(tmp_path)
    answer = meter.ask("window_stop", meter="rapl", start_s=1.0, end_s=2.0)
    assert answer["frame"] == "error"
    assert answer["kind"] == "refused"
    assert meter.transport.wait(20) == 1


def test_a_meter_whose_starter_is_gone_ends(tmp_path: Path, desk: Callable[[Path], Desk]) -> None:
    meter = desk(tmp_path)
    meter.transport.stop(5)
    assert meter.transport.wait(20) is not None


@pytest.mark.parametrize("line", ['{"frame": "window_stop"}', '{"frame": "sing"}'])
def test_what_cannot_be_answered_is_refused(line: str) -> None:
    with pytest.raises(LlemError, match="can't answer"):
        serve_windows([line], lambda *_, **__: None)


def test_all_ends_with_the_frames() -> None:
    sent: list[str] = []
    request = '{"frame": "meter_request", "meter": "estimate", "device": "cpu", "count": 1}'
    window = '{"frame": "window_start", "meter": "estimate", "exact": true}'
    serve_windows([request, window], lambda kind, **_: sent.append(kind))
    assert sent == ["meter_ready", "window_started"]


# --- joining -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "meter", "words"),
    [
        ("a", "b", "ran on another kernel"),
        (None, "b", "isn't known"),
        ("a", None, "isn't known"),
        (None, None, "isn't known"),
        ("", "", "isn't known"),
    ],
)
def test_readings_by_another_clock_have_no_figures(
    engine: str | None, meter: str | None, words: str
) -> None:
    (found,) = join([READING], engine, meter)
    assert (found.energy_j, found.uncertainty_j, found.to_idle) == (None, None, None)
    assert (found.domain, found.meter, found.quality) == ("cpu:0", "rapl", "unmeasured")
    assert words in (found.reason or "")
    assert "clocks can't be compared" in (found.reason or "")


def test_readings_by_the_same_clock_are_as_they_were() -> None:
    assert join([READING], "a", "a") == (READING,)
