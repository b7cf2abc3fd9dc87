"""The report as a JSON document."""

from __future__ import annotations

import json
import math
from typing import Any

from pytest_llem.metrics import METRICS
from pytest_llem.records import Failure
from pytest_llem.reports.collected import Collected
from pytest_llem.reports.document import SCHEMA_VERSION
from pytest_llem.reports.json_report import document
from pytest_llem.results.outcome import Outcome
from pytest_llem.wire import from_dict
from tests.builders import gate, measurement, outcome, unmeasured, verdict

OUTCOMES = [
    outcome(measurement=measurement(metrics={"energy_j": 2.0, "load_s": unmeasured("no clock")})),
    outcome(cycle=2, measurement=measurement(metrics={"energy_j": 4.0})),
    outcome(experiment="b", measurement=None, failure=Failure(kind="raised", message="boom")),
    outcome(experiment="c", measurement=None, skipped="why not"),
]
GATES = [gate(verdict(), verdict("failed")), gate(verdict("skipped"), experiment="c")]


def report() -> dict[str, Any]:
    """The document as a reader of the file finds it."""
    plain = document(
        Collected(OUTCOMES, GATES), session="2026", environment={"git": None}, exit_status=1
    )
    text = json.dumps(plain, allow_nan=False)
    loaded: dict[str, Any] = json.loads(text)
    assert loaded == plain, "plain JSON data survive JSON"
    return loaded


def test_a_session_is_described() -> None:
    found = report()
    assert list(found) == [
        "schema_version",
        "session",
        "exit_status",
        "environment",
        "measurements",
        "experiments",
        "notices",
        "skipped_points",
        "gates",
        "redacted",
        "extra",
        "merged_from",
    ]
    assert found["schema_version"] == SCHEMA_VERSION
    assert (found["session"], found["exit_status"]) == ("2026", 1)
    assert found["environment"] == {"git": None}


def test_every_outcome_is_there_in_full() -> None:
    assert [from_dict(Outcome, data) for data in report()["measurements"]] == OUTCOMES


def test_every_experiment_has_its_statistics() -> None:
    a, b, c = report()["experiments"]
    assert (a["study"], a["file"], a["experiment"]) == ("s", "s.study.yaml", "a")
    assert [(e["cycles"], e["measured"]) for e in (a, b, c)] == [(2, 2), (1, 0), (1, 0)]
    assert list(a["statistics"]) == list(METRICS)
    assert a["statistics"]["energy_j"] == {
        "n": 2,
        "median": 3.0,
        "mean": 3.0,
        "stdev": math.sqrt(2),
        "low": 2.0,
        "high": 4.0,
        "confidence": 0.5,
        "quality": "ok",
        "reason": None,
    }
    assert a["statistics"]["load_s"]["median"] is None
    assert a["statistics"]["load_s"]["reason"] == "1 of 2 cycles: no clock"
    assert (b["statistics"], c["statistics"]) == ({}, {})
    assert [text.partition(":")[0] for text in a["doubts"]] == ["too few cycles"]
    assert (b["doubts"], c["doubts"]) == ([], [])


def test_every_gate_has_its_outcome_and_verdicts() -> None:
    first, second = report()["gates"]
    assert [v["outcome"] for v in first["verdicts"]] == ["passed", "failed"]
    assert (first["outcome"], second["outcome"]) == ("failed", "skipped")
    assert first["verdicts"][0]["where"] == "s.study.yaml:7"
    assert (first["study"], first["experiment"], first["cycles"]) == ("s", "a", 1)


def test_an_empty_session_is_a_document_too() -> None:
    found = document(Collected([], []), session="x", environment={}, exit_status=5)
    assert (found["measurements"], found["experiments"], found["gates"]) == ([], [], [])
