"""Carbon and cost by a user's own settings, in the journal, the report and gates."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project

STUDY = "id: a\nexecution: {cycles: 1}\nexpect: {carbon_g: {max: 100}, cost: {max: 1}}\n"
SETTINGS = "carbon: {intensity_g_per_kwh: 360, pue: 1.5, price_per_kwh: 0.36, currency: EUR}\n"


def test_every_measurement_holds_carbon_and_cost(project: Project) -> None:
    project.study(STUDY)
    (project.pytester.path / ".lem-config.yaml").write_text(SETTINGS)
    result = project.run("benchmarks", "--llem-json=report.json")
    result.assert_outcomes(passed=2)
    report = project.report()
    assert project.journal() == report["measurements"]
    metrics = report["measurements"][0]["measurement"]["metrics"]
    energy_j = metrics["energy_j"]["value"]
    assert metrics["carbon_g"]["value"] == pytest.approx(energy_j / 3.6e6 * 360 * 1.5)
    assert metrics["cost"]["value"] == pytest.approx(energy_j / 3.6e6 * 0.36 * 1.5)
    assert metrics["carbon_g"]["quality"] == "ok"
    assert report["environment"]["carbon"] == {
        "intensity_g_per_kwh": 360,
        "pue": 1.5,
        "price_per_kwh": 0.36,
        "currency": "EUR",
        "source": None,
    }


def test_without_settings_a_limit_fails_and_names_the_setting(project: Project) -> None:
    project.study(STUDY)
    result = project.run("benchmarks", "--llem-json=report.json")
    for line in (
        "E   carbon_g: unmeasured, wanted ≤ 100 g: *: no carbon intensity is given: set carbon: *",
        "E   cost: unmeasured, wanted ≤ 1.00: *: no price is given: set carbon: price_per_kwh *",
    ):
        result.stdout.fnmatch_lines([line])
    assert result.ret == 1
