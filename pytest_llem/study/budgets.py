"""Budgets for comparisons, as people write them outside of studies: ``METRIC:PERCENT``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pytest_llem.errors import LlemError
from pytest_llem.metrics import METRICS
from pytest_llem.study.schema import nearest

__all__ = ["parse"]

_BUDGET = re.compile(r"\s*([\w.]+)\s*:\s*(\d+(?:\.\d+)?|\.\d+)\s*%?\s*")


def parse(texts: Iterable[str], source: str) -> dict[str, float]:
    """How much worse metrics may be: 0.05 for ``5%`` and ``5``; of a metric the last one counts.

    Raises:
        LlemError: for what is no metric or no percentage, naming source and text.
    """
    found = {}
    for text in texts:
        match = _BUDGET.fullmatch(text)
        if match is None:
            raise LlemError(
                f"{source}: {text!r} isn't METRIC:PERCENT, for example output_tokens_per_s:5%"
            )
        if match[1] not in METRICS:
            raise LlemError(f"{source}: unknown metric {match[1]!r}; {nearest(match[1], METRICS)}")
        found[match[1]] = float(match[2]) / 100
    return found
