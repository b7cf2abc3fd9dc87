"""An estimate says that it is one wherever it is shown, in words and not by colour alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from pytest_llem.metrics import METRICS
from tests.acceptance.conftest import HEADER, Project

ENERGY = {name for name, metric in METRICS.items() if metric.uses_energy}
LIMITS = "id: a\nexecution: {cycles: 1}\nexpect: {energy_j: {max: 1000}, carbon_g: {max: 1000}}\n"


@pytest.fixture
def estimated(project: Project) -> Project:
    """A project whose energy nothing measures."""
    project.study(LIMITS, header=HEADER.replace("[fixed]", "[estimate]"))
    (project.pytester.path / ".lem-config.yaml").write_text(
        "carbon: {intensity_g_per_kwh: 300, pue: 1.5, price_per_kwh: 0.3}\n"
    )
    return project


def test_the_table_marks_it_and_says_what_the_mark_means(estimated: Project) -> None:
    result = estimated.run("benchmarks", "--color=no")
    result.stdout.re_match_lines([r"a +1/1 .* mJ est\. "])
    result.stdout.fnmatch_lines(["est. = estimated, not measured: modelled from CPU time; *"])


def test_a_gate_that_does_not_judge_it_says_so(estimated: Project) -> None:
    result = estimated.run("benchmarks")
    for metric in ("energy_j", "carbon_g"):
        result.stdout.fnmatch_lines([f"a: gate skipped: {metric}: estimated, not measured, so *"])


def test_a_gate_that_judges_it_says_so_too(estimated: Project) -> None:
    result = estimated.run("benchmarks", "--llem-allow-estimated", "--llem-json=report.json")
    for metric in ("energy_j", "carbon_g"):
        result.stdout.fnmatch_lines([f"a: gate passed: {metric}: * (median of 1), estimated"])
    (gate,) = estimated.report()["gates"]
    assert [verdict["quality"] for verdict in gate["verdicts"]] == ["estimated"] * 2


def test_a_failed_gate_says_so(estimated: Project) -> None:
    study = estimated.folder / "s.study.yaml"
    study.write_text(study.read_text().replace("carbon_g: {max: 1000}", "carbon_g: {max: 0}"))
    result = estimated.run("benchmarks", "--llem-allow-estimated")
    result.stdout.fnmatch_lines(["E   carbon_g: * > 0.00 g (median of 1), estimated"])


def qualities(metrics: dict[str, dict[str, object]]) -> set[object]:
    """Of every figure of energy that has a value."""
    values = [metrics[name] for name in ENERGY]
    assert len(values) > 10
    found = [f for f in values if f.get("value", f.get("median")) is not None]
    return {figure["quality"] for figure in found}


def test_the_report_has_the_quality_beside_each_figure(estimated: Project) -> None:
    estimated.run("benchmarks", "--llem-json=report.json")
    report = estimated.report()
    assert qualities(report["measurements"][0]["measurement"]["metrics"]) == {"estimated"}
    assert qualities(report["experiments"][0]["statistics"]) == {"estimated"}


def test_the_journal_has_the_quality_beside_each_figure_and_reading(estimated: Project) -> None:
    estimated.run("benchmarks")
    (outcome,) = estimated.journal()
    measurement = outcome["measurement"]
    assert qualities(measurement["metrics"]) == {"estimated"}
    readings = [r for window in measurement["windows"] for r in window["readings"]]
    assert {reading["quality"] for reading in readings} == {"estimated"}
    assert {reading["method"] for reading in readings} == {"estimate"}
    assert {power["quality"] for power in measurement["idle"]["powers"]} == {"estimated"}


def test_junit_has_it_in_the_name_of_each_property(estimated: Project) -> None:
    estimated.run("benchmarks", "--junitxml=junit.xml")
    path = estimated.pytester.path / "junit.xml"
    found = {str(p.get("name")) for p in ElementTree.parse(path).iter("property")}
    named = {name for name in found if name.rpartition(".")[2] in ENERGY}
    assert {"llem.estimated.energy_j", "llem.estimated.carbon_g", "llem.estimated.cost"} <= named
    assert all(name.startswith("llem.estimated.") for name in named)
    assert "llem.output_tokens_per_s" in found


def test_the_hook_is_told(estimated: Project) -> None:
    estimated.pytester.makeconftest(
        """
        import json
        from pathlib import Path

        def pytest_llem_result(item, result):
            Path("told.json").write_text(json.dumps(result["measurement"]["metrics"]))
        """
    )
    estimated.run("benchmarks")
    assert qualities(json.loads((estimated.pytester.path / "told.json").read_text())) == {
        "estimated"
    }


def test_the_plan_promises_no_energy(estimated: Project) -> None:
    estimated.run("benchmarks")
    result = estimated.run("benchmarks", "--llem-plan")
    assert result.ret == 0
    assert not [line for line in result.outlines if re.search(r"\d [kmµM]?(J|W|g)\b", line)]


def test_doctor_calls_the_meter_a_model(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest_llem", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert re.search(r"meter estimate\s.*estimates cpu:0", done.stdout)
    assert "a model, not a measurement" in " ".join(done.stdout.split())
