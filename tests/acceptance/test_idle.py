"""Idle power: measured once for each loaded state, and checked before each window."""

from __future__ import annotations

from typing import Any

from tests.acceptance.conftest import HEADER, Project

TWO = "experiments: [{id: a}, {id: b}]\nexecution: {cycles: 2}\n"


def measured(project: Project) -> dict[str, dict[str, Any]]:
    """``a c1`` to the measurement, as the report has it."""
    outcomes = project.report()["measurements"]
    return {f"{o['experiment']} c{o['cycle']}": o["measurement"] for o in outcomes}


def with_idle_phase(project: Project) -> list[str]:
    """Which of them measured idle power themselves, in order."""
    return [
        name
        for name, found in measured(project).items()
        if any(window["phase"] == "idle" for window in found["windows"])
    ]


def test_idle_power_is_measured_once_and_shared(project: Project) -> None:
    project.study(TWO)
    project.run("benchmarks", "--llem-json=report.json").assert_outcomes(passed=4)
    assert with_idle_phase(project) == ["a c1"]
    first, *others = measured(project).values()
    assert first["idle"]["origin"] is None
    for found in others:
        assert found["idle"]["origin"] == "a c1"
        assert found["idle"]["powers"] == first["idle"]["powers"]
        assert found["idle"]["age_s"] > first["idle"]["age_s"]
        assert found["metrics"]["idle_power_w"] == first["metrics"]["idle_power_w"]
    assert project.journal() == project.report()["measurements"]


def test_another_loaded_state_has_idle_power_of_its_own(project: Project) -> None:
    project.study(
        "experiments: [{id: a}, {id: b, model: another/model}, {id: c, env: {LLEM_FAKE_WORD: x}},"
        " {id: d, batch_size: 2}]\nexecution: {cycles: 1}\n"
    )
    project.run("benchmarks", "--llem-json=report.json").assert_outcomes(passed=4)
    assert with_idle_phase(project) == ["a c1", "b c1", "c c1"]


def test_another_meter_and_a_longer_idle_phase_have_their_own(project: Project) -> None:
    project.study(
        "experiments: [{id: a}, {id: b, meters: [estimate]}, {id: c, idle: 0.05},"
        " {id: d, idle: 0.02}, {id: e, idle: none}]\nexecution: {cycles: 1}\n"
    )
    project.run("benchmarks", "--llem-json=report.json").assert_outcomes(passed=5)
    assert with_idle_phase(project) == ["a c1", "b c1", "c c1"]
    found = measured(project)
    assert found["d c1"]["idle"]["origin"] == "c c1"
    assert found["e c1"]["idle"] is None
    assert found["e c1"]["metrics"]["idle_power_w"]["value"] is None


def test_a_doubtful_idle_power_is_not_shared(project: Project) -> None:
    project.study(TWO, header=HEADER.replace("[fixed]", "[short]"))
    project.run("benchmarks", "--llem-json=report.json").assert_outcomes(passed=4)
    assert len(with_idle_phase(project)) == 4


def test_a_drift_is_a_warning_and_has_idle_power_measured_again(project: Project) -> None:
    project.study("id: a\nexecution: {cycles: 3}\n", header=HEADER.replace("[fixed]", "[warm]"))
    result = project.run("benchmarks", "--llem-json=report.json")
    result.assert_outcomes(passed=3)
    said = (
        "a: warning: cpu:0 drew 20.0 W just before the window, 10.0 W when idle was measured"
        "{}: let it settle with a longer warm-up or idle, or check for other processes"
    )
    assert said.format("") in result.outlines
    assert said.format(" (by a c1)") in result.outlines
    assert with_idle_phase(project) == ["a c1", "a c3"]
    assert all(found["idle"]["drifted"] for found in measured(project).values())
