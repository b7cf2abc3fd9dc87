"""Runs back to back in one window, and what a single one of them took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.records import Figure
from pytest_llem.worker.repeats import per_run
from tests.builders import UNHURRIED, unmeasured
from tests.worker.simulated import Lab

# --- runs ----------------------------------------------------------------------------------


def test_runs_lie_back_to_back_in_one_window() -> None:
    lab = Lab(run_s=2.0, edges_s=1.0, draw_s=0.5)
    run = lab.repeater().run("measure", 3)
    assert [(window.phase, window.duration_s) for window in lab.windows] == [("measure", 6.0)]
    assert (run.repeats, len(run.completions)) == (3, 6)
    assert (run.draw_s, run.edges_s, run.each_s) == (0.5, 1.0, 2.5)


def test_each_run_is_what_the_experiment_runs_with_other_prompts() -> None:
    lab = Lab()
    repeater = lab.repeater()
    repeater.run("pilot", 1)
    repeater.run("measure", 3)
    assert [len(workload.prompts) for workload in lab.batches] == [2, 2, 2, 2]
    assert [workload.prompts[0][0] for workload in lab.batches] == [0, 1, 2, 3]


def test_prompts_are_drawn_before_the_window() -> None:
    lab = Lab(run_s=1.0, draw_s=10.0)
    lab.repeater().run("measure", 4)
    assert lab.windows[0].duration_s == 4.0


def test_a_run_that_would_end_too_late_is_not_begun() -> None:
    lab = Lab(run_s=2.0)
    run = lab.repeater().run("measure", 10, until_s=7.0)
    assert (run.repeats, len(run.completions), lab.now_s) == (3, 6, 6.0)


def test_one_run_is_always_made() -> None:
    assert Lab(run_s=2.0).repeater().run("measure", 10, until_s=-1.0).repeats == 1


def test_progress_counts_the_requests_of_all_runs() -> None:
    frames = []
    lab = Lab()
    repeater = lab.repeater(lambda kind, **data: frames.append((kind, data)))
    repeater.run("measure", 3)
    assert frames == [("progress", {"done": done, "total": 6}) for done in (2, 4, 6)]


def test_what_fits_is_counted_with_prompts_and_edges() -> None:
    run = Lab(run_s=2.0, edges_s=1.0, draw_s=0.5).repeater().run("measure", 1)
    assert [run.fits(left_s) for left_s in (-5.0, 0.0, 3.4, 3.6, 26.1)] == [0, 0, 0, 1, 10]


def test_a_run_of_no_time_fits_often_and_not_endlessly() -> None:
    assert 0 < Lab(run_s=0.0).repeater().run("measure", 1).fits(1.0) < 10**12


# --- figures of one run --------------------------------------------------------------------


def test_totals_are_those_of_one_run_and_rates_stay() -> None:
    found = {
        "energy_j": Figure(
            value=40.0, uncertainty=2.0, systematic=0.8, quality="short", reason="few ticks"
        ),
        "duration_s": Figure(value=8.0),
        "power_mean_w": Figure(value=5.0, uncertainty=0.25),
        "ttft_p50_s": Figure(value=0.1),
        "net_energy_j": Figure(value=-8.0, uncertainty=4.0),
    }
    assert per_run(found, 4) == found | {
        "energy_j": Figure(
            value=10.0, uncertainty=0.5, systematic=0.2, quality="short", reason="few ticks"
        ),
        "duration_s": Figure(value=2.0),
        "net_energy_j": Figure(value=-2.0, uncertainty=1.0),
    }
    assert list(per_run(found, 4)) == list(found)
    assert per_run(found, 1) == found


def test_the_way_back_to_idle_comes_once_and_is_not_divided() -> None:
    found = {
        "energy_j": Figure(value=40.0, uncertainty=2.0),
        "energy_to_idle_j": Figure(value=43.0, uncertainty=3.0, systematic=4.3),
    }
    made = per_run(found, 4)["energy_to_idle_j"]
    assert (made.value, made.uncertainty) == (13.0, 3.0)
    assert made.systematic == pytest.approx(1.3)


@pytest.mark.parametrize("name", ["energy_j", "energy_to_idle_j"])
def test_what_is_null_stays_null(name: str) -> None:
    found = {"energy_j": Figure(value=40.0), "energy_to_idle_j": Figure(value=43.0)}
    made = per_run(found | {name: unmeasured("gone")}, 4)
    assert made["energy_to_idle_j"] == unmeasured("gone")


@UNHURRIED
@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.integers(1, 10_000))
def test_the_relative_uncertainty_is_that_of_the_window(
    value: float, spread: float, repeats: int
) -> None:
    made = per_run({"energy_j": Figure(value=value, uncertainty=spread)}, repeats)["energy_j"]
    assert made.value is not None
    assert made.uncertainty is not None
    assert made.value * spread == pytest.approx(made.uncertainty * value)
