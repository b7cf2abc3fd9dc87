"""What the values of a study's fields must keep to, said in their types.

A rule is written in the keywords of pydantic's core schemas: the host validates by it, and the
worker, which has no pydantic, reads the same classes.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any

__all__ = [
    "FORBID_UNKNOWN",
    "Count",
    "EnvText",
    "Factor",
    "FactorOrZero",
    "Flag",
    "Fraction",
    "Name",
    "Rule",
    "Seconds",
    "SecondsOrZero",
    "Seed",
    "Text",
    "TraceHz",
    "described",
]

FORBID_UNKNOWN = {"extra": "forbid"}
"""For ``__pydantic_config__``: pydantic takes unknown keys of a dataclass otherwise."""


class Rule:
    """A rule of a value, in the words of pydantic's schemas; needs no pydantic itself."""

    __slots__ = ("_rules",)

    def __init__(self, **rules: Any) -> None:
        """Take keywords of the value's core schema: ``ge``, ``strict``, ``min_length``."""
        self._rules = rules

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """The type's own schema with the rules added."""
        return {**handler(source), **self._rules}


Count = Annotated[int, Rule(ge=1, strict=True)]
Seed = Annotated[int, Rule(ge=0, strict=True)]
Seconds = Annotated[float, Rule(gt=0, allow_inf_nan=False, strict=True)]
SecondsOrZero = Annotated[float, Rule(ge=0, allow_inf_nan=False, strict=True)]
FactorOrZero = Annotated[float, Rule(ge=0, allow_inf_nan=False, strict=True)]
Factor = Annotated[float, Rule(gt=0, allow_inf_nan=False, strict=True)]
Fraction = Annotated[float, Rule(gt=0, lt=1, allow_inf_nan=False, strict=True)]
# Sensors of GPUs aren't renewed more often than some hundred times a second.
TraceHz = Annotated[float, Rule(gt=0, le=100, allow_inf_nan=False, strict=True)]
Text = Annotated[str, Rule(min_length=1, strict=True)]
Name = Annotated[str, Rule(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", strict=True)]
# What isn't a boolean is a slip: "no" in quotes is text, and 0 a number.
Flag = Annotated[bool, Rule(strict=True)]
# YAML's numbers are what people mean by OMP_NUM_THREADS: 4. Its booleans are not: on or True?
EnvText = Annotated[str, Rule(coerce_numbers_to_str=True, pattern=r"^[^\x00]*$")]


def described(default: Any, description: str) -> Any:
    """A dataclass field with a default and a line of help."""
    return field(default=default, metadata={"description": description})
