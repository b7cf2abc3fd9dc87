"""Single values for reports of others."""

from __future__ import annotations

from pytest_llem.records import Comparison, Figure
from pytest_llem.reports.collected import Collected
from pytest_llem.reports.scalars import of_figures, of_session, of_verdicts
from tests.builders import estimated, gate, measurement, outcome, unmeasured, verdict


def test_an_estimate_says_so_in_its_name_and_what_is_missing_is_left_out() -> None:
    figures = {"energy_j": estimated(2.0), "load_s": Figure(value=1.5), "cost": unmeasured("none")}
    assert of_figures(figures) == {"llem.estimated.energy_j": 2.0, "llem.load_s": 1.5}


def test_a_gate_tells_what_it_judged() -> None:
    comparison = Comparison(
        reference=4.0, change=0.25, sessions=1, outcome="worse", text="25 % worse"
    )
    found = of_verdicts(
        [
            verdict(),
            verdict(metric="ttft_p95_s", measured=5.0, comparison=comparison),
            verdict("skipped", metric="carbon_g", measured=3.0, quality="estimated"),
            verdict("failed", metric="cycles", measured=None),
        ]
    )
    assert found == {
        "llem.median.energy_j": 1.0,
        "llem.median.ttft_p95_s": 5.0,
        "llem.change.ttft_p95_s": 0.25,
        "llem.estimated.median.carbon_g": 3.0,
    }


def test_a_session_is_summed_up_by_the_medians_of_its_experiments() -> None:
    outcomes = [
        outcome(cycle=cycle, measurement=measurement(metrics={"energy_j": joules}))
        for cycle, joules in enumerate((1.0, 2.0, 4.0), 1)
    ]
    failed = outcome(experiment="b", measurement=None, skipped="no engine")
    found = of_session(Collected([*outcomes, failed], [gate(verdict("failed"))]))
    assert (found["measurements"], found["gates"]) == (3, {"failed": 1})
    first, second = found["experiments"]
    assert (first["experiment"], first["measured"], first["gate"]) == ("a", 3, "failed")
    assert first["llem.energy_j"] == 2.0
    assert second == {
        "study": "s",
        "file": "s.study.yaml",
        "experiment": "b",
        "measured": 0,
        "gate": None,
    }
