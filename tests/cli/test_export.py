"""``python -m pytest_llem export``: reports as CSV and Parquet."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from pytest_llem.__main__ import main
from pytest_llem.metrics import METRICS
from pytest_llem.reports.collected import Collected
from pytest_llem.reports.json_report import document
from tests.builders import measurement, outcome, unmeasured

OUTCOMES = [
    outcome(measurement=measurement(metrics={"energy_j": 0.1 + 0.2})),
    outcome(cycle=2, measurement=measurement(metrics={"energy_j": unmeasured("lost")})),
]


@pytest.fixture
def report(tmp_path: Path) -> Path:
    data = document(Collected(OUTCOMES, []), session="2026", environment={}, exit_status=0)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(data))
    return path


def test_csv_is_written_and_the_next_line_says_how_much(
    report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = report.with_name("new") / "out.csv"
    assert main(["export", str(report), "-o", str(out)]) == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["energy_j"] for row in rows] == ["0.30000000000000004", ""]
    assert capsys.readouterr().out == f"Wrote {out}: 2 rows, {len(rows[0])} columns\n"
    assert list(out.parent.iterdir()) == [out]


def test_without_a_file_csv_is_printed(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(report), str(report), "--table", "statistics"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 2 * len(METRICS)
    assert {row["session"] for row in rows} == {"2026"}


def test_parquet_keeps_numbers_and_what_is_missing(report: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = report.with_name("out.parquet")
    assert main(["export", str(report), "-o", str(out)]) == 0
    table = parquet.read_table(out)
    assert table["energy_j"].to_pylist() == [0.1 + 0.2, None]
    assert {str(table.schema.field(name).type) for name in METRICS} == {"double"}
    assert str(table.schema.field("cycle").type) == "int64"
    assert str(table.schema.field("warnings").type) == "string"


def test_parquet_without_pyarrow_says_how_to_get_it(
    report: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it weren't installed
    out = report.with_name("out.parquet")
    assert main(["export", str(report), "-o", str(out)]) == 1
    assert 'pip install "pytest-llem[parquet]"' in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no.json"], "no.json: can't be read: No such file or directory"),
        (["{report}", "-o", "out.xlsx"], "out.xlsx: the name must end in .csv or .parquet"),
        (["{report}", "-o", "{folder}"], "must end in .csv or .parquet"),
        (["{report}", "-o", "{report}/out.csv"], "can't be written"),
        (["{broken}"], "is no report, or a part of one"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    arguments: list[str], words: str, report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = report.with_name("broken.json")
    broken.write_text(report.read_text()[:-100])
    names = {"report": report, "folder": report.parent, "broken": broken}
    assert main(["export", *(a.format(**names) for a in arguments)]) == 1
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
