"""What is seen of some GPUs around a window, and how far an energy made of it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_llem.meters.edges import Attributed, Evidence
from pytest_llem.meters.gpu_board import Board
from pytest_llem.meters.ticks import Look, Tick
from pytest_llem.records import Quality

__all__ = ["SHORT", "End", "Loose", "Start", "judged", "watch_sensor"]

SHORT = 0.01
"""Relative uncertainty above which a window is short for its meter."""

_FEW = 2.5


@dataclass
class Start:
    """What a window began with.

    Attributes:
        before: of each domain, the ticks up to the start.
        looks: of each domain, the last read.
    """

    exact: bool
    before: dict[str, list[Tick]] = field(default_factory=dict)
    looks: dict[str, Look] = field(default_factory=dict)


@dataclass
class End:
    """What was seen behind a window.

    Attributes:
        looks: of each domain, the first read.
        instants_w: of each domain, the sensor right behind each tick.
        by_power: of each domain that has no counter, its energy, or why it can't be told.
        lasts: of each domain, the tick that the window ended at; empty where it didn't at any.
    """

    looks: dict[str, Look] = field(default_factory=dict)
    instants_w: dict[str, list[float]] = field(default_factory=dict)
    by_power: dict[str, Attributed | str] = field(default_factory=dict)
    lasts: dict[str, Tick] = field(default_factory=dict)


@dataclass
class Loose:
    """A window that wasn't aligned: ticks behind it still tell what kind of counter it is."""

    start: Look
    end: Look
    start_s: float
    end_s: float


def watch_sensor(board: Board, behind: list[Tick], instants_w: dict[str, list[float]]) -> None:
    """Read the sensor where another tick has just come."""
    told = instants_w.setdefault(board.domain, [])
    if len(told) == len(behind) - 1 and (instant_w := board.instant_w()) is not None:
        told.append(instant_w)


def judged(found: Attributed, evidence: Evidence, doubt: str) -> tuple[Quality, str | None]:
    """How far an energy can be trusted, and why not further."""
    relative = found.uncertainty_j / found.energy_j
    duration_s, period_s = evidence.end_s - evidence.start_s, evidence.period_s
    if doubt:
        return "degraded", f"±{relative:.1%}: {doubt}; longer windows help"
    # With a tail, a window of a period or two has no time of its own that a tick could tell of.
    few = found.tail_j > 0 and duration_s < _FEW * period_s
    if relative <= SHORT and not few:
        return "ok", None
    why = "the load that decays behind it" if found.tail_j > 0 else "what was seen of its edges"
    return "short", (
        f"±{relative:.1%}: a window of {duration_s:.3g} s is short for {why}, with a counter"
        f" renewed every {period_s * 1e3:.3g} ms"
    )
