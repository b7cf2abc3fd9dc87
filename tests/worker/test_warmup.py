"""Warm-up until the time of a batch no longer changes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.experiment import Prompts, Uniform, Warmup
from pytest_llem.extensions import Workload
from pytest_llem.records import WarmUp
from pytest_llem.worker import workload
from pytest_llem.worker.warmup import drift, stable, variation, warm_up
from tests.builders import UNHURRIED, experiment
from tests.worker.simulated import Lab

FIXED = Prompts(count=2, input_tokens=4)


def warmed(
    run_s: float | Callable[[Workload], float],
    prompts: Prompts = FIXED,
    batch_size: int = 2,
    **of_warmup: object,
) -> tuple[WarmUp, tuple[str, ...], Lab]:
    lab = Lab(run_s=run_s)
    wanted = Warmup(**({"prompts": 5, "until_stable": True} | of_warmup))  # type: ignore[arg-type]
    given = experiment(warmup=wanted, prompts=prompts, batch_size=batch_size)
    requests = workload.warmup(given, 1000)
    assert requests is not None
    found, said = warm_up(given, requests, lab, 1000, lab.clock)
    return found, said, lab


def settling(start: float, factor: float, end: float = 1.0) -> Callable[[Workload], float]:
    """Seconds of one batch after another: nearer to the end each time."""
    count = itertools.count()
    return lambda _: end + (start - end) * factor ** next(count)


# --- when it ends --------------------------------------------------------------------------


def test_without_being_asked_for_it_ends_after_its_requests() -> None:
    found, said, lab = warmed(settling(9.0, 0.5), until_stable=False, timeout_s=100.0)
    assert (found, said) == (WarmUp(batches=3), ())
    assert [len(batch.prompts) for batch in lab.batches] == [2, 2, 1]


def test_it_goes_on_until_the_times_are_the_same() -> None:
    found, said, lab = warmed(settling(9.0, 0.5), timeout_s=100.0)
    assert said == ()
    assert found.stable
    assert found.batches == len(lab.batches) == 12
    assert found.variation is not None
    assert found.variation < 0.05
    assert found.drift is not None
    assert -0.02 < found.drift < 0


def test_of_the_first_batches_those_that_are_full_count() -> None:
    found, _, lab = warmed(1.0)
    assert (found.batches, found.stable, found.variation, found.drift) == (6, True, 0.0, 0.0)
    assert [len(batch.prompts) for batch in lab.batches] == [2, 2, 1, 2, 2, 2]


def test_every_batch_has_prompts_of_its_own() -> None:
    _, _, lab = warmed(settling(9.0, 0.5), timeout_s=100.0)
    prompts = [tuple(prompt) for batch in lab.batches for prompt in batch.prompts]
    assert len(set(prompts)) == len(prompts)


def test_batches_of_drawn_lengths_are_compared_by_the_same_lengths() -> None:
    drawn = Prompts(count=2, input_tokens=Uniform(uniform=(2, 90)))

    def by_tokens(batch: Workload) -> float:
        return 0.01 * sum(map(len, batch.prompts))

    found, said, lab = warmed(by_tokens, drawn)
    assert (found.stable, said) == (True, ())
    shapes = [[len(prompt) for prompt in batch.prompts] for batch in lab.batches]
    assert shapes.count(shapes[0]) == 5
    assert shapes[3:] == [shapes[0]] * (len(shapes) - 3)


# --- when time is over ---------------------------------------------------------------------


def test_times_that_go_on_changing_are_a_warning_with_numbers() -> None:
    times = itertools.count(10)
    found, said, lab = warmed(lambda _: float(next(times)), timeout_s=150.0)
    assert not found.stable
    assert lab.now_s > 150.0 >= lab.now_s - 20
    (text,) = said
    assert text == (
        f"warm-up was not stable after 150 s: the times of the last 5 of {found.batches} batches"
        f" vary by {100 * math.sqrt(2.5) / 18:.1f} % (at most 5 %)"
        f" and change by {100 / 18:+.1f} % a batch (at most 2 %); raise warmup.timeout_s"
    )


def test_too_few_batches_to_tell_are_a_warning() -> None:
    found, said, _ = warmed(20.0, prompts=FIXED, timeout_s=50.0)
    assert found == WarmUp(batches=3, stable=False)
    (text,) = said
    assert text == (
        "warm-up was not stable after 50 s: 3 batches, and it takes 5 equally long ones to tell;"
        " raise warmup.timeout_s"
    )


@pytest.mark.parametrize("until_stable", [True, False])
def test_requests_that_could_not_be_made_are_a_warning(until_stable: bool) -> None:
    found, said, _ = warmed(20.0, until_stable=until_stable, timeout_s=10.0)
    assert found == WarmUp(batches=1, stable=False if until_stable else None)
    assert said == ("warm-up ended after 10 s with 2 of 5 requests",)


# --- what stable means ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "is_stable"),
    [
        ([1.0, 1.0, 1.0, 1.0, 1.0], True),
        ([1.04, 0.96, 1.04, 0.96, 1.0], True),
        ([1.1, 0.9, 1.1, 0.9, 1.0], False),
        # A drift of 3 % a batch scatters by less than 5 %.
        ([0.94, 0.97, 1.0, 1.03, 1.06], False),
        ([1.02, 1.01, 1.0, 0.99, 0.98], True),
        ([0.0, 0.0, 0.0, 0.0, 0.0], True),
    ],
)
def test_stable_times_neither_scatter_nor_drift(times: list[float], is_stable: bool) -> None:
    assert stable(times) == is_stable


def test_a_line_has_its_own_slope_and_scatter() -> None:
    times = [8.0, 9.0, 10.0, 11.0, 12.0]
    assert drift(times) == pytest.approx(0.1)
    assert variation(times) == pytest.approx(math.sqrt(2.5) / 10)


@UNHURRIED
@given(st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=5), st.floats(1e-3, 1e3))
def test_what_counts_is_relative(times: list[float], unit: float) -> None:
    scaled = [unit * time_s for time_s in times]
    assert variation(scaled) == pytest.approx(variation(times), abs=1e-9)
    assert drift(scaled) == pytest.approx(drift(times), abs=1e-9)
