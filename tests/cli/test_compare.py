"""``python -m pytest_llem compare``: reports beside each other, offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_llem.__main__ import main
from pytest_llem.reports.collected import Collected
from pytest_llem.reports.json_report import document
from tests.builders import estimated, measurement, outcome

BUDGET = "--fail=peak_memory_bytes:5%"


def report(path: Path, factor: float = 1.0, *, cycles: int = 3) -> str:
    """A report in which the experiment a took so many MB, and as many tokens a second."""
    outcomes = [
        outcome(
            experiment="a",
            cycle=cycle,
            measurement=measurement(
                experiment="a",
                cycle=cycle,
                metrics={
                    "peak_memory_bytes": 1e6 * factor,
                    "output_tokens_per_s": 100.0 / factor,
                    "energy_per_output_token_j": estimated(factor),
                },
            ),
        )
        for cycle in range(1, cycles + 1)
    ]
    data = document(Collected(outcomes, []), session="x", environment={}, exit_status=0)
    path.write_text(json.dumps(data))
    return str(path)


@pytest.mark.parametrize(
    ("factor", "status", "outcome"), [(1.0, 0, "passed"), (1.2, 1, "failed"), (0.5, 0, "passed")]
)
def test_the_verdict_is_that_of_a_gate(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    factor: float,
    status: int,
    outcome: str,
) -> None:
    before, after = report(tmp_path / "a.json"), report(tmp_path / "b.json", factor)
    assert main(["compare", before, after, BUDGET]) == status
    assert capsys.readouterr().out.startswith(f"s::a: {outcome}: peak_memory_bytes: ")


def test_strict_fails_what_is_within_noise(tmp_path: Path) -> None:
    before, after = report(tmp_path / "a.json"), report(tmp_path / "b.json", 1.06)
    assert main(["compare", before, after, BUDGET]) == 0
    assert main(["compare", before, after, BUDGET, "--strict"]) == 1


def test_an_estimate_is_judged_only_where_that_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = report(tmp_path / "a.json"), report(tmp_path / "b.json", 1.2)
    arguments = ["compare", before, after, "--fail=energy_per_output_token_j:5"]
    assert main(arguments) == 0
    assert "skipped: energy_per_output_token_j: estimated" in capsys.readouterr().out
    assert main([*arguments, "--allow-estimated"]) == 1


def test_without_a_budget_it_only_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "history"
    folder.mkdir()
    for number in range(3):
        report(folder / f"{number}.json")
    assert main(["compare", str(folder), report(tmp_path / "b.json", 1.2)]) == 0
    speed, energy = capsys.readouterr().out.splitlines()
    assert speed.startswith("s::a: output_tokens_per_s: 83.3/s, 16.7 % worse than 100/s (median of")
    assert energy.startswith("s::a: energy_per_output_token_j: 1.20 J, 20.0 % worse than 1.00 J")


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = report(tmp_path / "a.json"), report(tmp_path / "b.json", 1.2)
    assert main(["compare", before, after, BUDGET, "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["experiment"], row["outcome"]) == ("a", "failed")
    assert row["comparison"]["change"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (["a.json"], 2, "error: name at least two reports; the last is compared"),
        (["no.json", "a.json"], 1, "no.json: can't be read: No such file"),
        (["a.json", "a.json", "--fail=energi_j:5"], 1, "unknown metric 'energi_j'; did you mean"),
    ],
)
def test_what_can_not_be_compared(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    report(tmp_path / "a.json")
    assert main(["compare", *arguments]) == status
    assert error in capsys.readouterr().err
