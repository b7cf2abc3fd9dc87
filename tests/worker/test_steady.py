"""What the steady window of a run says, on times worked out by hand."""

from __future__ import annotations

import dataclasses

import pytest

from pytest_llem.experiment import Concurrency, Poisson
from pytest_llem.metrics import METRICS
from pytest_llem.records import Figure, RequestTiming, ToIdle, Window
from pytest_llem.worker.drive import TOO_LATE, Driven
from pytest_llem.worker.steady import counts, look, windows
from tests.builders import completion, reading, timing

# Two slots, three tokens a request, a token a second: steady from 1 to 12.
TIMES = [timing(start, start + 1, start + 2, start + 3) for start in (0, 0, 3, 3, 6, 6, 9, 9)]
WINDOW = Window(
    phase="measure",
    start_s=2.5,
    duration_s=9.5,
    readings=(reading(95.0, before_w=10.0, to_idle=ToIdle(above_j=1.0)),),
)


def driven(*timings: RequestTiming, **fields: object) -> Driven:
    base = Driven(
        completions=tuple(completion(each) for each in timings or TIMES),
        begun_s=0.0,
        ended_s=12.0,
        steady_s=1.0,
        over_s=12.0,
        window=WINDOW,
        read=True,
    )
    return dataclasses.replace(base, **fields)  # type: ignore[arg-type]


CLOSED, OPEN = Concurrency(concurrency=2), Poisson(poisson=1.0)


# --- what counts ---------------------------------------------------------------------------


def test_latencies_are_of_requests_submitted_in_the_window_rates_of_those_that_end_in_it() -> None:
    found = look(driven(), CLOSED)
    assert [each.submitted_s for each in found.counted] == [3, 3, 6, 6, 9, 9]
    assert [each.token_s[-1] for each in found.ended] == [3, 3, 6, 6, 9, 9, 12, 12]


def test_tokens_count_where_they_arrive_and_prompts_where_their_first_token_does() -> None:
    # Each of the first two requests has a token left, none of them its first.
    assert counts(TIMES, WINDOW) == (8, 6 * 4, 2 + 6 * 3)


def test_a_window_begins_behind_its_first_moment_and_ends_with_its_last() -> None:
    whole = dataclasses.replace(WINDOW, start_s=3.0, duration_s=6.0)
    assert counts(TIMES, whole) == (4, 4 * 4, 4 * 3)
    found = look(driven(window=whole), CLOSED)
    assert [each.submitted_s for each in found.counted] == [6, 6, 9, 9]


def test_requests_without_a_token_count_nowhere() -> None:
    assert counts([timing(3.0)], WINDOW) == (0, 0, 0)


# --- what is told of it --------------------------------------------------------------------


def test_the_traffic_is_told() -> None:
    traffic = look(driven(), CLOSED).traffic
    assert (traffic.scenario, traffic.asked) == ("concurrency", 2.0)
    assert (traffic.requests, traffic.counted) == (8, 6)
    assert (traffic.in_flight_max, traffic.in_flight) == (2, (2, 0))
    assert (traffic.steady_from_s, traffic.steady_to_s) == (1.0, 12.0)
    assert traffic.arrivals_per_s == pytest.approx(8 / 9)
    assert (traffic.late_s, traffic.reason) == (None, None)


def test_arrivals_that_were_issued_are_told_beside_those_that_were_due() -> None:
    late = [
        dataclasses.replace(each, due_s=each.submitted_s - 0.001 * number)
        for number, each in enumerate(TIMES)
    ]
    found = look(driven(*late), OPEN)
    assert (found.traffic.scenario, found.traffic.asked) == ("poisson", 1.0)
    assert found.traffic.late_s == pytest.approx(0.007)
    assert found.warnings == ()


def test_what_lies_around_the_window_has_windows_of_its_own() -> None:
    ramp, measured, drain = windows(driven(ended_s=13.5), WINDOW)
    assert (ramp.phase, ramp.start_s, ramp.duration_s) == ("ramp", 0.0, 2.5)
    assert measured is WINDOW
    assert (drain.phase, drain.start_s, drain.duration_s) == ("drain", 12.0, 1.5)
    assert (ramp.readings, drain.readings) == ((), ())


def test_a_reading_says_nothing_of_a_rest_that_was_not_there() -> None:
    (found,) = look(driven(), CLOSED).window.readings
    assert found.energy_j == 95.0
    assert found.before_w is None
    assert found.to_idle is not None
    assert found.to_idle.above_j is None
    assert "requests go on after the steady window" in (found.to_idle.reason or "")


# --- what can't be told --------------------------------------------------------------------

FOUND = {name: Figure(value=1.0) for name in METRICS}
ELSEWHERE = {"load_s", "peak_memory_bytes", "idle_power_w", "carbon_g", "cost", "cpu_steal_share"}


def nulls(found: dict[str, Figure]) -> set[str]:
    return {name for name, figure in found.items() if figure.value is None}


def test_figures_of_a_steady_run_stay() -> None:
    assert look(driven(), CLOSED).withhold(FOUND) == FOUND


def test_a_run_that_was_never_steady_has_no_figures() -> None:
    found = look(driven(steady_s=None, window=None), CLOSED)
    reason = "the run was never steady; raise prompts.count"
    assert found.warnings == (f"no figures of a steady state: {reason}",)
    assert found.traffic.reason == reason
    assert (found.traffic.steady_from_s, found.traffic.steady_to_s) == (None, None)
    withheld = found.withhold(FOUND)
    assert nulls(withheld) == METRICS.keys() - ELSEWHERE
    assert withheld["energy_j"].reason == reason
    assert (found.window.start_s, found.window.duration_s) == (12.0, 0.0)


def test_a_window_in_which_hardly_a_request_ends_has_no_figures() -> None:
    short = dataclasses.replace(WINDOW, start_s=3.5, duration_s=2.25)
    found = look(driven(window=short), CLOSED)
    assert found.traffic.reason is not None
    assert found.traffic.reason.startswith("0 requests ended within the steady window")
    assert nulls(found.withhold(FOUND)) == METRICS.keys() - ELSEWHERE


def test_a_window_in_which_no_request_is_submitted_has_rates_and_no_latencies() -> None:
    short = dataclasses.replace(WINDOW, start_s=9.5, duration_s=2.5)
    found = look(driven(window=short), CLOSED)
    assert (found.traffic.reason, found.traffic.counted) == (None, 0)
    missing = nulls(found.withhold(FOUND))
    assert missing == {name for name in METRICS if name.startswith(("ttft", "itl", "tpot", "e2e"))}
    (warning,) = found.warnings
    assert "no request was submitted within the steady window" in warning


def test_meters_that_were_too_late_are_a_warning() -> None:
    assert look(driven(read=False), CLOSED).warnings == (f"no energy: {TOO_LATE}",)


# --- arrivals that aren't what they should be ----------------------------------------------


def test_arrivals_that_come_late_are_a_warning() -> None:
    late = [
        dataclasses.replace(each, due_s=each.submitted_s - 0.6 * (number % 2))
        for number, each in enumerate(TIMES)
    ]
    (warning,) = look(driven(*late), OPEN).warnings
    assert warning.startswith("requests were submitted 300 ms late on average and 600 ms at most")
    assert look(driven(*late), Poisson(poisson=0.1)).warnings == ()


def test_arrivals_that_are_all_as_late_are_those_that_were_asked_for() -> None:
    late = [dataclasses.replace(each, due_s=each.submitted_s - 0.6) for each in TIMES]
    assert look(driven(*late), OPEN).warnings == ()


def test_arrivals_that_outrun_the_engine_are_a_warning() -> None:
    queue = [timing(number / 4, 20.0 + number) for number in range(40)]
    queue[0] = timing(0.0, 1.0)
    queue[1:4] = [timing(number / 4, 2.6 + number) for number in (1, 2, 3)]
    found = look(driven(*queue), Poisson(poisson=4.0))
    (warning,) = found.warnings
    assert warning.startswith("10 requests were in flight when the steady window began and 36 when")
    assert found.traffic.in_flight == (10, 36)
