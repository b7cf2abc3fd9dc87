"""Raw series: what was written beside the journal, read again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.results.raw import Series, folders, read, read_all
from pytest_llem.traffic import Traffic
from tests.builders import measurement, outcome, window

REQUESTS = [
    {"submitted_s": 99.0, "token_s": [99.5], "input_tokens": 4, "output_tokens": 1},
    {"submitted_s": 100.5, "token_s": [100.6, 100.8, 101.0], "input_tokens": 4, "output_tokens": 3},
    {"submitted_s": 101.0, "token_s": [101.3, 101.4], "input_tokens": 4, "output_tokens": 2},
    {"submitted_s": 103.0, "token_s": [], "input_tokens": 4, "output_tokens": 0},
]
TRACE = [
    {"trace": {"gpu": "a", "at_s": 100.0, "power_w": 50.0}},
    {"trace": {"gpu": "b", "at_s": 100.1, "power_w": 60.0}},
    {"trace": {"gpu": "a", "at_s": 100.2, "power_w": 70.0}},
    {"trace": {"gpu": "b", "at_s": 100.3, "power_w": None}},
]


def written(folder: Path, rows: list[Any]) -> Path:
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_latencies_and_the_trace_are_those_of_the_rows(tmp_path: Path) -> None:
    found = read(written(tmp_path, [*REQUESTS, *TRACE]), measurement())
    assert found is not None
    assert found.ttft_s == pytest.approx((0.1, 0.3, 0.5))
    assert found.tpot_s == pytest.approx((0.1, 0.2))
    assert found.trace == {"a": ((100.0, 50.0), (100.2, 70.0)), "b": ((100.1, 60.0),)}
    # From when something is known of both.
    assert found.total() == ((100.1, 110.0), (100.2, 130.0))


def test_where_requests_come_by_themselves_those_of_the_window_count(tmp_path: Path) -> None:
    flowing = measurement(
        windows=(window("measure", 2.0),),
        traffic=Traffic(
            scenario="concurrency",
            asked=1.0,
            requests=4,
            counted=2,
            arrivals_per_s=1.0,
            late_s=None,
            in_flight_max=1,
            in_flight=(1, 1),
            steady_from_s=100.0,
            steady_to_s=102.0,
        ),
    )
    found = read(written(tmp_path, REQUESTS), flowing)
    assert found is not None
    assert found.ttft_s == pytest.approx((0.1, 0.3))


@pytest.mark.parametrize("text", ["", "{", "[]\n", '{"token_s": 3}\n', '{"trace": {}}\n'])
def test_what_can_not_be_read_costs_nothing_but_itself(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    assert read(path, measurement()) in (None, Series())
    assert read(tmp_path / "gone.jsonl", measurement()) is None


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("s1", "raw/a.jsonl"),
        ("results/s1", "raw/a.jsonl"),
        (".", "raw/a.jsonl"),
        # In a merged report the name begins with that of the session's directory.
        ("results/s2", "s2/raw/a.jsonl"),
    ],
)
def test_side_files_are_found_near(tmp_path: Path, place: str, name: str) -> None:
    (tmp_path / "near" / place / "raw").mkdir(parents=True)
    written(tmp_path / "near" / place / "raw", REQUESTS)
    kept = outcome(raw=name)
    outcomes = {"x": kept, "y": outcome(), "z": dataclasses.replace(kept, raw="gone.jsonl")}
    around = [tmp_path / "elsewhere", tmp_path / "near"]
    assert read_all(outcomes, folders("s1", around)).keys() == {"x"}
    assert read_all(outcomes, folders("s1", around[:1])) == {}
