"""Requests that come one by one, as a user sees them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.conftest import HEADER, Project

MANY = HEADER.replace("count: 2", "count: 60")
BOTH = """\
execution: {cycles: 1}
slo: {e2e_s: 60}
fake: {token_s: 0.004, cached: 1}
experiments:
  - {id: closed, scenario: {concurrency: 4}, expect: {goodput_per_s: {min: 0.001}}}
  - {id: open, scenario: {poisson: 100}}
"""


def measured(project: Project) -> dict[str, dict[str, Any]]:
    return {o["experiment"]: o["measurement"] for o in project.report()["measurements"]}


def test_both_scenarios_are_measured_where_they_are_steady(project: Project) -> None:
    project.study(BOTH, header=MANY)
    result = project.run("benchmarks", "--llem-json=report.json")
    result.assert_outcomes(passed=3)
    # What casts doubt on the figures is shown.
    cached = "60 of 60 requests found 60 tokens of their prompts in a cache that wasn't asked for"
    result.stdout.fnmatch_lines([f"*closed*{cached}*"])
    closed, opened = measured(project)["closed"], measured(project)["open"]
    for found in (closed, opened):
        *_, ramp, window, drain, close = found["windows"]
        phases = [each["phase"] for each in (ramp, window, drain, close)]
        assert phases == ["ramp", "measure", "drain", "close"]
        (reading,) = window["readings"]
        # Ten watts, by a meter in a process of its own.
        energy_j = found["metrics"]["energy_j"]["value"]
        assert energy_j == reading["energy_j"] == pytest.approx(10 * window["duration_s"])
        assert found["metrics"]["duration_s"]["value"] == window["duration_s"]
        assert found["metrics"]["net_energy_j"]["value"] == pytest.approx(0, abs=1e-6)
        assert found["traffic"]["requests"] == 60
        assert found["traffic"]["counted"] > 0
        for stage in ("queue_s", "prefill_s", "decode_s"):
            assert 0 < found["stages"][stage]["p50"] <= found["stages"][stage]["max"]
    assert (closed["traffic"]["scenario"], closed["traffic"]["in_flight_max"]) == ("concurrency", 4)
    assert (opened["traffic"]["scenario"], opened["traffic"]["asked"]) == ("poisson", 100)
    assert opened["traffic"]["late_s"] >= 0
    assert closed["metrics"]["goodput_per_s"] == closed["metrics"]["requests_per_s"]


def test_what_does_not_go_with_a_scenario_is_refused_at_collection(project: Project) -> None:
    project.study("scenario: {concurrency: 60}\nprecision: 0.02\n", header=MANY)
    result = project.run("benchmarks")
    result.stdout.fnmatch_lines(
        [
            "*:4: prompts.count: 60 requests never fill 60 slots and go on*",
            "*:10: precision: goes with the scenario offline only; with concurrency raise*",
        ]
    )
    assert result.ret != 0
