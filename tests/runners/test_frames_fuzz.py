"""Damaged output of a worker: a clear failure or the true result, never another one, never a hang.

Runs for ``LLEM_FUZZ_S`` seconds (CI: a minute). A failure prints the seed of its case.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llem.demands import Limit
from pytest_llem.errors import WorkerError
from pytest_llem.records import Measurement
from pytest_llem.reports.collected import Collected
from pytest_llem.reports.json_report import document
from pytest_llem.reports.terminal import lines
from pytest_llem.results.gates import judge
from pytest_llem.results.outcome import Outcome
from pytest_llem.runners.beside import HostMeters
from pytest_llem.runners.conversation import converse
from pytest_llem.runners.frames import FrameReader
from pytest_llem.wire import PROTOCOL, checksum, from_dict, to_dict
from tests.builders import DIGEST, experiment, gate, measurement, outcome, reading
from tests.damage import changed
from tests.fakes import ScriptedTransport

SECONDS = float(os.environ.get("LLEM_FUZZ_S", "3"))
LEAST_CASES = 100
EXPERIMENT = experiment()
MEASUREMENT = measurement()
FRAMES: list[dict[str, Any]] = [
    {"frame": "hello", "protocol": PROTOCOL, "llem": "0", "versions": {}, "install": ""},
    {"frame": "phase", "phase": "load"},
    {"frame": "phase", "phase": "measure"},
    {"frame": "progress", "done": 1, "total": 2},
    {"frame": "series", "requests": [{"submitted_s": 0.5, "token_s": [1.0, 2.5]}]},
    {
        "frame": "result",
        "measurement": to_dict(MEASUREMENT),
        "sha256": checksum(to_dict(MEASUREMENT)),
    },
]
ANSWERS: list[dict[str, Any]] = [
    {"frame": "hello", "boot_id": "a"},
    {"frame": "meter_ready", "domains": ["cpu:0"], "estimates": False, "reason": ""},
    {"frame": "window_started"},
    {"frame": "readings", "readings": [to_dict(reading())], "end_s": 2.0, "about": {}},
]
QUESTIONS: list[dict[str, Any]] = [
    {"frame": "meter_request", "meter": "rapl", "device": "cpu", "count": None},
    {"frame": "window_start", "meter": "rapl", "exact": True},
    {"frame": "window_stop", "meter": "rapl", "start_s": 1.0, "end_s": 2.0},
]
PIECES = [b"\n", b"{", b"}", b'"', b"[" * 2000, b"\0", b"\xff\xfe", b"NaN", b"1e999", b"null", b"-"]


def damaged(generator: random.Random, said: Sequence[Mapping[str, Any]] = FRAMES) -> bytes:
    """The frames of a good conversation, with some damage."""
    frames = [json.dumps(frame).encode() + b"\n" for frame in said]
    if generator.random() < 0.3:
        generator.shuffle(frames)
    data = bytearray(b"".join(frames))
    for _ in range(generator.randrange(1, 6)):
        place = generator.randrange(len(data) + 1)
        match generator.randrange(5):
            case 0:
                data[place:place] = generator.choice(PIECES)
            case 1:
                del data[place : place + generator.randrange(1, 40)]
            case 2 if place < len(data):
                data[place] ^= 1 << generator.randrange(8)
            case 3:
                data[place:place] = data[: generator.randrange(200)]
            case _:
                del data[place:]
    return bytes(data)


def cut(generator: random.Random, data: bytes) -> list[bytes]:
    """The same bytes in pieces, as a pipe might hand them over."""
    places = sorted(generator.randrange(len(data) + 1) for _ in range(generator.randrange(8)))
    edges = [0, *places, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


def _perhaps(generator: random.Random, frame: dict[str, Any]) -> Any:
    """What is behind a wrong frame is seen only where others aren't wrong."""
    return changed(generator, frame) if generator.random() < 0.3 else copy.deepcopy(frame)


def fuzz(check: Callable[[random.Random], None]) -> None:
    """Check one case after another for a fifth of the time; a failure tells its seed."""
    deadline = time.monotonic() + SECONDS / 5
    count = 0
    while time.monotonic() < deadline or count < LEAST_CASES:
        seed = random.randrange(1 << 48)
        try:
            check(random.Random(seed))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r:.200}") from error
        count += 1
    assert count >= LEAST_CASES


def test_a_damaged_stream_gives_frames_or_a_value_error() -> None:
    def check(generator: random.Random) -> None:
        reader = FrameReader()
        with contextlib.suppress(ValueError, RecursionError):
            for piece in cut(generator, damaged(generator)):
                for frame in reader.feed(piece):
                    assert isinstance(frame["frame"], str)

    fuzz(check)


def conversation(chunks: list[bytes]) -> Measurement | None:
    """What comes of a conversation; None for a failure that is told as it should be."""
    transport = ScriptedTransport(chunks, status=0)
    found = None
    with contextlib.suppress(WorkerError):
        found = converse(transport, EXPERIMENT, DIGEST, 1, clock=transport.clock)
    assert transport.stops
    return found


def test_a_damaged_conversation_fails_or_gives_the_true_result() -> None:
    def check(generator: random.Random) -> None:
        assert conversation(cut(generator, damaged(generator))) in (None, MEASUREMENT)

    fuzz(check)


def test_frames_of_another_content_fail_or_are_understood() -> None:
    # Not damaged on the way, so that the checksum is right: said by a program that is wrong.
    def check(generator: random.Random) -> None:
        frames = [_perhaps(generator, frame) for frame in FRAMES]
        with contextlib.suppress(AttributeError, ValueError):
            frames[-1]["sha256"] = checksum(frames[-1].get("measurement"))
        found = conversation([json.dumps(frame).encode() + b"\n" for frame in frames])
        if found is not None:
            assert told(found)

    fuzz(check)


def told(measurement: Measurement) -> str:
    """What is made of a measurement that was believed, down to the report's text."""
    made = outcome(measurement=measurement)
    limit = Limit(metric="energy_j", most=1.0, regression=0.05)
    verdicts = judge([limit], [made], allow_estimated=True, strict=False)
    collected = Collected([made], [gate(*verdicts)])
    data = document(collected, session="s", environment={}, exit_status=0)
    return "\n".join([*(line.text for line in lines(collected)), json.dumps(data, allow_nan=False)])


def test_answers_of_the_hosts_meters_are_readings_or_the_reason_for_none() -> None:
    def check(generator: random.Random) -> None:
        said = [_perhaps(generator, frame) for frame in ANSWERS]
        pieces = [json.dumps(frame).encode() + b"\n" for frame in said]
        if generator.random() < 0.3:
            pieces = cut(generator, damaged(generator, ANSWERS))
        transport = ScriptedTransport(pieces, status=0)
        meters = HostMeters(Path("log"), lambda _: transport)
        kinds = [meters.answer(question, "a")["frame"] for question in QUESTIONS]
        assert kinds[1:] == ["window_started", "readings"]
        meters.close()

    fuzz(check)


def test_data_of_another_shape_are_records_or_refused() -> None:
    plain = to_dict(outcome())

    def check(generator: random.Random) -> None:
        with contextlib.suppress(ValueError):
            found = from_dict(Outcome, changed(generator, plain))
            assert from_dict(Outcome, to_dict(found)) == found

    fuzz(check)
