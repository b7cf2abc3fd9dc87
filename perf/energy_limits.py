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
FLAGGED = 0.99
FLAGGED_S = 0.1
"""A window of this length that a tail follows says that it is short; some last nearly twice that
long and are well told."""

_CHANCE = 0.001
_FEW = 30
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
        windows whose 95 % interval holds the truth; ``half_width``: its median; ``_ratio``: as a
        multiple of the mean error; ``_ratio_j``: the same of joules, for windows of different
        lengths; ``unmeasured``, ``flagged`` (neither that nor ``ok``), ``degraded``: shares;
        ``calls``, ``calls_inside``, ``cpu_s``, ``edge_s``, ``edge_ticks``: means; ``idle_error``:
        of the energy above idle until the device was there; ``idle_measured``: share with it.
    """
    measured = [row for row in rows if row["energy_j"] is not None]
    errors = [_error(row) for row in measured]
    mean = _mean(abs(error) for error in errors)
    stated = [row for row in measured if row["spread_j"] is not None]
    widths = [_95 * row["spread_j"] / row["true_j"] for row in stated]
    held = sum(abs(_error(row)) <= width for row, width in zip(stated, widths, strict=True))
    width = statistics.median(widths) if widths else None
    widths_j = [_95 * row["spread_j"] for row in stated]
    mean_j = _mean(abs(row["energy_j"] - row["true_j"]) for row in stated)
    ticks = sorted(row["edge_ticks"] for row in rows if "edge_ticks" in row)
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
        "half_width_ratio_j": statistics.median(widths_j) / mean_j if mean_j else None,
        "unmeasured": 1 - len(measured) / len(rows),
        "flagged": _mean(float(row["quality"] in ("short", "degraded")) for row in measured),
        "degraded": _mean(float(row["quality"] == "degraded") for row in measured),
        "idle_error": _mean(
            abs(row["above_j"] - row["true_above_j"]) / abs(row["true_above_j"]) for row in idle
        ),
        "idle_measured": len(idle) / len(rows),
        **{
            key: _mean(row.get(key) for row in rows)
            for key in ("calls", "calls_inside", "cpu_s", "edge_s", "edge_ticks")
        },
        "p95_edge_ticks": ticks[math.ceil(0.95 * len(ticks)) - 1] if ticks else None,
        "max_edge_ticks": ticks[-1] if ticks else None,
        "reasons": sorted({row["reason"] for row in rows if row["energy_j"] is None}),
    }


# --- limits ----------------------------------------------------------------------------------


def _limit(limits: Mapping[float, float], window_s: float) -> float | None:
    """That of the longest window which is no longer."""
    known = [length for length in limits if length <= window_s]
    return limits[max(known)] if known else None


def _check(
    group: str,
    what: str,
    value: float | None,
    limit: float,
    unit: str = "",
    *,
    window_s: float | None = None,
    least: bool = False,
) -> Check:
    """A limit, and whether it is kept; null where nothing was measured."""
    kept = None
    if value is not None:
        kept = value >= limit if least else value <= limit
    return {
        "group": group,
        "what": what,
        "window_s": window_s,
        "value": value,
        "limit": limit,
        "least": least,
        "unit": unit,
        "passed": kept,
        "note": "",
    }


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


def _interval(
    group: str, found: Row, window_s: float | None, *, strict: bool, widths: bool = True
) -> list[Check]:
    """How often the 95 % interval holds, and how wide it is.

    Args:
        group: which is judged.
        found: its summary.
        window_s: length of the windows, None for all together. A few of one length don't tell of
            widths.
        strict: otherwise both may miss by what chance can do with so many windows.
        widths: whether to judge how wide it is.
    """
    share = found["coverage"]
    held = _check(
        group, "in the 95 % interval", share, COVERAGE, "%", window_s=window_s, least=True
    )
    if held["passed"] is False and not strict and _by_chance(found["held"], found["stated"]):
        held |= {"passed": True, "note": "chance"}
    if not widths or (window_s and found["stated"] < _FEW):
        return [held]
    # Were errors normal, the mean of n would itself be uncertain by 0.76 / √n.
    slack = 1.0 if strict else 1 + 3 * 0.76 / math.sqrt(max(found["stated"], 1))
    ratio = found["half_width_ratio"] if window_s else found["half_width_ratio_j"]
    wide = _check(group, "half-width / error", ratio, HALF_WIDTH, "×", window_s=window_s)
    if wide["passed"] is False and ratio <= HALF_WIDTH * slack:
        wide |= {"passed": True, "note": "chance"}
    return [held, wide]


def _widths(case: Case) -> bool:
    """Whether widths are judged: a fast counter sees a tail well, and they are mostly caution."""
    return case.limits != "tail" or case.period_s >= FLAGGED_S


def _each_length(case: Case, window_s: float, found: Row) -> list[Check]:
    """What is judged for every length of window."""
    checks = []
    group, short_tail = case.group, case.tail_ms <= TAIL_MS
    limit = _limit(ERRORS[case.limits], window_s)
    if limit is not None and short_tail:
        mean = found["mean_error"]
        checks.append(_check(group, "mean error", mean, limit, "%", window_s=window_s))
    # How much a sensor leaves unseen is a matter of wave and length: judged for all together.
    widths = _widths(case) and case.limits != "sensor"
    checks += _interval(group, found, window_s, strict=False, widths=widths)
    if case.limits == "tail" and case.period_s >= FLAGGED_S:
        if window_s <= FLAGGED_S:
            share = found["flagged"]
            checks.append(
                _check(group, "flagged", share, FLAGGED, "%", window_s=window_s, least=True)
            )
        if short_tail and window_s >= TO_IDLE_FROM_S:
            error = found["idle_error"]
            checks.append(_check(group, "error to idle", error, TO_IDLE, "%", window_s=window_s))
    return checks


def judge(
    rows: Sequence[Row], cases: Mapping[tuple[str, str], Case], *, quick: bool, edges: bool
) -> list[Check]:
    """The limits that our meter has to keep, group by group.

    Args:
        rows: windows of ours.
        cases: by board and name.
        quick: few windows: chance is allowed for in all.
        edges: whether edge times are those of a host that isn't kept from its work.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(cases[row["board"], row["case"]].group, []).append(row)
    checks: list[Check] = []
    for group, members in groups.items():
        case = cases[members[0]["board"], members[0]["case"]]
        for window_s in sorted({row["window_s"] for row in members}):
            found = summary([row for row in members if row["window_s"] == window_s])
            checks += _each_length(case, window_s, found)
        whole = summary(members)
        checks += _interval(group, whole, None, strict=not quick, widths=_widths(case))
        checks.append(_check(group, "unmeasured", whole["unmeasured"], UNMEASURED, "%"))
        if case.limits == "power":
            # Another process reads, and there are no ticks of a counter.
            continue
        checks.append(_check(group, "calls in the window", whole["calls_inside"], 0))
        if edges:
            ticks = whole["p95_edge_ticks"]
            checks.append(_check(group, "edges of 95 % of windows", ticks, EDGE_TICKS, " ticks"))
    return checks


# --- faults ----------------------------------------------------------------------------------


def _is_zero(row: Row) -> bool:
    return bool(row["energy_j"] == 0)


def _is_negative(row: Row) -> bool:
    return bool(row["energy_j"] is not None and row["energy_j"] < 0)


def _is_mute(row: Row) -> bool:
    return bool(row["energy_j"] is None and not row["reason"])


def _is_wrong(row: Row) -> bool:
    """Off by more than three times its interval and by more than 1 %."""
    if row["energy_j"] is None:
        return False
    off_j = abs(row["energy_j"] - row["true_j"])
    spread_j: float = row["spread_j"] or 0.0
    return bool(off_j > 3 * _95 * spread_j and off_j > 0.01 * row["true_j"])


_WITHOUT_COUNTER = ("function missing", "no permission", "not supported")


def _is_misnamed(row: Row) -> bool:
    """By a counter that can't be read."""
    named = row["energy_j"] is not None and row["method"] == "counter"
    return bool(named and row["case"] in _WITHOUT_COUNTER)


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
        _check("faults", f"windows {name}", float(sum(map(wrong, rows))), 0)
        for name, wrong in _WRONGS.items()
    ]
