"""Cycles of different testbeds are parted, whoever measured them."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llem.records import Failure
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.testbeds import parts_of
from tests.builders import measurement, outcome, reading, window

H100 = {"device": "cuda", "gpus": ["NVIDIA H100"], "worker": "fresh"}
A100 = {"device": "cuda", "gpus": ["NVIDIA A100"], "worker": "fresh"}
FAILED = Failure(kind="raised", message="boom")


def cycle(number: int, testbed: dict[str, Any], session: str | None = None, **fields: Any) -> Any:
    """A measured cycle."""
    return outcome(
        cycle=number, session=session, measurement=measurement(testbed=testbed, **fields)
    )


def failed(number: int, session: str | None = None) -> Outcome:
    return outcome(cycle=number, session=session, measurement=None, failure=FAILED)


def parts(*outcomes: Outcome) -> dict[str, list[int]]:
    """Label to cycles."""
    return {label: [one.cycle for one in part] for label, part in parts_of(outcomes).items()}


def test_one_testbed_is_one_part_without_a_name() -> None:
    assert parts(cycle(1, H100), cycle(2, dict(H100)), failed(3)) == {"": [1, 2, 3]}


def test_another_gpu_is_another_part_and_named() -> None:
    assert parts(cycle(1, H100), cycle(2, A100), cycle(3, H100)) == {
        "GPUs: NVIDIA H100": [1, 3],
        "GPUs: NVIDIA A100": [2],
    }


def test_what_was_not_measured_goes_with_its_session() -> None:
    given = [cycle(1, H100, "x"), cycle(1, A100, "y"), failed(2, "y"), failed(3, "z")]
    assert parts(*given) == {"GPUs: NVIDIA H100": [1, 3], "GPUs: NVIDIA A100": [1, 2]}


def test_nothing_measured_at_all_is_one_part() -> None:
    assert parts(failed(1, "x"), failed(1, "y")) == {"": [1, 1]}


def test_sessions_on_equal_testbeds_are_one_part() -> None:
    assert parts(cycle(1, H100, "x"), cycle(1, H100, "y")) == {"": [1, 1]}


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ({"testbed": {**H100, "worker": "reuse"}}, ["worker: fresh", "worker: reuse"]),
        ({"subject": {"versions": {"torch": "2.13"}}}, ["torch: none", "torch: 2.13"]),
        (
            {"windows": (window("measure", 2.0, reading(method="power")),)},
            ["read: cpu by test (counter)", "read: cpu by test (power)"],
        ),
    ],
)
def test_sessions_that_measured_otherwise_are_kept_apart(
    fields: dict[str, Any], labels: list[str]
) -> None:
    other = {"testbed": H100, **fields}
    assert list(parts(cycle(1, H100, "x"), cycle(1, session="y", **other))) == labels


def test_within_a_session_a_counter_that_fails_once_parts_nothing() -> None:
    other = (window("measure", 2.0, reading(method="power")),)
    given = [cycle(1, H100, "x"), cycle(2, H100, "x", windows=other), cycle(1, H100, "y")]
    assert parts(*given) == {"": [1, 2, 1]}


def test_sessions_of_another_experiment_under_the_same_name_are_kept_apart() -> None:
    changed = outcome(session="y", digest="e" * 64, measurement=measurement(testbed=H100))
    assert list(parts(cycle(1, H100, "x"), changed)) == [
        "experiment: dddddddddddd",
        "experiment: eeeeeeeeeeee",
    ]
