"""Rules of values: what the host's validation takes for each, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import TypeAdapter, ValidationError

from pytest_llem.experiment import Decoding
from pytest_llem.rules import (
    FORBID_UNKNOWN,
    Count,
    EnvText,
    Factor,
    Fraction,
    Name,
    Rule,
    Seconds,
    SecondsOrZero,
    Seed,
    Text,
    described,
)

NAN = float("nan")
NO_NUMBERS = [True, False, "1", "", None, [], {}, NAN, math.inf, -math.inf]


def takes(rule: Any, value: Any) -> bool:
    try:
        TypeAdapter(rule).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        (Count, [1, 2, 10**30]),
        (Seed, [0, 1, 2**64]),
        (Seconds, [1, 0.5, 1e-9, 1e9]),
        (SecondsOrZero, [0, 0.0, 1, 0.5]),
        (Factor, [1, 0.5, 1e-9, 1000.0]),
        (Fraction, [0.02, 0.999, 1e-9]),
        (Text, ["a", "a b", "é", "1"]),
        (Name, ["A", "_", "a1", "OMP_NUM_THREADS"]),
        (EnvText, ["", "a", "a b=c", "é\n", 0, 4, -1, 1.5]),
    ],
)
def test_a_value_that_keeps_to_the_rule_is_taken(rule: Any, values: list[Any]) -> None:
    assert [value for value in values if not takes(rule, value)] == []


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        (Count, [0, -1, 1.0, 1.5, *NO_NUMBERS]),
        (Seed, [-1, 1.0, *NO_NUMBERS]),
        (Seconds, [0, 0.0, -1, -0.5, *NO_NUMBERS]),
        (SecondsOrZero, [-1, -1e-9, *NO_NUMBERS]),
        (Factor, [0, 0.0, -1, *NO_NUMBERS]),
        (Fraction, [0, 0.0, 1, 1.0, 2, -0.5, "2%", *NO_NUMBERS]),
        (Text, ["", 1, 1.5, True, None, [], b"a"]),
        (Name, ["", "1", "1a", "a b", "a-b", "a.b", "A=", "A\n", "é", 1, None]),
        # on, off, yes and no are booleans in YAML: nobody can tell which text was meant.
        (EnvText, [True, False, None, [], {}, ["a"]]),
    ],
)
def test_a_value_that_breaks_the_rule_is_refused(rule: Any, values: list[Any]) -> None:
    assert [value for value in values if takes(rule, value)] == []


def test_a_variable_that_no_process_can_be_given_is_refused() -> None:
    with pytest.raises(ValueError, match="null byte"):
        subprocess.run([sys.executable, "-c", ""], env={"A": "a\0b"}, check=False)
    assert not takes(EnvText, "a\0b")


@pytest.mark.parametrize(
    ("value", "text"), [(4, "4"), (-1, "-1"), (1.5, "1.5"), ("007", "007"), ("", "")]
)
def test_a_number_for_a_variable_becomes_its_text(value: Any, text: str) -> None:
    assert TypeAdapter(EnvText).validate_python(value) == text


@pytest.mark.parametrize("rule", [Seconds, SecondsOrZero, Factor])
def test_a_whole_number_of_a_measure_becomes_a_float(rule: Any) -> None:
    value = TypeAdapter(rule).validate_python(3)
    assert (value, type(value)) == (3.0, float)


@pytest.mark.parametrize(
    ("name", "taken", "refused"),
    [
        ("temperature", [0, 0.1, 1, 2.0], [-0.1, -1.0, NAN, math.inf, "1", True]),
        ("top_k", [1, 50], [0, -1, 1.5, "1", True]),
        ("top_p", [0.001, 1, 1.0], [0, 1.001, -0.5, NAN, math.inf, "1", True]),
        ("min_p", [0, 0.5, 1], [-0.001, 1.001, NAN, math.inf, "0", False]),
        ("repetition_penalty", [0.9, 1, 1.2], [0, -1.0, NAN, math.inf, "1", True]),
    ],
)
def test_a_field_of_decoding_has_its_bounds(
    name: str, taken: list[Any], refused: list[Any]
) -> None:
    assert [value for value in [*taken, None] if not takes(Decoding, {name: value})] == []
    assert [value for value in refused if takes(Decoding, {name: value})] == []


@dataclasses.dataclass(frozen=True)
class Closed:
    """A record as those of studies are made."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    n: Annotated[int, Rule(ge=2, le=4, strict=True)] = described(3, "how many")


def test_rules_add_to_the_types_own_and_hold_together() -> None:
    assert [value for value in range(7) if takes(Closed, {"n": value})] == [2, 3, 4]
    assert not takes(Closed, {"n": 3.0})


def test_a_key_that_is_no_field_is_refused() -> None:
    assert not takes(Closed, {"n": 3, "m": 3})


def test_a_described_field_has_its_default_and_its_help() -> None:
    (field,) = dataclasses.fields(Closed)
    assert Closed().n == 3
    assert field.metadata == {"description": "how many"}


def test_rules_bind_nobody_without_pydantic() -> None:
    program = (
        "import sys; from pytest_llem.experiment import Prompts;"
        " print(Prompts(count=-1).count, 'pydantic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["-1", "False"]
