"""Which meters are read, on hosts with counters that can be read, that can't, and with none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment
from pytest_llem.records import Reading
from pytest_llem.worker.choose import choose_meters
from pytest_llem.worker.phases import Phases
from tests.builders import experiment
from tests.rig.fixtures import MakePowercap
from tests.rig.powercap import Zone, packages


def chosen(monkeypatch: pytest.MonkeyPatch, root: Path, **fields: Any) -> tuple[list[str], str]:
    """Names of the meters that a host with a powercap tree gives an experiment on the CPU."""
    monkeypatch.setenv("LLEM_POWERCAP", str(root))
    meters, missing = choose_meters(experiment(**fields), "cpu")
    for meter in meters:
        meter.close()
    return [meter.name for meter in meters], missing


def readings(given: Experiment) -> tuple[Reading, ...]:
    phases = Phases(lambda *_, **__: None)
    phases.meters, _ = choose_meters(given, "cpu")
    with phases.phase("measure"):
        pass
    for meter in phases.meters:
        meter.close()
    return phases.windows[0].readings


def test_counters_are_read_and_nothing_is_estimated(
    powercap: MakePowercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen(monkeypatch, powercap(packages(2)).root)[0] == ["rapl"]


def test_without_counters_it_is_estimated_and_said_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, missing = chosen(monkeypatch, tmp_path)
    assert names == ["estimate"]
    assert "rapl: no RAPL counter" in missing


def test_counters_that_cannot_be_read_are_not_replaced_by_an_estimate(
    powercap: MakePowercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = powercap(packages(2, like=Zone(name="", unreadable=True)))
    assert chosen(monkeypatch, tree.root)[0] == ["rapl"]
    found = readings(experiment())
    assert [reading.domain for reading in found] == ["cpu:0", "cpu:1", "dram:0", "dram:1"]
    for reading in found:
        assert (reading.energy_j, reading.quality) == (None, "unmeasured")
        assert "can't be read" in (reading.reason or "")


def test_an_estimate_can_be_asked_for_all_the_same(
    powercap: MakePowercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = powercap(packages(1, like=Zone(name="", unreadable=True)))
    assert chosen(monkeypatch, tree.root, meters=("estimate",))[0] == ["estimate"]
    with pytest.raises(LlemError, match="estimate and rapl read the same"):
        chosen(monkeypatch, tree.root, meters=("estimate", "rapl"))


def test_memory_that_cannot_be_read_changes_no_other_figure(
    powercap: MakePowercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package,) = packages(1)
    broken = Zone(name="dram", unreadable=True)
    tree = powercap([Zone(name=package.name, wave="const:80", zones=(broken,))])
    monkeypatch.setenv("LLEM_POWERCAP", str(tree.root))
    found, _ = tree.calmly(lambda: readings(experiment()))
    energies = {reading.domain: reading.energy_j for reading in found}
    assert list(energies) == ["cpu:0", "dram:0"]
    assert energies["dram:0"] is None
