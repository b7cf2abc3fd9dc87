"""The bench of energies: it runs, it keeps its limits, and it sees when they are not kept."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perf.energy_cases import Case, cases, waves
from perf.energy_limits import judge, judge_faults, summary
from tests.rig.nvml import BOARDS
from tests.rig.truth import Wave

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[1]
CASE = Case(board="H100", name="no tail", group="100 ms counter", limits="counter")
KNOWN = {(CASE.board, CASE.name): CASE}


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "perf/energy_accuracy.py", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def windows(
    count: int = 200, spread_j: float | None = 0.01, **changed: Any
) -> list[dict[str, Any]]:
    """Windows of 100 J whose errors are as large as is said of them."""
    rng = random.Random(1)
    return [
        {
            "board": CASE.board,
            "case": CASE.name,
            "window_s": 1.0,
            "energy_j": 100 + rng.gauss(0, 0.01),
            "true_j": 100.0,
            "spread_j": spread_j,
            "above_j": None,
            "method": "counter",
            "quality": "ok",
            "reason": "",
            "calls_inside": 0,
            "edge_ticks": 3.0,
            **changed,
        }
        for _ in range(count)
    ]


def not_kept(rows: list[dict[str, Any]], *, quick: bool = False) -> set[str]:
    checks = judge(rows, KNOWN, quick=quick, edges=True)
    return {check["what"] for check in checks if check["passed"] is False}


# --- the script ----------------------------------------------------------------------------


def test_a_quick_run_keeps_all_limits_and_writes_what_it_measured(
    simnvml: Path, tmp_path: Path
) -> None:
    path = tmp_path / "energy.json"
    done = bench("--quick", "--json", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(path.read_text())
    assert data["passed"]
    assert data["schema_version"] == 1
    assert {row["board"] for row in data["rows"]} == {*BOARDS}
    assert {row["window_s"] for row in data["rows"]} == {0.1, 0.5, 1.0, 5.0}
    assert {row["meter"] for row in data["rows"]} == {"ours"}
    assert all(row["calls_inside"] == 0 for row in data["rows"])
    assert all(check["passed"] is not False for check in data["checks"])
    assert {row["case"] for row in data["faults"]} >= {"lost GPU", "reset", "wrap of 32 bits"}
    assert "NOT KEPT" not in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--wave", "square:1,2"), "square:low,high,period,duty"),
        (("--boards", "H1000"), "there are V100"),
        (("--windows", "0"), "seconds above 0"),
        (("--meters", "guess"), "there are ours"),
    ],
)
def test_a_bad_option_is_told_with_what_is_possible(options: tuple[str, ...], said: str) -> None:
    done = bench(*options)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_peer_that_is_missing_is_said_with_the_version_wanted() -> None:
    done = bench("--meters", "codecarbon")
    if "not installed" not in done.stdout:
        pytest.skip("codecarbon is installed here")
    assert "pip install codecarbon==" in done.stdout


# --- loads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_every_wave_of_every_seed_stays_within_the_board(seed: int) -> None:
    limit_w = float(BOARDS["V100"]["power_limit_w"])
    for wave in waves("V100", seed).values():
        curve = Wave(wave)
        powers = [curve.power(number * curve.period_s / 997) for number in range(997)]
        assert 0 < min(powers) <= max(powers) <= limit_w


def test_without_tails_there_are_no_cases_with_them() -> None:
    assert {case.tail_ms for case in cases(["H100"], 0, ["linear"])} == {0}
    assert {case.tail_ms for case in cases(["H100"], 90, ["linear"])} == {0, 90}


# --- sums and limits -----------------------------------------------------------------------


def test_figures_are_those_of_their_definition() -> None:
    low, high = windows(1, energy_j=99.0, spread_j=0.4), windows(1, energy_j=103.0, spread_j=2.0)
    found = summary(low + high)
    assert found["mean_error"] == pytest.approx(0.02)
    assert found["bias"] == pytest.approx(0.01)
    assert found["max_error"] == pytest.approx(0.03)
    assert found["coverage"] == 0.5
    assert found["half_width"] == pytest.approx(1.96 * 0.012)
    assert found["half_width_ratio"] == pytest.approx(1.96 * 0.012 / 0.02)


def test_honest_and_exact_windows_keep_all_limits() -> None:
    assert not not_kept(windows())


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (windows(energy_j=100.3, spread_j=0.3), "mean error"),
        (windows(spread_j=0.005), "in the 95 % interval"),
        (windows(spread_j=0.02), "half-width / error"),
        (windows(calls_inside=1), "calls in the window"),
        (windows(edge_ticks=6.5), "edges of 95 % of windows"),
        (windows() + windows(10, energy_j=None, spread_j=None), "unmeasured"),
    ],
)
def test_what_is_not_kept_is_seen(rows: list[dict[str, Any]], what: str) -> None:
    assert what in not_kept(rows)
    assert what in not_kept(rows, quick=True)


def test_a_few_windows_may_miss_by_chance_only() -> None:
    rows = windows(18) + windows(2, energy_j=100.1)
    assert "in the 95 % interval" in not_kept(rows)
    assert "in the 95 % interval" not in not_kept(rows, quick=True)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"energy_j": 0.0}, "windows 0 J"),
        ({"energy_j": -4e6}, "windows negative"),
        ({"energy_j": None}, "windows neither energy nor reason"),
        ({"energy_j": 110.0}, "windows wrong beyond its uncertainty"),
        ({"case": "function missing"}, "windows under another method's name"),
    ],
)
def test_what_must_never_be_said_of_a_broken_board_is_seen(
    changed: dict[str, Any], what: str
) -> None:
    checks = {check["what"]: check["passed"] for check in judge_faults(windows(1, **changed))}
    assert checks[what] is False
    assert all(check["passed"] for check in judge_faults(windows(3)))
