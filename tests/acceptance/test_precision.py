"""Precision, phases and a warm-up until stable, as a user sees them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.conftest import HEADER, Project

EDGES = HEADER.replace("meters: [fixed]", "meters: [edges]").replace("idle: 0.01", "idle: none")
ONCE = "id: a\nexecution: {cycles: 1}\n"


def measured(project: Project, body: str) -> dict[str, Any]:
    """The only measurement of a study, which passes."""
    project.study(ONCE + body, header=EDGES)
    result = project.run("benchmarks", "--llem-json=report.json")
    assert result.ret == 0
    (outcome,) = project.report()["measurements"]
    found: dict[str, Any] = outcome["measurement"]
    return found


def test_a_precision_is_reached_and_totals_are_those_of_one_run(project: Project) -> None:
    # A run is meant to take 6 ms, and so 0.06 J, known to 0.05 J: 1 % are 83.3 runs, and a tenth
    # less is aimed at.
    found = measured(project, "precision: 0.01\ntimeout_s: 60\n")
    assert found["precision"]["reached"] <= found["precision"]["asked"] == 0.01
    assert (found["precision"]["why_not"], found["warnings"]) == (None, [])
    repeats = found["repeats"]
    assert repeats == 93
    assert found["tokens"] == {"requests": 2 * repeats, "input": 8 * repeats, "output": 6 * repeats}
    (window,) = [each for each in found["windows"] if each["phase"] == "measure"]
    (reading,) = window["readings"]
    energy, duration = (found["metrics"][name] for name in ("energy_j", "duration_s"))
    assert energy["value"] == pytest.approx(reading["energy_j"] / repeats)
    assert energy["uncertainty"] == pytest.approx(reading["uncertainty_j"] / repeats)
    assert duration["value"] == pytest.approx(window["duration_s"] / repeats)
    of_request = found["metrics"]["energy_per_request_j"]["value"]
    assert of_request == pytest.approx(energy["value"] / 2)
    assert found["integrity"] == []
    # Every request's times are kept.
    (raw,) = (project.pytester.path / "results").glob("*/raw/*")
    assert len(raw.read_text().splitlines()) == 2 * repeats


def test_a_precision_out_of_reach_is_a_warning_and_no_timeout(project: Project) -> None:
    project.study(ONCE + "precision: 0.0001\ntimeout_s: 6\n", header=EDGES)
    result = project.run("benchmarks", "--llem-json=report.json")
    result.assert_outcomes(passed=1)
    reached = "a: warning: precision 0.01 % was not reached, but *% with * runs: "
    why_not = "it takes * repeats in one window, and timeout_s leaves time for *; raise timeout_s"
    result.stdout.fnmatch_lines([reached + why_not])
    found = project.report()["measurements"][0]["measurement"]
    assert found["precision"]["reached"] > 0.0001
    assert found["repeats"] > 1


def test_a_noisy_meter_takes_another_try(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLEM_FAKE_EDGE_J", "0")
    monkeypatch.setenv("LLEM_FAKE_NOISE_J", "0.5")
    # 14 % of a run's 1.2 J, and not a third of that in three runs, but in eleven.
    found = measured(project, "precision: 0.05\ntimeout_s: 120\nfake: {token_s: 0.02}\n")
    assert found["precision"]["why_not"] is None
    assert found["precision"]["tries"] == 2
    phases = [window["phase"] for window in found["windows"]]
    assert phases.count("measure") == 1
    assert phases.count("pilot") == found["precision"]["tries"]


def test_phases_are_figures_of_their_own(project: Project) -> None:
    found = measured(project, "phases: true\nfake: {token_s: 0.05}\n")
    phases = [window["phase"] for window in found["windows"]]
    assert phases == ["load", "measure", "pilot", "prefill", "close"]
    metrics = found["metrics"]
    # Requests of four input tokens and one or three output tokens, 0.5 J for each of these.
    assert metrics["prefill_energy_per_input_token_j"]["value"] == pytest.approx(0.5 / 4)
    assert metrics["decode_energy_per_output_token_j"]["value"] == pytest.approx(0.5)
    assert found["prefill"]["input_tokens"] == 8 * found["prefill"]["repeats"]


def test_an_engine_that_refuses_prefill_alone_costs_only_its_figures(project: Project) -> None:
    found = measured(project, "phases: true\nfake: {refuse_one: true}\n")
    reason = "the engine refused it: a single token is beneath me"
    assert found["warnings"] == [f"no energy of prefill and decode: {reason}"]
    assert found["metrics"]["prefill_energy_per_input_token_j"]["reason"] == reason
    assert found["metrics"]["energy_j"]["value"] > 0


def test_a_warm_up_goes_on_until_batches_are_equally_long(project: Project) -> None:
    stable = "warmup: {prompts: 2, until_stable: true, timeout_s: 15}"
    header = EDGES.replace("warmup: none", stable)
    project.study(ONCE + "fake: {settles: 8, token_s: 0.03}\n", header=header)
    assert project.run("benchmarks", "--llem-json=report.json").ret == 0
    measurement = project.report()["measurements"][0]["measurement"]
    found = measurement["warmup"]
    assert found["batches"] >= 8
    if found["stable"]:
        assert found["variation"] <= 0.05
        assert measurement["warnings"] == []
    else:
        # On a machine that is too busy for it; how it ends otherwise is tested without one.
        (text,) = measurement["warnings"]
        assert "raise warmup.timeout_s" in text


def test_a_meter_that_only_estimates_is_refused_where_it_was_asked_for(project: Project) -> None:
    project.study("precision: 0.02\n", header=HEADER.replace("[fixed]", "[estimate]"))
    result = project.run("benchmarks")
    text = "precision: needs a meter that measures; meters names none"
    result.stdout.fnmatch_lines([f"*s.study.yaml:9: {text}"])


def test_the_plan_says_what_makes_it_longer(project: Project) -> None:
    project.study(ONCE + "precision: 0.02\nphases: true\ntimeout_s: 90\n", header=EDGES)
    project.run("benchmarks", "--llem-plan").stdout.fnmatch_lines(
        [
            "  windows      precision 2 %: a pilot run tells the repeats, at most 90 s",
            "               phases: a window of prefill alone, 1 to 30 s",
        ]
    )
