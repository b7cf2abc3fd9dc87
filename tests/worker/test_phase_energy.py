"""Energy of prefill and decode, from windows on a clock that nobody waits for."""

from __future__ import annotations

import dataclasses
import math

import pytest

from pytest_llem.extensions import Workload
from pytest_llem.records import Figure, Prefill, Quality, Window
from pytest_llem.worker.facts import Facts
from pytest_llem.worker.phase_energy import Outcome, phase_figures, run_prefill, warnings
from pytest_llem.worker.quantity import Quantity, null
from tests.builders import unmeasured, window
from tests.worker.simulated import Lab

PREFILL, DECODE = "prefill_energy_per_input_token_j", "decode_energy_per_output_token_j"
FACTS = Facts(
    requests=2, input=10, output=22, peak_memory_bytes=None, device="cpu", no_meter="none here"
)


def prefill(
    lab: Lab, measured_s: float = 10.0, most: int = 10**6, latest_s: float = 1e9, tokens: int = 1
) -> Outcome:
    return run_prefill(lab.repeater(output_tokens=tokens), measured_s, most, latest_s)


# --- the window ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured_s", "repeats"), [(10.0, 20), (0.1, 2), (1000.0, 60), (10.2, 21)]
)
def test_prefill_runs_as_long_as_the_measured_window_within_bounds(
    measured_s: float, repeats: int
) -> None:
    lab = Lab(run_s=0.5)
    outcome = prefill(lab, measured_s)
    assert outcome.record == Prefill(repeats=repeats, input_tokens=5 * repeats)
    assert [(w.phase, w.duration_s) for w in lab.windows] == [
        ("pilot", 0.5),
        ("prefill", 0.5 * repeats),
    ]


def test_prefill_is_one_token_of_prompts_that_are_never_the_same() -> None:
    lab = Lab()
    prefill(lab)
    assert {workload.output_tokens for workload in lab.batches} == {1}
    assert len({tuple(workload.prompts[0]) for workload in lab.batches}) == 11


def test_only_the_window_that_counts_waits_for_the_edges_of_counters() -> None:
    lab = Lab()
    prefill(lab)
    assert lab.exact == [("pilot", False), ("prefill", None)]


@pytest.mark.parametrize(("latest_s", "most", "repeats"), [(5.5, 100, 4), (1e9, 3, 3)])
def test_time_and_memory_bound_the_window(latest_s: float, most: int, repeats: int) -> None:
    lab = Lab()
    record = prefill(lab, latest_s=latest_s, most=most).record
    assert record is not None
    assert record.repeats == repeats
    assert lab.now_s <= latest_s


@pytest.mark.parametrize(("latest_s", "windows"), [(0.0, 0), (-9.0, 0), (1.5, 1)])
def test_without_time_there_is_no_window_and_a_reason(latest_s: float, windows: int) -> None:
    lab = Lab()
    outcome = prefill(lab, latest_s=latest_s)
    assert outcome == Outcome(why_not="timeout_s left no time for a window of prefill; raise it")
    assert (outcome.record, len(lab.windows)) == (None, windows)


@pytest.mark.parametrize(
    ("error", "told"), [(ValueError("two or more"), "two or more"), (ValueError(), "ValueError")]
)
def test_an_engine_that_refuses_does_not_lose_the_measurement(
    error: Exception, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(workload: Workload) -> float:
        assert workload.output_tokens == 1
        raise error

    outcome = prefill(Lab(run_s=refuse))
    assert outcome == Outcome(why_not=f"the engine refused it: {told}")
    assert "Traceback" in capsys.readouterr().err


def test_an_engine_that_makes_more_tokens_did_not_only_prefill() -> None:
    outcome = prefill(Lab(), measured_s=2.0, tokens=2)
    assert outcome.why_not == "the engine produced more or less than one token in 4 cases"
    assert outcome.record is None


# --- the figures ---------------------------------------------------------------------------


def figures(gross: Quantity, of_prefill: Quantity, facts: Facts = FACTS) -> dict[str, Figure]:
    """With 10 runs of prefill, 50 input tokens."""
    outcome = prefill(Lab())

    def energy(given: Window) -> Quantity:
        return of_prefill if given.phase == "prefill" else gross

    return phase_figures(window("measure", 1.0), facts, outcome, energy)


def test_decode_is_what_is_left_of_the_energy() -> None:
    gains = {("m", "counter"): 5.0}, {("m", "counter"): 10.0}
    found = figures(
        Quantity(value=100.0, spread=3.0, gains=gains[0]),
        Quantity(value=200.0, spread=10.0, gains=gains[1]),
    )
    # 4 J an input token, 40 J of the measured window; 60 J for 20 tokens after the first.
    assert found[PREFILL] == Figure(value=4.0, uncertainty=0.2, systematic=0.2)
    assert found[DECODE].value == 3.0
    assert found[DECODE].uncertainty == pytest.approx(math.hypot(3.0, 0.2 * 10) / 20)
    assert found[DECODE].systematic == pytest.approx(0.15)


def test_a_difference_below_zero_is_not_clipped() -> None:
    found = figures(Quantity(value=10.0), Quantity(value=200.0))
    assert found[DECODE].value == -1.5


def test_an_uncertainty_that_nobody_knows_is_not_zero() -> None:
    found = figures(Quantity(value=100.0, spread=1.0), Quantity(value=200.0))
    assert (found[PREFILL].uncertainty, found[DECODE].uncertainty) == (None, None)


def test_one_output_token_is_all_prefill() -> None:
    alone = dataclasses.replace(FACTS, output=2)
    found = figures(Quantity(value=100.0), Quantity(value=200.0), alone)
    assert found[PREFILL].value == 4.0
    assert found[DECODE] == unmeasured("needs two output tokens or more")


@pytest.mark.parametrize(
    ("gross", "of_prefill", "values"),
    [
        (null("gone"), Quantity(value=200.0), (4.0, None)),
        (Quantity(value=100.0), null("gone"), (None, None)),
    ],
)
def test_what_no_meter_read_is_null_with_its_reason(
    gross: Quantity, of_prefill: Quantity, values: tuple[float | None, float | None]
) -> None:
    found = figures(gross, of_prefill)
    assert (found[PREFILL].value, found[DECODE].value) == values
    assert found[DECODE].reason == "gone"


@pytest.mark.parametrize("quality", ["short", "degraded"])
def test_a_figure_is_as_good_as_its_worst_window(quality: Quality) -> None:
    doubtful = Quantity(value=200.0, quality=quality, reasons=("why",))
    decode = figures(Quantity(value=100.0), doubtful)[DECODE]
    assert (decode.quality, decode.reason) == (quality, "why")


def test_without_a_window_both_are_null_with_the_reason() -> None:
    outcome = Outcome(why_not="the engine refused it: no")
    found = phase_figures(window("measure", 1.0), FACTS, outcome, lambda _: null("unread"))
    assert found == dict.fromkeys((PREFILL, DECODE), unmeasured("the engine refused it: no"))
    assert warnings(outcome, found) == (
        "no energy of prefill and decode: the engine refused it: no",
    )


@pytest.mark.parametrize(
    ("value", "uncertainty", "warned"),
    [
        (1.0, 0.9, False),
        (1.0, 1.0, True),
        (-1.0, 0.1, True),
        (-1.0, None, True),
        (1.0, None, False),
    ],
)
def test_a_difference_that_is_lost_in_its_uncertainty_is_a_warning(
    value: float, uncertainty: float | None, warned: bool
) -> None:
    found = {PREFILL: Figure(value=1.0), DECODE: Figure(value=value, uncertainty=uncertainty)}
    text = (
        "the energy of decode is not larger than its uncertainty; raise output_tokens, or"
        " prompts.count"
    )
    assert warnings(Outcome(run=None), found) == ((text,) if warned else ())


def test_a_decode_that_is_null_is_no_warning() -> None:
    found = {PREFILL: Figure(value=1.0), DECODE: unmeasured("one token")}
    assert warnings(Outcome(run=None), found) == ()
