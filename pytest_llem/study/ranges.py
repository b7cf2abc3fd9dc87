"""The range shape of a sweep: ``{from: 1, to: 64, steps: 7, scale: log}`` to its values.

All arithmetic is exact or decimal: a range gives the same values on every host, since they end up
in the names and digests of experiments.
"""

from __future__ import annotations

import decimal
import itertools
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeGuard

from pytest_llem.study.schema import nearest

__all__ = ["RangeError", "is_range", "values"]

_Number = int | float
_KEYS = ("from", "to", "steps", "scale")
_SCALES = ("linear", "log", "pow2")
_MAX_VALUES = 10_000
_DIGITS = 12


class RangeError(ValueError):
    """A range that gives no values.

    Attributes:
        key: the key that is wrong: ``from``, ``to``, ``steps`` or ``scale``; empty when it is the
            range as a whole.
        text: what is wrong, and what would be right.
    """

    def __init__(self, key: str, text: str) -> None:
        """Say what is wrong with a key."""
        super().__init__(key, text)
        self.key = key
        self.text = text

    def __str__(self) -> str:
        """The key, when there is one, and what is wrong."""
        return f"{self.key}: {self.text}" if self.key else self.text


def is_range(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value of a sweep is meant as a range: a mapping with a ``from`` or a ``to``."""
    return isinstance(value, Mapping) and ("from" in value or "to" in value)


def values(shape: Mapping[str, Any]) -> list[int | float]:
    """The values of a range, ascending, from ``from`` to ``to`` itself.

    They are whole numbers when both ends are: rounded, a half upwards, and each once. Otherwise
    they are floats, of 12 significant digits between the ends, but exact for ``pow2``.

    Args:
        shape: ``from`` and ``to``; ``scale``, which is ``linear`` (the default: equal
            differences), ``log`` (equal ratios) or ``pow2`` (powers of two); ``steps``, the
            number of values, both ends included. Without ``steps``, ``pow2`` gives every power of
            two between the ends. A key that is null counts as not given.

    Raises:
        RangeError: for the first thing that is wrong.
    """
    for key in shape:
        if key not in _KEYS:
            text = f"unknown field {key!s:.60}; {nearest(str(key), _KEYS)}"
            raise RangeError("", text)
    scale = _scale(shape)
    low, high = _number(shape, "from"), _number(shape, "to")
    if not (isinstance(low, int) and isinstance(high, int)):
        low, high = float(low), float(high)
    _refuse_odd_ends(low, high, scale)
    steps = _steps(shape, scale, low, high)
    if low == high:
        return [low]
    if scale == "pow2":
        return _powers(low, high, steps)
    between = _linear if scale == "linear" else _log
    return _rounded(low, between(low, high, steps), high)


# --- what stands under the keys ------------------------------------------------------------


def _shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    try:
        return f"{value!r:.60}"
    except ValueError:  # Python writes no whole number of more than 4,300 digits.
        return "one of thousands of digits"


def _scale(shape: Mapping[str, Any]) -> str:
    scale = shape.get("scale")
    if scale is None:
        return _SCALES[0]
    if scale not in _SCALES:
        raise RangeError("scale", f"should be linear, log or pow2, not {_shown(scale)}")
    return str(scale)


def _number(shape: Mapping[str, Any], key: str) -> _Number:
    value = shape.get(key)
    if value is None:
        raise RangeError(key, "required, and not given")
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise RangeError(key, f"should be a number, not {_shown(value)}")
    try:
        finite = math.isfinite(value)
    except OverflowError:
        raise RangeError(key, f"should have at most 308 digits, not {_shown(value)}") from None
    if not finite:
        raise RangeError(key, f"should be a finite number, not {_shown(value)}")
    return value


def _refuse_odd_ends(low: _Number, high: _Number, scale: str) -> None:
    for key, value in (("from", low), ("to", high)):
        if scale != "linear" and value <= 0:
            raise RangeError(key, f"should be above 0 with scale {scale}, not {_shown(value)}")
        if scale == "pow2" and not _is_power(value):
            # Whole numbers where they can be: 2.0**1024 is more than a float holds.
            below = math.frexp(value)[1] - 1
            near = " or ".join(_shown(2**e if e >= 0 else 2.0**e) for e in (below, below + 1))
            text = f"should be a power of two with scale pow2, such as {near}, not {_shown(value)}"
            raise RangeError(key, text)
    if low > high:
        text = f"runs backwards: from {_shown(low)} to {_shown(high)}; swap them"
        raise RangeError("", text)


def _steps(shape: Mapping[str, Any], scale: str, low: _Number, high: _Number) -> int:
    """The number of values that is asked for."""
    steps = shape.get("steps")
    if steps is None and scale == "pow2":
        return _exponent(high) - _exponent(low) + 1
    if steps is None:
        raise RangeError("steps", f"required with scale {scale}, and not given")
    if not isinstance(steps, int) or isinstance(steps, bool):
        raise RangeError("steps", f"should be a whole number, not {_shown(steps)}")
    least = 1 if low == high else 2
    if not least <= steps <= _MAX_VALUES:
        bounds = f"at least {least}" if steps < least else f"at most {_MAX_VALUES}"
        raise RangeError("steps", f"should be {bounds}, not {_shown(steps)}")
    return steps


# --- the values ----------------------------------------------------------------------------


def _is_power(value: _Number) -> bool:
    """Whether a positive number is a power of two."""
    return all(part & (part - 1) == 0 for part in value.as_integer_ratio())


def _exponent(value: _Number) -> int:
    """Of a power of two."""
    top, bottom = value.as_integer_ratio()
    return top.bit_length() - bottom.bit_length()


def _powers(low: _Number, high: _Number, steps: int) -> list[_Number]:
    """Powers of two whose exponents are evenly spaced."""
    first, last = _exponent(low), _exponent(high)
    span = last - first
    if span % (steps - 1):
        *others, most = (str(n + 1) for n in range(1, span + 1) if span % n == 0)
        choice = f"{', '.join(others)} or {most}" if others else most
        ends = f"{_shown(low)} to {_shown(high)}"
        text = f"should be {choice}, not {steps}: no other number divides {ends} into powers of two"
        raise RangeError("steps", text)
    exponents = range(first, last + 1, span // (steps - 1))
    return [1 << e if isinstance(low, int) else math.ldexp(1.0, e) for e in exponents]


def _linear(low: _Number, high: _Number, steps: int) -> list[Fraction]:
    """The exact values between the ends."""
    start = Fraction(low)
    width = Fraction(high) - start
    return [start + width * i / (steps - 1) for i in range(1, steps - 1)]


def _log(low: _Number, high: _Number, steps: int) -> list[Fraction]:
    """The values between the ends, to more digits than any of them keeps."""
    digits = len(str(high)) if isinstance(high, int) else _DIGITS
    with decimal.localcontext(decimal.Context(prec=digits + 20)):
        start = Decimal(low)
        ratio = ((Decimal(high).ln() - start.ln()) / (steps - 1)).exp()
        return [Fraction(start * ratio**i) for i in range(1, steps - 1)]


def _rounded(low: _Number, between: Sequence[Fraction], high: _Number) -> list[_Number]:
    if isinstance(low, int):
        whole = [math.floor(value + Fraction(1, 2)) for value in between]
        return list(dict.fromkeys([low, *whole, high]))
    floats = [low, *(float(f"{float(value):.{_DIGITS}g}") for value in between), high]
    if any(after <= before for before, after in itertools.pairwise(floats)):
        ends = f"{low!r} to {high!r}"
        text = f"should be fewer: some values from {ends} are equal in {_DIGITS} digits"
        raise RangeError("steps", text)
    return floats
