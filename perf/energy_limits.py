"""Windows summed up, and judged by the limits of the specification. Part of energy_accuracy.py."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from perf.energy_cases import Case

__all__ = ["judge", "judge_faults", "summary"]

ERRORS: Mapping[str, Mapping[float, float]] = {
    "counter": {0.1: 0.01, 0.5: 0.003, 1.0: 0.002, 5.0: 0.0005},
    "tail": {0.1: 0.10, 0.5: 0.025, 1.0: 0.01, 5.0: 0.003},
    "power": {0.1: 0.02, 1.0: 0.005},
    "sensor": {},
}
"""Mean relative error, by length of window in seconds; longer ones keep the limit before them."""

TO_IDLE = 0.005
TO_IDLE_FROM_S = 0.5
TAIL_MS = 180
COVERAGE = 0.93
HALF_WIDTH = 3.0
EDGE_TICKS = 6.0
UNMEASURED = 0.01
FLAGGED_S = 0.1
"""A window no longer than this that a tail follows says that it is short."""

_CHANCE = 0.01
_95 = 1.96

Row = Mapping[str, Any]
Check = dict[str, Any]


# --- sums ------------------------------------------------------------------------------------


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _error(row: Row) -> float:
    return float((row["energy_j"] - row["true_j"]) / row["true_j"])


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Windows of one kind in figures. Ratios are to the true energy; null where there is none.

    Returns:
        ``n``, ``mean_error`` (of absolute values), ``bias``, ``max_error``; ``coverage``: share of
        windows whose 95 % interval holds the truth; ``half_width``: its median, and as a multiple
        of the mean error; ``unmeasured``, ``flagged`` (neither that nor ``ok``): shares; ``calls``,
        ``calls_inside``, ``cpu_s``, ``edge_s``, ``edge_ticks``: means; ``idle_error``: of the
        energy above idle until the device was there; ``idle_measured``: share with such a figure.
    """
    measured = [row for row in rows if row["energy_j"] is not None]
    errors = [_error(row) for row in measured]
    mean = _mean(abs(error) for error in errors)
    stated = [row for row in measured if row["spread_j"] is not None]
    widths = [_95 * row["spread_j"] / row["true_j"] for row in stated]
    held = sum(abs(_error(row)) <= width for row, width in zip(stated, widths, strict=True))
    width = statistics.median(widths) if widths else None
    idle = [row for row in measured if row.get("true_above_j") and row["above_j"] is not None]
    return {
        "n": len(rows),
        "mean_error": mean,
        "bias": _mean(errors),
        "max_error": max(map(abs, errors), default=None),
        "stated": len(stated),
        "held": held,
        "coverage": held / len(stated) if stated else None,
        "half_width": width,
        "half_width_ratio": width / mean if width is not None and mean else None,
        "unmeasured": 1 - len(measured) / len(rows),
        "flagged": _mean(float(row["quality"] in ("short", "degraded")) for row in measured),
        "idle_error": _mean(
            abs(row["above_j"] - row["true_above_j"]) / abs(row["true_above_j"]) for row in idle
        ),
        "idle_measured": len(idle) / len(rows),
        **{
            key: _mean(row.get(key) for row in rows)
            for key in ("calls", "calls_inside", "cpu_s", "edge_s", "edge_ticks")
        },
        "max_edge_ticks": max((row.get("edge_ticks", 0.0) for row in rows), default=None),
        "reasons": sorted({row["reason"] for row in rows if row["energy_j"] is None}),
    }


# --- limits ----------------------------------------------------------------------------------


def _limit(limits: Mapping[float, float], window_s: float) -> float | None:
    """That of the longest window which is no longer."""
    known = [length for length in limits if length <= window_s]
    return limits[max(known)] if known else None


def _check(
    name: str, value: float | None, limit: float, unit: str, *, least: bool = False
) -> Check:
    kept = None
    if value is not None:
        kept = value >= limit if least else value <= limit
    return {"name": name, "value": value, "limit": limit, "unit": unit, "passed": kept}


def _by_chance(held: int, stated: int) -> bool:
    """Whether so few may be all, though the interval holds as often as it must."""
    tail = sum(
        math.exp(
            math.lgamma(stated + 1)
            - math.lgamma(k + 1)
            - math.lgamma(stated - k + 1)
            + k * math.log(COVERAGE)
            + (stated - k) * math.log(1 - COVERAGE)
        )
        for k in range(held + 1)
    )
    return tail > _CHANCE


def _coverage(name: str, found: Row, *, strict: bool) -> Check:
    check = _check(f"{name}: in the 95 % interval", found["coverage"], COVERAGE, "%", least=True)
    if check["passed"] is False and not strict and _by_chance(found["held"], found["stated"]):
        check |= {"passed": True, "note": f"{found['stated']} windows: within chance"}
    return check


def _each_length(case: Case, name: str, window_s: float, found: Row, *, quick: bool) -> list[Check]:
    """What is judged for every length of window."""
    checks = []
    limit = _limit(ERRORS[case.limits], window_s)
    if limit is not None and case.tail_ms <= TAIL_MS:
        checks.append(_check(f"{name}: mean error", found["mean_error"], limit, "%"))
    checks.append(_coverage(name, found, strict=False))
    # The mean of few errors is itself uncertain: by 0.76 / √n of itself, were they normal.
    slack = 1 + 2 * 0.76 / math.sqrt(max(found["stated"], 1)) if quick else 1.0
    limit = HALF_WIDTH * slack
    checks.append(_check(f"{name}: half-width / error", found["half_width_ratio"], limit, "×"))
    if case.limits == "tail" and case.period_s >= FLAGGED_S and window_s <= FLAGGED_S:
        checks.append(_check(f"{name}: flagged short", found["flagged"], 1.0, "%", least=True))
    if case.limits == "tail" and case.tail_ms <= TAIL_MS and window_s >= TO_IDLE_FROM_S:
        checks.append(_check(f"{name}: error to idle", found["idle_error"], TO_IDLE, "%"))
    return checks


def judge(
    rows: Sequence[Row], cases: Mapping[tuple[str, str], Case], *, quick: bool, edges: bool
) -> list[Check]:
    """The limits that our meter has to keep, group by group.

    Args:
        rows: windows of ours.
        cases: by board and name.
        quick: few windows: shares and ratios may miss by what chance can do.
        edges: whether edge times are those of a host that isn't kept from its work.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(cases[row["board"], row["case"]].group, []).append(row)
    checks: list[Check] = []
    for group, members in groups.items():
        case = cases[members[0]["board"], members[0]["case"]]
        whole = summary(members)
        if whole["unmeasured"] == 1 and case.limits == "power":
            reason = "; ".join(whole["reasons"])
            checks.append(_check(group, None, 0, "") | {"note": reason})
            continue
        for window_s in sorted({row["window_s"] for row in members}):
            found = summary([row for row in members if row["window_s"] == window_s])
            checks += _each_length(case, f"{group}, {window_s:g} s", window_s, found, quick=quick)
        checks.append(_coverage(f"{group}, all", whole, strict=not quick))
        checks.append(_check(f"{group}, all: unmeasured", whole["unmeasured"], UNMEASURED, "%"))
        if case.limits != "power":
            inside = whole["calls_inside"]
            checks.append(_check(f"{group}, all: calls in the window", inside, 0, ""))
        if edges:
            longest = whole["max_edge_ticks"]
            checks.append(_check(f"{group}, all: longest edges", longest, EDGE_TICKS, " ticks"))
    return checks


# --- faults ----------------------------------------------------------------------------------


def _is_zero(row: Row) -> bool:
    return row["energy_j"] == 0


def _is_negative(row: Row) -> bool:
    return row["energy_j"] is not None and row["energy_j"] < 0


def _is_mute(row: Row) -> bool:
    return row["energy_j"] is None and not row["reason"]


def _is_wrong(row: Row) -> bool:
    """Off by more than three times its interval and by more than 1 %."""
    if row["energy_j"] is None:
        return False
    off_j = abs(row["energy_j"] - row["true_j"])
    return bool(off_j > 3 * _95 * (row["spread_j"] or 0) and off_j > 0.01 * row["true_j"])


_WITHOUT_COUNTER = ("function missing", "no permission", "not supported")


def _is_misnamed(row: Row) -> bool:
    """By a counter that can't be read."""
    return (
        row["case"] in _WITHOUT_COUNTER
        and row["energy_j"] is not None
        and row["method"] == "counter"
    )


_WRONGS: Mapping[str, Callable[[Row], bool]] = {
    "0 J": _is_zero,
    "negative": _is_negative,
    "neither energy nor reason": _is_mute,
    "wrong beyond its uncertainty": _is_wrong,
    "under another method's name": _is_misnamed,
}


def judge_faults(rows: Sequence[Row]) -> list[Check]:
    """What must never be said of a board, whatever is wrong with it."""
    return [
        _check(f"faults: windows {name}", float(sum(map(wrong, rows))), 0, "")
        for name, wrong in _WRONGS.items()
    ]
