"""``python -m pytest_llem report``: pages of a JSON report that is there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pytest_llem.__main__ import main
from pytest_llem.reports import markdown
from pytest_llem.reports.document import Report
from pytest_llem.wire import to_dict
from tests.reports.sessions import experiment, report

pytestmark = pytest.mark.once

REQUEST = {"submitted_s": 1.0, "token_s": [1.1, 1.2], "input_tokens": 4, "output_tokens": 2}


def saved(folder: Path) -> tuple[Path, Report]:
    """A report of one measurement, its raw series beside it in ``results``."""
    (outcome,) = experiment("a", cycles=1)
    found = report([dataclasses.replace(outcome, raw="raw/a.jsonl")])
    raw = folder / "results" / found.session / "raw"
    raw.mkdir(parents=True)
    (raw / "a.jsonl").write_text(f"{json.dumps(REQUEST)}\n")
    path = folder / "report.json"
    path.write_text(json.dumps(to_dict(found)))
    return path, found


def test_pages_of_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, found = saved(tmp_path / "project")
    page, text = tmp_path / "deep" / "p.html", tmp_path / "p.md"
    assert main(["report", str(path), "--html", str(page), "--markdown", str(text)]) == 0
    assert capsys.readouterr().out == f"{page}\n{text}\n"
    assert text.read_text() == markdown.page(found)
    assert "a tick for each request" in page.read_text()

    # Away from its results it has the percentiles alone, and says so.
    monkeypatch.chdir(tmp_path)
    moved = tmp_path / "elsewhere" / "moved.json"
    moved.parent.mkdir()
    moved.write_text(path.read_text())
    assert main(["report", str(moved), "--html", str(page)]) == 0
    assert "Times of single requests were not found" in page.read_text()
    results = str(tmp_path / "project" / "results")
    assert main(["report", str(moved), "--html", str(page), "--results", results]) == 0
    assert "a tick for each request" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "error: name what to write: --html PATH, --markdown PATH"),
        (["--html", "p.html", "--results", "nowhere"], 1, "error: nowhere: no results of session"),
        (["--markdown", "report.json/x.md"], 1, "report.json/x.md can't be written: "),
    ],
)
def test_what_can_not_be_done_is_said(
    arguments: list[str],
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path, _ = saved(tmp_path)
    assert main(["report", str(path), *arguments]) == status
    assert said in capsys.readouterr().err


def test_what_is_no_report_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    assert main(["report", str(path), "--markdown", str(tmp_path / "x.md")]) == 1
    assert "is no report" in capsys.readouterr().err
    assert not (tmp_path / "x.md").exists()
