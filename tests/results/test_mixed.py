"""Cycles of an experiment share a testbed and an engine, or have no common figure."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llem.results.mixed import mixed_subjects, mixed_testbeds
from tests.builders import measurement

HOST: dict[str, Any] = {"device": "cuda", "cpu": "Xeon", "gpus": ["H100"], "worker": "fresh"}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (HOST, ""),
        ({**HOST, "cpu": "EPYC"}, "CPU: c1 Xeon, c3 EPYC"),
        ({**HOST, "gpus": ["A100", "A100"]}, "GPUs: c1 H100, c3 A100, A100"),
        ({**HOST, "worker": "forked"}, "worker: c1 fresh, c3 forked"),
        # What NVML didn't tell once is no other host.
        ({"device": "cuda", "cpu": "Xeon", "worker": "fresh"}, ""),
        # Meters that went away are a matter of the readings.
        ({**HOST, "meters": {"nvml": []}}, ""),
    ],
)
def test_testbeds(other: dict[str, Any], expected: str) -> None:
    cycles = [measurement(cycle=cycle, testbed=HOST) for cycle in (1, 2)]
    assert mixed_testbeds([*cycles, measurement(cycle=3, testbed=other)]) == expected


def test_subjects() -> None:
    versions = ({"torch": "2.6"}, {"torch": "2.6", "cuda": "12"}, {"torch": "2.7"})
    cycles = [
        measurement(cycle=cycle, subject={"versions": each})
        for cycle, each in enumerate(versions, 1)
    ]
    assert mixed_subjects(cycles) == "torch: c1 2.6, c3 2.7"
    assert mixed_subjects(cycles[:2]) == ""


def test_nothing_measured_is_not_mixed() -> None:
    assert (mixed_testbeds([]), mixed_subjects([])) == ("", "")
