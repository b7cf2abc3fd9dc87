"""Reports that are compared with: of other versions, of other programs, and damaged ones."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from pytest_llem.errors import ResultsError
from pytest_llem.metrics import METRICS
from pytest_llem.reports.collected import Collected
from pytest_llem.reports.json_report import document
from pytest_llem.results.references import load, of_outcomes
from pytest_llem.results.regression import compared
from tests.builders import outcome
from tests.damage import changed

OUTCOMES = [outcome(cycle=cycle) for cycle in (1, 2, 3)]
REPORT = document(Collected(OUTCOMES, []), session="x", environment={}, exit_status=0)


def test_a_report_that_another_program_got_wrong_is_refused_or_compared(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    now = of_outcomes("now", OUTCOMES)
    assert now is not None
    refused = 0
    for seed in range(400):
        measurements = changed(random.Random(seed), REPORT["measurements"])
        path.write_text(json.dumps({**REPORT, "measurements": measurements}))
        try:
            references = load([path]).of("s", "a")
        except ResultsError as error:
            refused += str(error).startswith(f"{path}: ")
            continue
        for metric in METRICS:
            found = compared(metric, now, references, budget=0.05)
            assert found if isinstance(found, str) else found.text, seed
    assert 0 < refused < 400


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema_version": 1}', "[" * 100_000])
def test_what_is_no_report_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ResultsError, match=r"r\.json: is no report"):
        load([path])
