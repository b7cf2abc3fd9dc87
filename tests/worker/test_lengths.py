"""How long prompts are: the same for all, or drawn."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.experiment import Lognormal, LognormalShape, Prompts, Uniform, Warmup
from pytest_llem.worker.workload import asked_lengths, lengths, measured, warmup
from tests.builders import UNHURRIED, experiment

MANY = 20_000


def uniform(low: int, high: int) -> Uniform:
    return Uniform(uniform=(low, high))


def lognormal(median: int, sigma: float, longest: int) -> Lognormal:
    return Lognormal(lognormal=LognormalShape(median=median, sigma=sigma, max=longest))


SHAPES = [512, uniform(16, 64), lognormal(100, 0.5, 400)]
IDS = ["fixed", "uniform", "lognormal"]


# --- of any shape --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_there_are_as_many_lengths_as_asked_for(shape: int | Uniform | Lognormal) -> None:
    assert [len(lengths(shape, count, "x")) for count in (0, 1, 7)] == [0, 1, 7]


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_more_lengths_begin_with_the_same(shape: int | Uniform | Lognormal) -> None:
    assert lengths(shape, 9, "x")[:4] == lengths(shape, 4, "x")


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_lengths_are_the_same_in_every_process(shape: int | Uniform | Lognormal) -> None:
    program = f"""
from pytest_llem.experiment import Lognormal, LognormalShape, Uniform
from pytest_llem.worker.workload import lengths
print(lengths({shape!r}, 50, "x"))
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert said == {str(lengths(shape, 50, "x"))}


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [
        (7, [7, 7, 7, 7, 7, 7]),
        (uniform(16, 64), [33, 54, 38, 45, 37, 27]),
        (lognormal(100, 0.5, 400), [92, 158, 88, 123, 159, 86]),
    ],
    ids=IDS,
)
def test_lengths_are_the_same_on_every_host_and_version(
    shape: int | Uniform | Lognormal, drawn: list[int]
) -> None:
    assert lengths(shape, 6, "42/measure") == drawn


@pytest.mark.parametrize("shape", SHAPES[1:], ids=IDS[1:])
def test_another_seed_gives_other_lengths(shape: Uniform | Lognormal) -> None:
    assert lengths(shape, 20, "a") != lengths(shape, 20, "b")


# --- uniform -------------------------------------------------------------------------------


@UNHURRIED
@given(st.integers(1, 1000), st.integers(0, 1000), st.text(max_size=5))
def test_lengths_of_a_range_stay_in_it(low: int, width: int, seed: str) -> None:
    drawn = lengths(uniform(low, low + width), 50, seed)
    assert low <= min(drawn)
    assert max(drawn) <= low + width


def test_every_length_of_a_range_is_drawn_about_equally_often() -> None:
    counts = Counter(lengths(uniform(3, 7), MANY, "x"))
    assert set(counts) == {3, 4, 5, 6, 7}
    # Binomial: 4,000 each, with a standard deviation of 57.
    assert all(abs(count - MANY / 5) < 4 * math.sqrt(MANY * 0.2 * 0.8) for count in counts.values())


def test_a_range_of_one_length_has_just_that() -> None:
    assert lengths(uniform(5, 5), 3, "x") == [5, 5, 5]


# --- lognormal -----------------------------------------------------------------------------


@UNHURRIED
@given(
    st.integers(1, 2000),
    st.integers(0, 2000),
    st.floats(0.01, 5.0),
    st.text(max_size=5),
)
def test_lognormal_lengths_are_at_least_one_and_at_most_the_longest(
    median: int, above: int, sigma: float, seed: str
) -> None:
    drawn = lengths(lognormal(median, sigma, median + above), 50, seed)
    assert min(drawn) >= 1
    assert max(drawn) <= median + above


@pytest.mark.parametrize("seed", ["a", "b", "42/measure"])
@pytest.mark.parametrize(("median", "sigma"), [(1000, 0.3), (1000, 1.0), (5000, 1.5)])
def test_half_of_the_lengths_are_below_the_median(median: int, sigma: float, seed: str) -> None:
    drawn = lengths(lognormal(median, sigma, 10**9), MANY, seed)
    # The median of n normal values has a standard error of sigma × sqrt(pi / 2n).
    error = sigma * math.sqrt(math.pi / 2 / MANY)
    assert abs(math.log(statistics.median(drawn) / median)) < 3 * error


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_the_logarithms_of_the_lengths_spread_by_sigma(sigma: float) -> None:
    logs = [math.log(length) for length in lengths(lognormal(5000, sigma, 10**9), MANY, "x")]
    # The standard deviation of n normal values has a standard error of sigma / sqrt(2n).
    assert abs(statistics.stdev(logs) - sigma) < 3 * sigma / math.sqrt(2 * MANY)


def test_what_is_too_long_is_drawn_again_and_not_cut() -> None:
    drawn = lengths(lognormal(100, 1.0, 150), MANY, "x")
    # Of the untruncated draws a third is above the longest: cut, they would all be there.
    assert max(drawn) == 150
    assert drawn.count(150) < MANY / 50


def test_the_shape_below_the_longest_is_that_of_the_distribution() -> None:
    longest = 150
    drawn = lengths(lognormal(100, 1.0, longest), MANY, "x")
    normal = statistics.NormalDist()
    # Half a token up: lengths are rounded.
    taken = normal.cdf(math.log((longest + 0.5) / 100))
    for length in (20, 50, 100, 125):
        share = normal.cdf(math.log((length + 0.5) / 100)) / taken
        found = sum(n <= length for n in drawn) / MANY
        assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / MANY)


def test_the_median_may_be_the_longest() -> None:
    drawn = lengths(lognormal(100, 0.5, 100), 1000, "x")
    assert max(drawn) == 100
    assert min(drawn) < 50


def test_a_spread_beyond_all_measure_still_gives_lengths() -> None:
    drawn = lengths(lognormal(100, 1000.0, 400), 1000, "x")
    assert {1 <= length <= 400 for length in drawn} == {True}


# --- of an experiment ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_the_measured_prompts_have_the_lengths_asked_for(shape: int | Uniform | Lognormal) -> None:
    given = experiment(prompts=Prompts(count=20, input_tokens=shape), seed=7)
    asked = asked_lengths(given)
    assert [len(prompt) for prompt in measured(given, 1000).prompts] == asked
    assert asked == lengths(shape, 20, "7/measure")


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_warm_up_prompts_have_lengths_of_the_same_shape(shape: int | Uniform | Lognormal) -> None:
    given = experiment(
        prompts=Prompts(count=20, input_tokens=shape), warmup=Warmup(prompts=6), seed=7
    )
    workload = warmup(given, 1000)
    assert workload is not None
    assert [len(prompt) for prompt in workload.prompts] == lengths(shape, 6, "7/warmup")


@pytest.mark.parametrize("shape", SHAPES[1:], ids=IDS[1:])
def test_the_vocabulary_does_not_change_the_lengths(shape: Uniform | Lognormal) -> None:
    given = experiment(prompts=Prompts(count=20, input_tokens=shape))
    drawn = [[len(prompt) for prompt in measured(given, size).prompts] for size in (300, 50_000)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(("one", "other"), [(1, 2), (42, 43)])
def test_the_seed_of_an_experiment_is_that_of_its_lengths(one: int, other: int) -> None:
    prompts = Prompts(count=20, input_tokens=uniform(16, 64))
    first, second = experiment(prompts=prompts, seed=one), experiment(prompts=prompts, seed=other)
    assert asked_lengths(first) != asked_lengths(second)
    assert asked_lengths(first) == asked_lengths(experiment(prompts=prompts, seed=one, id="b"))
