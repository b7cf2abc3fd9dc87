"""Reports are read back as their types, and what is no report is told in a sentence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pytest_llem
from pytest_llem.errors import ResultsError
from pytest_llem.records import Failure
from pytest_llem.reports.collected import Collected
from pytest_llem.reports.document import NotCompared, from_document, read_report
from pytest_llem.reports.json_report import document
from pytest_llem.results.references import References
from pytest_llem.wire import to_dict
from tests.builders import gate, measurement, outcome, verdict


def plain(**environment: str) -> dict[str, Any]:
    """The document of a small session, as a file holds it."""
    collected = Collected(
        [
            outcome(measurement=measurement(metrics={"energy_j": 2.0})),
            outcome(cycle=2, measurement=None, failure=Failure(kind="raised", message="boom")),
        ],
        [gate(verdict("failed"))],
        References(),
    )
    points = [{"file": "f", "study": "s", "experiment": "x", "reasons": ["f:1: no"]}]
    made = document(
        collected,
        session="2026",
        environment=environment,
        exit_status=1,
        notices=["said"],
        skipped_points=points,
    )
    read: dict[str, Any] = json.loads(json.dumps(made))
    return read


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(plain()))
    report = pytest_llem.read_report(path)
    assert isinstance(report, pytest_llem.Report)
    assert to_dict(report) == plain()
    first, second = report.measurements
    assert first.measurement is not None
    assert first.measurement.metrics["energy_j"].value == 2.0
    assert second.failure == Failure(kind="raised", message="boom")
    (experiment,) = report.experiments
    assert (experiment.cycles, experiment.measured) == (2, 1)
    assert isinstance(experiment.comparisons["output_tokens_per_s"], NotCompared)
    assert [g.outcome for g in report.gates] == ["failed"]
    assert report.skipped_points[0].reasons == ("f:1: no",)


def test_a_report_of_a_version_that_lacked_a_field_is_read_with_its_default() -> None:
    data = plain()
    del data["redacted"], data["extra"], data["measurements"][0]["gap"]
    assert to_dict(from_document(data)) == plain()


def with_version(version: object) -> Callable[[dict[str, Any]], object]:
    return lambda data: data.update(schema_version=version)


def changed(data: dict[str, Any], name: str, value: object) -> object:
    figure = data["measurements"][0]["measurement"]["metrics"]["energy_j"]
    return figure.update({name: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_version(2), "a report of version 2, and this pytest-llem reads version 1; read it"),
        (with_version(2), r"with a later pytest-llem \(pytest-llem 9.9 wrote it\)$"),
        (with_version(0), "with an earlier pytest-llem"),
        (with_version(True), "is no report"),
        (with_version("1"), "is no report"),
        (lambda data: data.pop("measurements"), "is no report"),
        (lambda data: data.pop("gates"), "is damaged, or was changed: Report: .*'gates'"),
        (lambda data: data.update(mine=1), r"Report: unknown fields \['mine'\]"),
        (
            lambda data: changed(data, "value", "2"),
            r"measurements\[0\].measurement.metrics.energy_j.value: expected float, got '2'",
        ),
        (
            lambda data: changed(data, "quality", "superb"),
            r"measurements\[0\].measurement.metrics.energy_j.quality: expected .*'superb'",
        ),
        (lambda data: data.update(experiments={}), r"experiments: expected .*got \{\}"),
    ],
)
def test_what_can_not_be_read_is_told_with_its_place(
    change: Callable[[dict[str, Any]], object], words: str
) -> None:
    data = plain(pytest_llem="9.9")
    change(data)
    with pytest.raises(ResultsError, match=words) as caught:
        from_document(data, "report.json")
    assert str(caught.value).startswith("report.json: ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no report, or a part of one: "),
        (b'{"schema_version": 1, "measurem', "is no report, or a part of one: "),
        (b"\xff\xfe", "is no report, or a part of one: "),
        (b"[" * 100_000, "is no report, or a part of one: "),
        (b'{"schema_version": NaN}', "NaN is not a number that was measured"),
        (b"[]", "is no report; --llem-json and --llem-save write reports"),
        (b'{"checks": []}', "is no report; "),
    ],
)
def test_a_file_that_is_no_report_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=words) as caught:
        read_report(path)
    assert re.match(rf"{re.escape(str(path))}(:1)?: ", str(caught.value))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"no\.json: can't be read: No such file or directory"):
        read_report(tmp_path / "no.json")


def test_the_package_itself_imports_nothing_until_it_is_asked() -> None:
    code = """
import sys, pytest_llem
before = [name for name in sys.modules if name.startswith("pytest_llem.")]
pytest_llem.read_report
print(before, "pytest_llem.reports.document" in sys.modules, hasattr(pytest_llem, "nothing"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True False\n"
