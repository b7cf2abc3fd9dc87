"""Damaged output of a worker: a clear failure or the true result, never another one, never a hang.

Runs for ``LLEM_FUZZ_S`` seconds (CI: a minute). A failure prints the seed of its case.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time

from pytest_llem.errors import WorkerError
from pytest_llem.runners.conversation import converse
from pytest_llem.runners.frames import FrameReader
from pytest_llem.wire import PROTOCOL, checksum, to_dict
from tests.builders import DIGEST, experiment, measurement
from tests.fakes import ScriptedTransport

SECONDS = float(os.environ.get("LLEM_FUZZ_S", "3"))
LEAST_CASES = 100
EXPERIMENT = experiment()
MEASUREMENT = measurement()
FRAMES = [
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
PIECES = [b"\n", b"{", b"}", b'"', b"[" * 2000, b"\0", b"\xff\xfe", b"NaN", b"1e999", b"null", b"-"]


def damaged(generator: random.Random) -> bytes:
    """The frames of a good conversation, with some damage."""
    frames = [json.dumps(frame).encode() + b"\n" for frame in FRAMES]
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


def test_a_damaged_stream_gives_frames_or_a_value_error() -> None:
    deadline = time.monotonic() + SECONDS / 6
    cases = 0
    while time.monotonic() < deadline or cases < LEAST_CASES:
        seed = random.randrange(1 << 48)
        generator = random.Random(seed)
        reader = FrameReader()
        try:
            for piece in cut(generator, damaged(generator)):
                for frame in reader.feed(piece):
                    assert isinstance(frame["frame"], str), seed
        except (ValueError, RecursionError):
            pass
        cases += 1
    assert cases >= LEAST_CASES


def test_a_damaged_conversation_fails_or_gives_the_true_result() -> None:
    deadline = time.monotonic() + SECONDS / 6
    cases = 0
    while time.monotonic() < deadline or cases < LEAST_CASES:
        seed = random.randrange(1 << 48)
        generator = random.Random(seed)
        transport = ScriptedTransport(cut(generator, damaged(generator)), status=0)
        try:
            found = converse(transport, EXPERIMENT, DIGEST, 1, clock=transport.clock)
        except WorkerError:
            pass
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        else:
            assert found == MEASUREMENT, seed
        assert transport.stops, seed
        cases += 1
    assert cases >= LEAST_CASES
