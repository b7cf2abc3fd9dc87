"""The README's main job on the real engine: it passes, and an impossible limit fails it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.acceptance.conftest import addopts

pytest.importorskip("transformers")

NOT_THERE = {
    # no slo, so nothing to count goodput by
    "goodput_per_s",
    # nothing measures here
    "energy_to_idle_j",
    "dram_energy_j",
    "power_peak_w",
    "temperature_max_c",
    # not asked for, not set
    "prefill_energy_per_input_token_j",
    "decode_energy_per_output_token_j",
    "carbon_g",
    "cost",
}
"""What the quickstart has no value of."""

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
QUICKSTART = "benchmarks/quickstart.study.yaml"


@pytest.fixture
def study(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The quickstart in a project of its own, cut to one experiment."""
    monkeypatch.setenv("PYTEST_ADDOPTS", addopts())
    folder = pytester.path / "benchmarks"
    shutil.copytree(BENCHMARKS, folder)
    path = folder / "quickstart.study.yaml"
    path.write_text(path.read_text().replace("[1, 4, 16]", "[16]"))
    return path


def test_the_quickstart_measures_real_inference(pytester: pytest.Pytester, study: Path) -> None:
    result = pytester.runpytest_subprocess(QUICKSTART, "--llem-json=report.json")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["batch_size-16  *2/2 *est.*passed"])
    report = json.loads((pytester.path / "report.json").read_text())
    first, second = (outcome["measurement"] for outcome in report["measurements"])
    assert first["tokens"] == {"requests": 16, "input": 16 * 64, "output": 16 * 32}
    assert first["tokens_sha256"] == second["tokens_sha256"]
    assert first["integrity"] == []
    phases = [window["phase"] for window in first["windows"]]
    assert phases == ["load", "idle", "warmup", "measure", "close"]
    assert first["metrics"]["energy_j"]["quality"] == "estimated"
    for name, figure in first["metrics"].items():
        assert figure["value"] is not None or figure["reason"], name
        assert (figure["value"] is None) == (name in NOT_THERE), name
    assert study.exists()


def test_an_impossible_limit_fails_and_names_its_line(
    pytester: pytest.Pytester, study: Path
) -> None:
    text = study.read_text().replace("{min: 5}", "{min: 1e12}")
    study.write_text(text)
    line = text[: text.index("output_tokens_per_s: {")].count("\n") + 1
    result = pytester.runpytest_subprocess(QUICKSTART, "--llem-cycles=1")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            f"benchmarks/quickstart.study.yaml:{line}: gate of batch_size-16 failed",
            "E   output_tokens_per_s: */s < 1,000,000,000,000/s, -100.0 %*",
        ]
    )
