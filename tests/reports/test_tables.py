"""Tables of reports: nothing missing becomes 0, nothing estimated becomes a measurement."""

from __future__ import annotations

import csv
import io

import pytest

from pytest_llem.metrics import METRICS
from pytest_llem.records import Failure
from pytest_llem.reports.collected import Collected
from pytest_llem.reports.document import Report, from_document
from pytest_llem.reports.json_report import document
from pytest_llem.reports.tables import TABLES, Table, as_csv
from pytest_llem.results.outcome import Outcome
from pytest_llem.wire import to_dict
from tests.builders import estimated, experiment, measurement, outcome, unmeasured

MEASURED = outcome(
    config=to_dict(experiment(env={"A": "1"})),
    measurement=measurement(
        metrics={"energy_j": estimated(2.5), "load_s": unmeasured("no clock")},
        integrity=("one", "two"),
    ),
)
FAILED = outcome(
    cycle=2, measurement=None, failure=Failure(kind="raised", message='it said "no",\nand left')
)


def report(*outcomes: Outcome, session: str = "2026") -> Report:
    made = document(Collected(outcomes, []), session=session, environment={}, exit_status=0)
    return from_document(made)


def rows(table: Table) -> list[dict[str, object]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_a_measurement_is_a_row_with_its_settings_and_every_metric() -> None:
    first, second = rows(TABLES["measurements"]([report(MEASURED, FAILED)]))
    assert first["outcome"] == "measured"
    assert first["config.prompts.input_tokens"] == 4
    assert first["config.env.A"] == "1"
    assert first["config.marks"] == "[]"
    assert first["testbed.cpus"] == 2
    assert first["subject.versions.torch"] is None
    assert first["integrity"] == "one; two"
    assert first.keys() >= METRICS.keys()
    assert first["energy_j"] == 2.5
    assert first["energy_j.quality"] == "estimated"
    assert first["load_s"] is None
    assert "load_s.quality" not in first
    assert (second["outcome"], second["reason"]) == ("failed", 'it said "no",\nand left')
    assert second["energy_j"] is None


def test_of_a_cycle_that_was_run_again_the_last_try_counts() -> None:
    again = outcome(cycle=2, measurement=measurement(metrics={"energy_j": 4.0}))
    found = rows(TABLES["measurements"]([report(MEASURED, FAILED, again)]))
    assert [row["energy_j"] for row in found] == [2.5, 4.0]


def test_reports_stand_one_below_the_other() -> None:
    reports = [report(MEASURED), report(FAILED, session="2027")]
    found = rows(TABLES["measurements"](reports))
    assert [row["session"] for row in found] == ["2026", "2027"]


def test_a_figure_is_a_row_with_its_reason() -> None:
    found = rows(TABLES["figures"]([report(MEASURED, FAILED)]))
    assert [row["metric"] for row in found] == list(METRICS)
    (load,) = (row for row in found if row["metric"] == "load_s")
    assert (load["unit"], load["value"], load["quality"]) == ("s", None, "unmeasured")
    assert load["reason"] == "no clock"


def test_a_statistic_is_a_row() -> None:
    again = outcome(cycle=3, measurement=measurement(metrics={"energy_j": 4.5}))
    found = rows(TABLES["statistics"]([report(MEASURED, again)]))
    (energy,) = (row for row in found if row["metric"] == "energy_j")
    assert (energy["n"], energy["median"], energy["quality"]) == (2, 3.5, "estimated")


def test_a_column_holds_values_of_one_kind() -> None:
    table = Table.of([{"a": 1, "b": 1, "c": True}, {"a": 2.5, "b": "x"}, {"a": None}], ())
    assert list(table.columns["a"]) == [1.0, 2.5, None]
    assert list(table.columns["b"]) == ["1", "x", None]
    assert list(table.columns["c"]) == [True, None, None]
    metrics = TABLES["measurements"]([report(FAILED, MEASURED)])
    for name in METRICS:
        assert {type(value) for value in metrics.columns[name]} <= {float, type(None)}


def test_csv_is_read_as_it_was_written() -> None:
    table = TABLES["measurements"]([report(MEASURED, FAILED)])
    read = list(csv.DictReader(io.StringIO(as_csv(table))))
    first, second = read
    assert first["energy_j"] == "2.5"
    assert first["load_s"] == ""
    assert first["config.phases"] == "false"
    assert second["reason"] == 'it said "no",\nand left'
    assert list(first) == list(table.columns)


@pytest.mark.parametrize("name", TABLES)
def test_a_report_of_nothing_is_a_table_without_rows(name: str) -> None:
    table = TABLES[name]([report()])
    assert list(table.rows) == []
    assert as_csv(table) == "\n"


def test_half_a_character_is_written_as_what_it_is() -> None:
    table = Table.of([{"a": "\ud800"}], ())
    assert as_csv(table).encode() == b"a\n\\ud800\n"
