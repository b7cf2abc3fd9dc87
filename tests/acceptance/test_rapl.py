"""Energy of a CPU that counts it: measured where it may be read, and null with why where not."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project
from tests.rig.fixtures import MakePowercap
from tests.rig.powercap import Zone, packages

STUDY = "experiments: [{id: a, meters: [rapl]}]\nexecution: {cycles: 1}\n"


def test_energy_of_packages_and_memory_is_measured(
    project: Project, powercap: MakePowercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = powercap(packages(2))
    monkeypatch.setenv("LLEM_POWERCAP", str(tree.root))
    project.study(STUDY)
    tree.calmly(lambda: project.run("benchmarks"))
    *_, line = project.journal()
    metrics = line["measurement"]["metrics"]
    assert metrics["cpu_energy_j"]["value"] > metrics["dram_energy_j"]["value"] > 0
    assert metrics["energy_j"] == metrics["cpu_energy_j"]
    assert metrics["energy_j"]["quality"] != "estimated"


def test_losing_the_permission_costs_the_figures_that_need_it_and_no_other(
    project: Project, powercap: MakePowercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut = Zone(name="", unreadable=True)
    monkeypatch.setenv("LLEM_POWERCAP", str(powercap(packages(1, like=shut)).root))
    project.study(STUDY)
    result = project.run("benchmarks")
    result.stdout.fnmatch_lines(["n/a: *cpu:0: *energy_uj can't be read: *"])
    (line,) = project.journal()
    metrics = line["measurement"]["metrics"]
    assert metrics["output_tokens_per_s"]["value"] > 0
    for name in ("energy_j", "cpu_energy_j", "dram_energy_j"):
        assert metrics[name]["value"] is None
        assert "can't be read" in metrics[name]["reason"]
