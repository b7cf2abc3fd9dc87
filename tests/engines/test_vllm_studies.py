"""Studies with the real vLLM, as a user runs them: the twins of those for GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine

TWINS = Path(__file__).parents[2] / "benchmarks" / "cpu"


def run(folder: Path, *names: str, select: str = "") -> dict[str, dict[str, Any]]:
    """Run some twins, or what -k selects of them; their measurements by experiment."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    report = folder / "report.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-c", str(folder / "pytest.ini")),
            *(str(TWINS / f"{name}.yaml") for name in names),
            *("-k", select, "-rA", f"--llem-json={report}", "-p", "no:cacheprovider"),
        ],
        cwd=folder,
        env={**os.environ, "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(report.read_text())["measurements"]
    found = {row["experiment"]: row["measurement"] for row in rows if row["measurement"]}
    assert [one for one in found.values() if one["integrity"]] == []
    return found


def test_requests_that_arrive_by_themselves_overlap(tmp_path: Path) -> None:
    found = run(tmp_path, "load_sweep", select="not poisson-20")
    assert set(found) == {"scenario_poisson-10", "users-2"}
    for name, one in found.items():
        assert one["subject"]["engine"]["core"] == "child process"
        assert one["traffic"]["requests"] == 20
        assert one["stages"]["queue_s"] is not None
        if one["traffic"]["reason"] is None:
            assert one["metrics"]["output_tokens_per_s"]["value"] > 0
            assert one["metrics"]["goodput_per_s"]["value"] is not None
        if name == "users-2":
            assert one["traffic"]["in_flight_max"] == 2


def test_devices_and_engines_beside_each_other(tmp_path: Path) -> None:
    found = run(tmp_path, "tensor_parallel_scaling", "engine_comparison")
    one, two = (found[f"gpus-tp{n}-prompts_count-4"] for n in (1, 2))
    assert one["tokens"] == two["tokens"]
    assert two["subject"]["engine"]["tensor_parallel"] == 2
    engines = [each for name, each in found.items() if name.startswith("engine-")]
    assert {each["subject"]["backend"] for each in engines} == {"pytorch", "vllm"}
    assert engines[0]["tokens"] == engines[1]["tokens"]
