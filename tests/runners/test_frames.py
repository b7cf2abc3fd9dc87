"""The lines of a worker's output, taken apart into frames."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.runners.frames import FrameReader
from tests.builders import UNHURRIED

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # no lone surrogates: JSON has them, UTF-8 hasn't
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FRAMES = st.builds(
    lambda name, fields: {**fields, "frame": name},
    st.text(),
    st.dictionaries(st.text(max_size=5), JSON, max_size=3),
)


def line(frame: str) -> bytes:
    return json.dumps({"frame": frame}).encode() + b"\n"


def read(*chunks: bytes) -> list[dict[str, Any]]:
    reader = FrameReader()
    return [frame for chunk in chunks for frame in reader.feed(chunk)]


@UNHURRIED
@given(st.lists(FRAMES, max_size=4), st.booleans(), st.data())
def test_any_split_of_the_stream_gives_the_same_frames(
    frames: list[dict[str, Any]], ascii_only: bool, data: st.DataObject
) -> None:
    stream = b"".join(json.dumps(f, ensure_ascii=ascii_only).encode() + b"\n" for f in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    edges = [0, *cuts, len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert read(*chunks) == frames


def test_a_frame_is_given_only_when_it_is_complete() -> None:
    assert read(b'{"frame": "a"}') == []
    assert read(b'{"frame": "a"}', b"\n") == [{"frame": "a"}]


def test_the_frames_before_a_wrong_line_are_given() -> None:
    frames = FrameReader().feed(line("a") + b"oops\n" + line("b"))
    assert next(frames) == {"frame": "a"}
    with pytest.raises(ValueError, match="Expecting value"):
        next(frames)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hello",
        b'{"frame": "a"',
        b'{"frame": "a"} {"frame": "b"}',
        b"[]",
        b'["frame"]',
        b'"frame"',
        b"5",
        b"null",
        b"{}",
        b'{"frame": 5}',
        b'{"frame": null}',
        b'{"phase": "load"}',
        b'{"frame": "a", "x": NaN}',
        b'{"frame": "a", "x": Infinity}',
        b'{"frame": "a", "x": [-Infinity]}',
        b'{"frame": "\xff"}',
        b"\x00\x01\x02",
    ],
)
def test_a_line_that_is_no_frame_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text + b"\n")


def test_a_number_too_large_to_be_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number that can be reported"):
        read(b'{"frame": "a", "x": 1e999}\n')


def test_a_frame_without_end_is_refused() -> None:
    chunk = b"x" * (16 * 1024 * 1024)
    with pytest.raises(ValueError, match="longer than"):
        read(*[chunk] * 5)
