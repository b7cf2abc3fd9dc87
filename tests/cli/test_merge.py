"""``python -m pytest_llem merge``: the reports of several sessions as one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.__main__ import main
from pytest_llem.demands import Limit
from pytest_llem.records import Failure
from pytest_llem.reports.collected import Collected, GateResult
from pytest_llem.reports.document import read_report
from pytest_llem.reports.json_report import document
from pytest_llem.results.gates import judge
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.references import load
from tests.builders import measurement, outcome, window

H100 = {"device": "cuda", "gpus": ["H100"], "gpu_count": 1}
A100 = {"device": "cuda", "gpus": ["A100"], "gpu_count": 1}
MOST = Limit(metric="energy_j", most=5.0, where="s.study.yaml:7")
BUDGET = Limit(metric="energy_j", regression=0.05, where="s.study.yaml:7")


class Shards:
    """Reports of sessions, each with cycles of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._at_s = 0.0

    def cycles(
        self,
        values: Sequence[float],
        *,
        experiment: str = "a",
        first: int = 1,
        testbed: dict[str, Any] = H100,
    ) -> list[Outcome]:
        """A measured cycle for each energy, no two at the same time."""
        found = []
        for cycle, energy_j in enumerate(values, first):
            self._at_s += 1.0
            made = measurement(
                experiment=experiment,
                cycle=cycle,
                testbed=testbed,
                windows=(window("measure", self._at_s),),
                metrics={"energy_j": energy_j},
            )
            node = f"s.study.yaml::{experiment}::c{cycle}"
            found.append(
                outcome(
                    experiment=experiment,
                    cycle=cycle,
                    node=node,
                    measurement=made,
                    raw=f"raw/{experiment}{cycle}.jsonl",
                )
            )
        return found

    def report(
        self,
        name: str,
        outcomes: Sequence[Outcome],
        *limits: Limit,
        exit_status: int = 0,
        references: Path | None = None,
        **fields: Any,
    ) -> str:
        """A session's report with a gate of these limits; its path."""
        gates = []
        if limits:
            known = () if references is None else load([references]).of("s", "a")
            verdicts = judge(limits, outcomes, known, allow_estimated=False, strict=False)
            first = outcomes[0]
            gate = GateResult(
                study="s",
                file=first.file,
                node=f"{first.file}::{first.experiment}::gate",
                experiment=first.experiment,
                cycles=len(outcomes),
                verdicts=verdicts,
                limits=tuple(limits),
            )
            gates.append(gate)
        environment = {
            "pytest_llem": "1",
            "python": "3.11",
            "system": name,
            "git": None,
            "carbon": None,
        }
        data = document(
            Collected(outcomes, gates),
            session=f"session-{name}",
            environment=environment,
            exit_status=exit_status,
        )
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps({**data, **fields}, indent=1))
        return str(path)


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shards:
    monkeypatch.chdir(tmp_path)
    return Shards(tmp_path)


def merged(status: int, *arguments: str) -> dict[str, Any]:
    """The merged report; the command must exit with this status."""
    assert main(["merge", *arguments, "-o", "all.json"]) == status
    found: dict[str, Any] = json.loads(Path("all.json").read_text())
    assert found["exit_status"] == status
    # Whatever reads reports reads this one.
    assert read_report("all.json").session == found["session"]
    return found


# --- joined or apart -----------------------------------------------------------------------


def test_cycles_of_equal_testbeds_are_joined_and_judged_again(
    shards: Shards, capsys: pytest.CaptureFixture[str]
) -> None:
    # Each kept its limit; together they do, too, and the one that failed alone no longer does.
    a = shards.report("a", shards.cycles([4.0, 4.0]), MOST)
    b = shards.report("b", shards.cycles([4.5, 6.0, 6.0]), MOST, exit_status=1)
    found = merged(0, a, b)
    (row,) = found["experiments"]
    assert (row["experiment"], row["cycles"], row["measured"]) == ("a", 5, 5)
    assert row["statistics"]["energy_j"]["median"] == 4.5
    (gate,) = found["gates"]
    assert (gate["outcome"], gate["cycles"]) == ("passed", 5)
    assert "(median of 5" in gate["verdicts"][0]["reason"]
    assert [one["session"] for one in found["merged_from"]] == ["session-a", "session-b"]
    assert (found["environment"]["python"], found["environment"]["system"]) == ("3.11", None)
    assert found["measurements"][0]["raw"] == "session-a/raw/a1.jsonl"
    printed = capsys.readouterr().out
    assert "joined: 5 cycles of 2 sessions: a\nreport: all.json\n" in printed


def test_joined_cycles_may_break_a_limit_that_one_session_kept(shards: Shards) -> None:
    a = shards.report("a", shards.cycles([4.0]), MOST)
    b = shards.report("b", shards.cycles([7.0, 8.0]), MOST, exit_status=1)
    assert merged(1, a, b)["gates"][0]["verdicts"][0]["measured"] == 7.0


def test_cycles_of_other_gpus_are_kept_apart_with_a_line(
    shards: Shards, capsys: pytest.CaptureFixture[str]
) -> None:
    a = shards.report("a", shards.cycles([4.0, 4.0]), MOST)
    b = shards.report("b", shards.cycles([8.0, 8.0], testbed=A100), MOST, exit_status=1)
    found = merged(1, a, b)
    names = ["a (GPUs: H100)", "a (GPUs: A100)"]
    assert [row["experiment"] for row in found["experiments"]] == names
    assert [row["statistics"]["energy_j"]["n"] for row in found["experiments"]] == [2, 2]
    assert [(g["experiment"], g["outcome"], g["cycles"]) for g in found["gates"]] == [
        (names[0], "passed", 2),
        (names[1], "failed", 2),
    ]
    assert "kept apart: GPUs: H100 | GPUs: A100: a\n" in capsys.readouterr().out
    # Neither do later comparisons mix them.
    assert [len(one.figures["energy_j"]) for one in load([Path("all.json")]).of("s", "a")] == [2, 2]


def test_a_measurement_in_two_reports_counts_once(
    shards: Shards, capsys: pytest.CaptureFixture[str]
) -> None:
    a = shards.report("a", shards.cycles([4.0, 4.0]), MOST)
    b = shards.report("b", shards.cycles([6.0, 6.0], testbed=A100))
    first = merged(0, a, b)
    Path("all.json").rename("before.json")
    assert "counted once" not in capsys.readouterr().out
    again = merged(0, "before.json", b, a, a)
    assert "counted once: 6 measurements in more than one report" in capsys.readouterr().out
    assert (again["session"], again["experiments"]) == (first["session"], first["experiments"])
    assert [g["outcome"] for g in again["gates"]] == ["passed"]


def test_a_study_in_another_folder_of_another_host_is_the_same(shards: Shards) -> None:
    a = shards.report("a", shards.cycles([4.0]), MOST)
    data = json.loads(Path(shards.report("b", shards.cycles([4.0]), MOST)).read_text())
    for one in (*data["measurements"], *data["gates"], *data["experiments"]):
        one["file"] = "elsewhere/s.study.yaml"
    Path("b.json").write_text(json.dumps(data))
    found = merged(0, a, "b.json")
    assert [(row["file"], row["cycles"]) for row in found["experiments"]] == [("s.study.yaml", 2)]
    assert [gate["cycles"] for gate in found["gates"]] == [2]


def test_what_is_in_one_report_only_stays_as_its_session_judged_it(shards: Shards) -> None:
    a = shards.report("a", shards.cycles([4.0]), MOST)
    b = shards.report("b", shards.cycles([9.0], experiment="b"), MOST, exit_status=1)
    gates = merged(1, a, b)["gates"]
    assert [(g["experiment"], g["outcome"]) for g in gates] == [("a", "passed"), ("b", "failed")]
    assert "of one session" not in json.dumps(gates)


# --- failures ------------------------------------------------------------------------------


def test_a_failed_cycle_of_either_session_fails_the_gate(shards: Shards) -> None:
    failed = Failure(kind="crashed", message="killed by SIGKILL")
    lost = outcome(cycle=2, measurement=None, failure=failed)
    a = shards.report("a", shards.cycles([4.0, 4.0]), MOST)
    b = shards.report("b", [*shards.cycles([4.0]), lost], MOST, exit_status=1)
    (gate,) = merged(1, a, b)["gates"]
    assert gate["verdicts"][0]["reason"] == "1 of 4 cycles failed: killed by SIGKILL"


def test_a_cycle_that_is_in_no_report_fails_the_gate(shards: Shards) -> None:
    a = shards.report("a", shards.cycles([4.0, 4.0]), MOST)
    path = Path(shards.report("b", shards.cycles([4.0, 4.0]), MOST))
    data = json.loads(path.read_text())
    del data["measurements"][1]  # its process was lost
    path.write_text(json.dumps(data))
    (gate,) = merged(1, a, str(path))["gates"]
    assert gate["verdicts"][0]["reason"] == "1 of 4 cycles are in none of the reports"


@pytest.mark.parametrize(("statuses", "status"), [((0, 5), 0), ((0, 1), 1), ((1, 2), 2)])
def test_what_reports_do_not_show_is_in_their_status(
    shards: Shards, statuses: tuple[int, int], status: int
) -> None:
    a = shards.report("a", shards.cycles([4.0]), exit_status=statuses[0])
    b = shards.report("b", shards.cycles([4.0]), exit_status=statuses[1])
    assert main(["merge", a, b]) == status


# --- regressions ---------------------------------------------------------------------------


def test_budgets_are_judged_again_by_references_or_stay_with_their_n(shards: Shards) -> None:
    before = Path(shards.report("before", shards.cycles([4.0, 4.0, 4.0])))
    a = shards.report("a", shards.cycles([4.0] * 3), BUDGET, MOST, references=before)
    b = shards.report("b", shards.cycles([4.8] * 3), BUDGET, references=before, exit_status=1)
    kept = merged(1, a, b)["gates"][0]["verdicts"]
    assert [one["outcome"] for one in kept] == ["passed", "failed", "passed"]
    assert kept[1]["reason"].endswith("(of 3 cycles of one session)")
    (budget, limit) = merged(0, a, b, f"--compare={before}")["gates"][0]["verdicts"]
    assert budget["reason"].startswith("4.40 J, 9.5 % worse than 4.02 J")
    assert (budget["comparison"]["outcome"], limit["outcome"]) == ("within noise", "passed")
    assert merged(1, a, b, "--compare", str(before), "--strict")["gates"][0]["outcome"] == "failed"


# --- refused -------------------------------------------------------------------------------


def test_a_directory_is_all_reports_in_it_but_an_earlier_merge(shards: Shards) -> None:
    for name in ("a", "b"):
        shards.report(name, shards.cycles([4.0]))
    assert merged(0, ".")["experiments"][0]["cycles"] == 2
    assert [one["session"] for one in merged(0, ".")["merged_from"]] == ["session-a", "session-b"]


def test_broken_files_are_all_named_with_their_line(
    shards: Shards, capsys: pytest.CaptureFixture[str]
) -> None:
    a = shards.report("a", shards.cycles([4.0, 4.0]))
    lines = Path(a).read_text().splitlines()
    Path("cut.json").write_text("\n".join(lines[:7]))
    wrong = next(number for number, line in enumerate(lines, 1) if '"cycle": 2' in line)
    Path("bad.json").write_text("\n".join(lines).replace('"cycle": 2', '"cycle": "two"'))
    shards.report("late", [], schema_version=7)
    Path("else.json").write_text("{}\n")
    status = main(["merge", a, "cut.json", "bad.json", "late.json", "else.json", "-o", "all.json"])
    assert (status, Path("all.json").exists()) == (1, False)
    cut, bad, late, other = capsys.readouterr().err.splitlines()
    assert cut.startswith("error: cut.json:7: is no report, or a part of one: ")
    assert bad.startswith(f"error: bad.json:{wrong}: is damaged, or was changed: measurements[1].")
    assert late.startswith("error: late.json: a report of version 7, and this pytest-llem reads ")
    assert other.startswith("error: else.json: is no report; ")


def test_an_unwritable_place_is_found_before_anything_is_read(
    shards: Shards, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", "none.json", "-o", "."]) == 1
    assert capsys.readouterr().err == "error: . is a directory; name a file\n"
