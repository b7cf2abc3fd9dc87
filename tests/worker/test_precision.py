"""How many runs a precision takes, and how it is reached or not."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_llem.records import Figure, Precision, Window
from pytest_llem.worker.precision import TRIES, Sample, predict, reach, warning
from pytest_llem.worker.repeats import Run
from tests.builders import UNHURRIED, estimated, unmeasured
from tests.worker.simulated import Lab

ENERGIES = st.floats(1e-6, 1e9)
RELATIVES = st.floats(1e-9, 10.0)
ASKED = st.floats(1e-6, 0.999)


def sample(repeats: int, energy_j: float, uncertainty_j: float) -> Sample:
    return Sample(repeats=repeats, energy_j=energy_j, uncertainty_j=uncertainty_j)


# --- the prediction ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "asked", "runs"),
    [
        # 10 % of one run, all of it from the edges: u/E = 0.1 / n ≤ 0.9 × 0.02.
        ([sample(1, 10.0, 1.0)], 0.02, 6),
        # A second try aims lower: at 0.81 × 0.02.
        ([sample(1, 10.0, 1.0), sample(4, 40.0, 1.0)], 0.02, 7),
        # 10 % of one run, all of it anew in each: u/E = 0.1 / √n.
        ([sample(1, 10.0, 1.0), sample(4, 40.0, 2.0)], 0.02, 39),
        # Both: u² = 0.5 + 0.05 E.
        ([sample(1, 10.0, 1.0), sample(9, 90.0, math.sqrt(5.0))], 0.02, 21),
        # A slow first run: what counts is the energy, not how many runs it came from.
        ([sample(1, 40.0, 2.0), sample(16, 160.0, 4.0)], 0.02, 39),
        # Precise enough already.
        ([sample(1, 10.0, 0.01)], 0.02, 1),
        ([sample(1, 10.0, 0.0)], 0.02, 1),
        # Less uncertain with length, which can't be: all edges, as they were seen last.
        ([sample(1, 10.0, 1.0), sample(4, 40.0, 0.9)], 0.02, 6),
        # Far away, and no energy at all: a step, no leap.
        ([sample(1, 10.0, 9.0)], 0.0001, 100),
        ([sample(1, 0.0, 1.0)], 0.02, 100),
        ([sample(1, -3.0, 1.0)], 0.02, 100),
        ([sample(1, 1e-300, 1.0)], 1e-300, 100),
        ([sample(1, 1.0, 1e300)], 0.5, 100),
    ],
)
def test_the_prediction_is_what_its_formula_says(
    samples: list[Sample], asked: float, runs: int
) -> None:
    assert predict(samples, asked) == runs


@UNHURRIED
@given(ENERGIES, RELATIVES, ASKED, st.integers(1, 1000))
def test_a_prediction_is_never_none_and_never_a_leap(
    energy_j: float, relative: float, asked: float, repeats: int
) -> None:
    runs = predict([sample(repeats, energy_j, relative * energy_j)], asked)
    assert 1 <= runs <= 100 * repeats


@UNHURRIED
@given(ENERGIES, RELATIVES, st.tuples(ASKED, ASKED).map(sorted))
def test_more_precision_never_takes_fewer_runs(
    energy_j: float, relative: float, asked: list[float]
) -> None:
    one = [sample(1, energy_j, relative * energy_j)]
    finer, coarser = asked
    assert predict(one, finer) >= predict(one, coarser)


@UNHURRIED
@given(ENERGIES, st.tuples(RELATIVES, RELATIVES).map(sorted), ASKED)
def test_more_uncertainty_never_takes_fewer_runs(
    energy_j: float, relatives: list[float], asked: float
) -> None:
    small, large = (predict([sample(1, energy_j, r * energy_j)], asked) for r in relatives)
    assert small <= large


@UNHURRIED
@given(
    ENERGIES, st.floats(1e-6, 1.0), st.floats(0.0, 1.0), st.floats(1e-3, 0.5), st.integers(2, 50)
)
def test_with_two_windows_the_prediction_holds_whatever_the_parts(
    energy_j: float, edge: float, noise: float, asked: float, repeats: int
) -> None:
    def made(count: int) -> Sample:
        spread_j = energy_j * math.sqrt(edge**2 + noise**2 * count)
        return sample(count, count * energy_j, spread_j)

    runs = predict([made(1), made(repeats)], asked)
    assume(runs < 100 * repeats)
    assert made(runs).relative <= asked


# --- reaching it ---------------------------------------------------------------------------


def reached(
    lab: Lab, asked: float = 0.02, most: int = 10**6, latest_s: float = 1e9, **meter: float
) -> tuple[Run, Precision]:
    repeater = lab.repeater()
    pilot = repeater.run("pilot", 1)
    return reach(repeater, pilot, lab.energy(**meter), asked, most, latest_s)


def phases(lab: Lab) -> list[str]:
    return [window.phase for window in lab.windows]


def test_a_pilot_that_is_precise_enough_is_the_measurement() -> None:
    lab = Lab()
    run, precision = reached(lab, edge_j=0.1)
    assert precision == Precision(asked=0.02, reached=0.01, tries=0)
    assert (run.repeats, phases(lab)) == (1, ["measure"])


def test_one_long_window_is_enough_where_the_edges_are_all() -> None:
    lab = Lab()
    run, precision = reached(lab, edge_j=1.0)
    assert (run.repeats, precision.tries, precision.why_not) == (6, 1, None)
    assert precision.reached == pytest.approx(1.0 / 60)
    assert [(w.phase, w.duration_s) for w in lab.windows] == [("pilot", 1.0), ("measure", 6.0)]
    assert len(run.completions) == 12


def test_noise_in_each_run_takes_a_second_try() -> None:
    lab = Lab()
    run, precision = reached(lab, noise_j=1.0)
    assert (run.repeats, precision.tries, precision.why_not) == (39, 2, None)
    assert phases(lab) == ["pilot", "pilot", "measure"]
    assert len({tuple(w.prompts[0]) for w in lab.batches}) == 1 + 6 + 39


def test_where_time_is_short_what_fits_is_measured() -> None:
    lab = Lab(run_s=10.0, edges_s=1.0)
    run, precision = reached(lab, latest_s=55.0, edge_j=10.0)
    assert (run.repeats, precision.tries, phases(lab)) == (4, 1, ["pilot", "measure"])
    assert precision.reached == pytest.approx(0.025)
    assert precision.why_not == (
        "it takes 7 repeats in one window, and timeout_s leaves time for 4; raise timeout_s"
    )
    assert lab.now_s <= 55.0


def test_where_there_is_no_time_the_pilot_is_the_measurement() -> None:
    lab = Lab(run_s=10.0)
    run, precision = reached(lab, latest_s=25.0, edge_j=10.0)
    assert (run.repeats, precision.tries, phases(lab)) == (1, 0, ["measure"])
    assert precision.reached == pytest.approx(0.1)
    assert "timeout_s leaves time for 1" in str(precision.why_not)


def test_runs_that_become_slower_do_not_make_it_late() -> None:
    times = itertools.count(1)
    lab = Lab(run_s=lambda _: float(next(times)))
    run, _ = reached(lab, latest_s=60.0, edge_j=1.0, asked=0.0001)
    assert 1 < run.repeats < 59
    # The next run is taken to be as long as the longest so far: late by one step at most.
    assert lab.now_s <= 61.0


def test_memory_bounds_the_window() -> None:
    lab = Lab()
    run, precision = reached(lab, most=3, edge_j=1.0)
    assert run.repeats == 3
    assert precision.why_not == (
        "it takes 7 repeats in one window, and the requests of 3 fit into memory; ask for less"
    )


def test_it_ends_where_length_does_not_help() -> None:
    lab = Lab()
    run, precision = reached(lab, noise_j=0.0, edge_j=0.0)
    assert (run.repeats, precision.reached) == (1, 0.0)
    lab = Lab()
    repeater = lab.repeater()
    pilot = repeater.run("pilot", 1)

    def by_gain(window: Window) -> Figure:
        return Figure(value=window.duration_s, uncertainty=0.05 * window.duration_s)

    run, precision = reach(repeater, pilot, by_gain, 0.02, 10**6, 1e9)
    assert precision.tries == 1
    assert precision.reached == pytest.approx(0.05)
    assert str(precision.why_not).startswith("a longer window doesn't make it smaller")


def test_after_three_tries_it_is_said_what_was_reached() -> None:
    lab = Lab()
    repeater = lab.repeater()
    pilot = repeater.run("pilot", 1)
    relatives = iter([0.1, 0.05, 0.03, 0.021])

    def worse(window: Window) -> Figure:
        energy_j = 10 * window.duration_s
        return Figure(value=energy_j, uncertainty=next(relatives) * energy_j)

    run, precision = reach(repeater, pilot, worse, 0.02, 10**6, 1e9)
    assert precision.tries == TRIES == 3
    assert precision.why_not == "3 tries were not enough; make the workload longer"
    assert phases(lab) == ["pilot", "pilot", "pilot", "measure"]
    assert run.repeats * 2 == len(run.completions)


def test_the_most_precise_window_counts() -> None:
    lab = Lab()
    repeater = lab.repeater()
    pilot = repeater.run("pilot", 1)
    spreads = iter([1.0, 30.0])

    def worse(window: Window) -> Figure:
        return Figure(value=10 * window.duration_s, uncertainty=next(spreads))

    run, precision = reach(repeater, pilot, worse, 0.02, 10**6, 1e9)
    assert (run.repeats, precision.tries, precision.reached) == (1, 1, 0.1)
    assert phases(lab) == ["measure", "pilot"]


@pytest.mark.parametrize(
    ("figure", "reason"),
    [
        (estimated(5.0), "the energy is an estimate"),
        (unmeasured("no meter here"), "no meter here"),
        (Figure(value=5.0), "the meter tells no uncertainty"),
    ],
)
def test_without_an_uncertainty_there_is_nothing_to_judge(figure: Figure, reason: str) -> None:
    lab = Lab()
    repeater = lab.repeater()
    run, precision = reach(repeater, repeater.run("pilot", 1), lambda _: figure, 0.02, 10**6, 1e9)
    why = f"{reason}; use a meter that measures, or leave precision out"
    assert precision == Precision(asked=0.02, reached=None, tries=0, why_not=why)
    assert (run.repeats, phases(lab)) == (1, ["measure"])
    assert warning(precision, 1) == f"precision 2 % can't be judged: {why}"


def test_a_meter_that_is_lost_on_the_way_leaves_the_window_before() -> None:
    lab = Lab()
    repeater = lab.repeater()
    figures = iter([Figure(value=10.0, uncertainty=1.0), unmeasured("the GPU is lost")])
    run, precision = reach(
        repeater, repeater.run("pilot", 1), lambda _: next(figures), 0.02, 10**6, 1e9
    )
    assert (run.repeats, precision.reached, phases(lab)) == (1, 0.1, ["measure", "pilot"])
    assert str(precision.why_not).startswith("the GPU is lost")


def test_no_energy_at_all_is_not_taken_for_precise() -> None:
    lab = Lab()
    run, precision = reached(lab, power_w=0.0, edge_j=1.0)
    assert (run.repeats, precision.tries, precision.reached) == (100, 1, None)
    assert precision.why_not == "the meter saw no energy; use another meter"


@UNHURRIED
@given(
    run_s=st.floats(1e-3, 100.0),
    edges_s=st.floats(0.0, 2.0),
    draw_s=st.floats(0.0, 1.0),
    left_s=st.floats(0.0, 500.0),
    edge_j=st.floats(0.0, 100.0),
    noise_j=st.floats(0.0, 100.0),
    asked=st.floats(0.005, 0.9),
    most=st.integers(1, 300),
)
def test_the_time_is_kept_and_the_figures_are_of_one_window(
    run_s: float,
    edges_s: float,
    draw_s: float,
    left_s: float,
    edge_j: float,
    noise_j: float,
    asked: float,
    most: int,
) -> None:
    lab = Lab(run_s=run_s, edges_s=edges_s, draw_s=draw_s)
    first_s = run_s + edges_s + draw_s
    run, precision = reached(lab, asked, most, first_s + left_s, edge_j=edge_j, noise_j=noise_j)
    assert lab.now_s <= (first_s + left_s) * (1 + 1e-9)
    assert 1 <= run.repeats <= most
    assert precision.tries <= TRIES
    assert phases(lab).count("measure") == 1
    (measured,) = [window for window in lab.windows if window.phase == "measure"]
    assert dataclasses.replace(run.window, phase="measure") == measured
    assert len(run.completions) == 2 * run.repeats
    assert (precision.why_not is None) == (
        precision.reached is not None and precision.reached <= asked
    )


# --- the warning ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reached_to", "repeats", "why_not", "text"),
    [
        (0.01, 6, None, None),
        (0.0312, 1, "because", "precision 2 % was not reached, but 3.1 % with 1 run: because"),
        (0.0312, 9, "because", "precision 2 % was not reached, but 3.1 % with 9 runs: because"),
        (None, 1, "because", "precision 2 % can't be judged: because"),
    ],
)
def test_a_precision_that_was_not_reached_is_a_warning(
    reached_to: float | None, repeats: int, why_not: str | None, text: str | None
) -> None:
    precision = Precision(asked=0.02, reached=reached_to, tries=1, why_not=why_not)
    assert warning(precision, repeats) == text
