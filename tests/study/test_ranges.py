"""Ranges of a sweep."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_llem.study.ranges import RangeError, is_range, values
from tests.builders import UNHURRIED

MOST = 10_000


def shape(low: Any, high: Any, steps: Any = None, scale: Any = None) -> dict[str, Any]:
    """A range with the keys that are given."""
    keys = {"from": low, "to": high, "steps": steps, "scale": scale}
    return {key: value for key, value in keys.items() if value is not None}


def outcome(given: dict[str, Any]) -> list[int | float] | RangeError:
    try:
        return values(given)
    except RangeError as error:
        return error


def refusal(given: dict[str, Any]) -> tuple[str, str]:
    error = outcome(given)
    assert isinstance(error, RangeError)
    return error.key, error.text


# --- examples ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (shape(1, 5, 5), [1, 2, 3, 4, 5]),
        (shape(1, 64, 7), [1, 12, 22, 33, 43, 54, 64]),
        (shape(-3, 3, 5), [-3, -1, 0, 2, 3]),
        (shape(1, 4, 7), [1, 2, 3, 4]),
        (shape(1, 2, 2), [1, 2]),
        (shape(2**60 + 1, 2**60 + 3, 3), [2**60 + 1, 2**60 + 2, 2**60 + 3]),
        (shape(0.1, 0.7, 7), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        (shape(0, 1.0, 4), [0.0, 0.333333333333, 0.666666666667, 1.0]),
        (shape(-1e308, 1e308, 3), [-1e308, 0.0, 1e308]),
        (shape(1, 64, 7, "linear"), [1, 12, 22, 33, 43, 54, 64]),
    ],
)
def test_linear_values_have_equal_differences(given: dict[str, Any], expected: list[Any]) -> None:
    assert repr(values(given)) == repr(expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (shape(1, 64, 7, "log"), [1, 2, 4, 8, 16, 32, 64]),
        (shape(1, 1000, 4, "log"), [1, 10, 100, 1000]),
        (shape(1, 64, 5, "log"), [1, 3, 8, 23, 64]),
        (shape(1, 8, 9, "log"), [1, 2, 3, 4, 5, 6, 8]),
        (shape(0.001, 1, 4, "log"), [0.001, 0.01, 0.1, 1.0]),
        (shape(1.0, 2.0, 3, "log"), [1.0, 1.41421356237, 2.0]),
        (shape(10**17, 10**17 + 4, 3, "log"), [10**17, 10**17 + 2, 10**17 + 4]),
    ],
)
def test_log_values_have_equal_ratios(given: dict[str, Any], expected: list[Any]) -> None:
    assert repr(values(given)) == repr(expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (shape(1, 64, None, "pow2"), [1, 2, 4, 8, 16, 32, 64]),
        (shape(1, 64, 7, "pow2"), [1, 2, 4, 8, 16, 32, 64]),
        (shape(1, 64, 4, "pow2"), [1, 4, 16, 64]),
        (shape(1, 64, 2, "pow2"), [1, 64]),
        (shape(0.25, 2, None, "pow2"), [0.25, 0.5, 1.0, 2.0]),
        (shape(2.0**-20, 2.0**-19, None, "pow2"), [9.5367431640625e-07, 1.9073486328125e-06]),
        (shape(2**60, 2**61, None, "pow2"), [2**60, 2**61]),
    ],
)
def test_pow2_values_are_powers_of_two(given: dict[str, Any], expected: list[Any]) -> None:
    assert repr(values(given)) == repr(expected)


@pytest.mark.parametrize("scale", ["linear", "log", "pow2"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_equal_ends_are_one_value(scale: str, steps: int) -> None:
    assert repr(values(shape(4, 4, steps, scale))) == "[4]"
    assert repr(values(shape(4, 4.0, steps, scale))) == "[4.0]"


def test_keys_that_are_null_are_not_given() -> None:
    assert values({"from": 1, "to": 3, "steps": 3, "scale": None}) == [1, 2, 3]
    assert values({"from": 1, "to": 4, "steps": None, "scale": "pow2"}) == [1, 2, 4]


def test_a_range_may_be_large_up_to_its_limit() -> None:
    assert values(shape(1, MOST, MOST)) == list(range(1, MOST + 1))


# --- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "key", "text"),
    [
        ({}, "from", "required, and not given"),
        ({"from": 1}, "to", "required, and not given"),
        ({"from": None, "to": 1}, "from", "required, and not given"),
        ({"from": 1, "to": 2, "step": 3}, "", "unknown field step; did you mean steps?"),
        (
            {"from": 1, "to": 2, "x": 3},
            "",
            "unknown field x; accepted: from, scale, steps, to",
        ),
        (shape("1", 2), "from", "should be a number, not '1'"),
        (shape(1, [2]), "to", "should be a number, not [2]"),
        (shape(1, True), "to", "should be a number, not True"),
        (shape(math.nan, 1), "from", "should be a finite number, not nan"),
        (shape(1, math.inf), "to", "should be a finite number, not inf"),
        (shape(1, 10**400), "to", f"should have at most 308 digits, not 1{'0' * 59}"),
        (shape(1, 1 << 20_000), "to", "should have at most 308 digits, not one of thousands"),
        (shape(64, 1, 7), "", "runs backwards: from 64 to 1; swap them"),
        (shape(1.5, 0.5, 7), "", "runs backwards: from 1.5 to 0.5; swap them"),
        (shape(1, 2, 3, "lin"), "scale", "should be linear, log or pow2, not 'lin'"),
        (shape(1, 2, 3, []), "scale", "should be linear, log or pow2, not []"),
        (shape(0, 2, 3, "log"), "from", "should be above 0 with scale log, not 0"),
        (shape(-1.5, 2, 3, "pow2"), "from", "should be above 0 with scale pow2, not -1.5"),
        (shape(1, -2, 3, "log"), "to", "should be above 0 with scale log, not -2"),
        (shape(1, 2), "steps", "required with scale linear, and not given"),
        (shape(1, 2, None, "log"), "steps", "required with scale log, and not given"),
        (shape(1, 2, 2.0), "steps", "should be a whole number, not 2.0"),
        (shape(1, 2, True), "steps", "should be a whole number, not True"),
        (shape(1, 2, "3"), "steps", "should be a whole number, not '3'"),
        (shape(1, 2, 1), "steps", "should be at least 2, not 1"),
        (shape(1, 2, 1, "pow2"), "steps", "should be at least 2, not 1"),
        (shape(2, 2, 0), "steps", "should be at least 1, not 0"),
        (shape(2, 2, -5), "steps", "should be at least 1, not -5"),
        (shape(1, 2, MOST + 1), "steps", "should be at most 10000, not 10001"),
        (shape(1, 2, 1 << 20_000), "steps", "should be at most 10000, not one of thousands"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(given: dict[str, Any], key: str, text: str) -> None:
    found, said = refusal(given)
    assert found == key
    assert said.startswith(text)


@pytest.mark.parametrize(
    ("low", "high", "key", "text"),
    [
        (48, 64, "from", "32 or 64, not 48"),
        (1, 100, "to", "64 or 128, not 100"),
        (0.3, 1, "from", "0.25 or 0.5, not 0.3"),
        (1, 2**60 + 1, "to", f"{2**60} or {2**61}, not {2**60 + 1}"),
    ],
)
def test_ends_of_pow2_are_powers_of_two(low: Any, high: Any, key: str, text: str) -> None:
    said = f"should be a power of two with scale pow2, such as {text}"
    assert refusal(shape(low, high, None, "pow2")) == (key, said)


def test_the_power_of_two_above_the_largest_float_can_be_named() -> None:
    key, said = refusal(shape(1, 1.7e308, None, "pow2"))
    assert key == "to"
    assert said.endswith("not 1.7e+308")


@pytest.mark.parametrize(
    ("high", "steps", "choice"),
    [(64, 5, "2, 3, 4 or 7"), (128, 3, "2 or 8"), (2, 3, "2"), (64, 100, "2, 3, 4 or 7")],
)
def test_steps_of_pow2_that_work_are_named(high: int, steps: int, choice: str) -> None:
    key, said = refusal(shape(1, high, steps, "pow2"))
    assert key == "steps"
    ends = f"1 to {high}"
    assert said == (
        f"should be {choice}, not {steps}: no other number divides {ends} into powers of two"
    )


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_values_that_twelve_digits_do_not_tell_apart_are_refused(scale: str) -> None:
    key, said = refusal(shape(1, 1.0000000000001, 9, scale))
    assert key == "steps"
    assert said == "should be fewer: some values from 1.0 to 1.0000000000001 are equal in 12 digits"


def test_an_error_reads_as_a_line_and_survives_copies() -> None:
    error = RangeError("to", "required, and not given")
    for each in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(each), each.key) == ("to: required, and not given", "to")
    assert str(RangeError("", "runs backwards")) == "runs backwards"


# --- what is a range -----------------------------------------------------------------------


@pytest.mark.parametrize("value", [shape(1, 2, 3), {"from": 1}, {"to": None, "x": 1}])
def test_a_mapping_with_an_end_is_a_range(value: Any) -> None:
    assert is_range(value)


@pytest.mark.parametrize("value", [{}, {"steps": 3}, [1, 2], ["from", "to"], "from", None, 1])
def test_anything_else_is_not(value: Any) -> None:
    assert not is_range(value)


# --- properties ----------------------------------------------------------------------------

whole = st.integers(-(10**6), 10**6)
counts = st.integers(2, 200)
floats = st.floats(allow_nan=False, allow_infinity=False)


@UNHURRIED
@given(whole, whole, counts, st.sampled_from(["linear", "log"]))
def test_whole_ends_give_ascending_whole_values(a: int, b: int, steps: int, scale: str) -> None:
    low, high = sorted((a, b) if scale == "linear" else (abs(a) + 1, abs(b) + 1))
    found = values(shape(low, high, steps, scale))
    assert all(type(value) is int for value in found)
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (low, high)
    assert len(found) <= steps
    if scale == "linear" and high - low >= steps - 1:
        assert len(found) == steps


@UNHURRIED
@given(whole, st.integers(1, 10**6), counts)
def test_whole_linear_values_are_as_near_as_can_be(low: int, width: int, steps: int) -> None:
    found = values(shape(low, low + width, steps))
    exact = [low + width * i / (steps - 1) for i in range(steps)]
    assert all(min(abs(value - x) for value in found) <= 0.5 + 1e-6 for x in exact)


@UNHURRIED
@given(floats, floats, counts, st.sampled_from(["linear", "log"]))
def test_floats_give_as_many_ascending_floats_as_asked_for(
    a: float, b: float, steps: int, scale: str
) -> None:
    low, high = sorted((a, b) if scale == "linear" else (abs(a), abs(b)))
    assume(low < high and (scale == "linear" or low > 0))
    found = outcome(shape(low, high, steps, scale))
    if isinstance(found, RangeError):
        # Only what lies so near is refused that twelve digits may not tell it apart, or what is
        # so small that floats have fewer digits.
        assert found.key == "steps"
        largest = max(abs(low), abs(high))
        near = high / steps - low / steps <= 1e-11 * largest
        assert near or (low if scale == "log" else largest) < 1e-300
        return
    assert all(type(value) is float for value in found)
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (low, high)
    assert len(found) == steps


@UNHURRIED
@given(st.floats(1e-9, 1e9), st.floats(1.1, 1e9), counts)
def test_log_values_have_equal_ratios_to_eleven_digits(
    low: float, factor: float, steps: int
) -> None:
    found = values(shape(low, low * factor, steps, "log"))
    expected = factor ** (1 / (steps - 1))
    for before, after in itertools.pairwise(found):
        assert after / before == pytest.approx(expected, rel=1e-10)


@UNHURRIED
@given(st.integers(-1074, 1023), st.integers(0, 2100), st.integers(1, 300) | st.none())
def test_powers_of_two_are_exact_and_evenly_spaced(
    first: int, span: int, steps: int | None
) -> None:
    last = min(first + span, 1023)
    given = shape(2.0**first, 2.0**last, steps, "pow2")
    if last > first and steps is not None and (steps < 2 or (last - first) % (steps - 1)):
        assert refusal(given)[0] == "steps"
        return
    found = [math.frexp(value) for value in values(given)]
    exponents = [exponent - 1 for _, exponent in found]
    assert {mantissa for mantissa, _ in found} == {0.5}
    assert (exponents[0], exponents[-1]) == (first, last)
    assert len({after - before for before, after in itertools.pairwise(exponents)}) <= 1
    if last > first:
        assert len(exponents) == (last - first + 1 if steps is None else steps)


@UNHURRIED
@given(st.integers(0, 900), st.integers(0, 100))
def test_whole_powers_of_two_stay_whole(first: int, span: int) -> None:
    found = values(shape(2**first, 2 ** (first + span), None, "pow2"))
    assert repr(found) == repr([2**exponent for exponent in range(first, first + span + 1)])


numbers = st.integers() | st.floats() | st.integers(0, 40).map(lambda e: 2**e)
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
shapes = st.dictionaries(st.text(max_size=9), anything, max_size=3) | st.fixed_dictionaries(
    {"from": numbers | anything, "to": numbers | anything},
    optional={
        "steps": st.integers(-2, 300) | anything,
        "scale": st.sampled_from(["linear", "log", "pow2"]) | anything,
        "stpes": anything,
    },
)


@UNHURRIED
@given(shapes)
def test_any_shape_gives_values_or_says_what_is_wrong(given: dict[str, Any]) -> None:
    found = outcome(given)
    if isinstance(found, RangeError):
        assert found.key in {"from", "to", "steps", "scale", ""}
        assert 0 < len(found.text) < 300
    else:
        assert 1 <= len(found) <= MOST
        assert float(found[0]) == float(given["from"])
        assert float(found[-1]) == float(given["to"])
