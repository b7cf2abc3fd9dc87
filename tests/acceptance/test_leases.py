"""Who else measures on a host: waited for, named, and told apart in the figures of the host."""

from __future__ import annotations

import os

import pytest

from pytest_llem.runners.devices import Devices
from tests.acceptance.conftest import HEADER, Project
from tests.builders import experiment
from tests.rig.fixtures import MakePowercap, NvmlRig
from tests.rig.nvml import H100
from tests.rig.powercap import packages

pytestmark = pytest.mark.once

ON_GPUS = HEADER.replace("meters: [fixed]", "meters: [rapl]") + "    power_trace_hz: none\n"
STUDY = """\
device: cuda
execution: {cycles: 1}
fake: {computes_on: cuda, token_s: 0.05}
expect: {cpu_energy_j: {max: 1000000}}
experiments:
  - {id: a}
"""


def test_others_on_the_host_are_waited_for_and_named_and_share_its_energy(
    project: Project,
    nvml_rig: NvmlRig,
    powercap: MakePowercap,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in nvml_rig(H100, gpus=2).environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("LLEM_POWERCAP", str(powercap(packages(1)).root))
    project.study(STUDY + "  - {id: b, gpus: 2}\n  - {id: c, device: cpu}\n", header=ON_GPUS)
    held = Devices(session="theirs").lease(experiment(device="cuda"))
    result = project.run("benchmarks", "--llem-wait=0.3", "--llem-json=report.json", "-rs")
    # One GPU is free; there aren't two, and the host isn't free for its processors.
    result.assert_outcomes(passed=1, failed=4, skipped=1)
    whose = f"held by pid {os.getpid()} of *, session theirs, since *"
    result.stdout.fnmatch_lines_random(
        [
            f"E   waited 0.? s for 2 of the GPUs 0, 1, {whose}",
            f"E   waited 0.? s for this host to be free of other measurements, for *, {whose}",
            "E   fix: * wait longer: --llem-wait=SECONDS (none for ever)",
            "a: gate skipped: cpu_energy_j: shared, so not judged: *by pid *, session theirs, *",
            "Measurements ran side by side on this host: *",
        ]
    )
    (made,) = [m for m in project.report()["measurements"] if m["measurement"]]
    figures = made["measurement"]["metrics"]
    assert figures["cpu_energy_j"]["quality"] == figures["dram_energy_j"]["quality"] == "shared"
    assert figures["cpu_energy_j"]["value"] > 0
    (gpu,) = made["place"]["lease"]["gpus"]
    assert gpu != held.gpus[0].uuid
    held.release()
    alone = project.run("benchmarks")
    alone.assert_outcomes(passed=6)
