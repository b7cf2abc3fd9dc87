"""Two versions on a simulated GPU that drifts: sessions are misled by it, base and head aren't.

Energies are those of the real meter, as in a session: an experiment of three cycles.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_llem.demands import Arm, Limit
from pytest_llem.results.gates import judge
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.references import Reference, of_outcomes
from pytest_llem.study.schedule import turn_of
from tests.builders import measurement, outcome
from tests.meters.windows import CALL, Bench, bench
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import H100

LIMIT = Limit(metric="energy_j", regression=0.05, where="s.study.yaml:7")
CYCLES = (1, 2, 3, 4)
WARMER = "pwl:0,400,120,640,600,640"
COOLER = "pwl:0,640,120,400,600,400"
"""Power under load in watts, in two minutes; a session takes half of one."""


def measured(on: Bench, cycle: int, arm: Arm, share: float) -> Outcome:
    """A measurement of two seconds, with as much again before it."""
    energy_j = on.window(2.0, pause_s=2.0, gate=share).reading.energy_j
    assert energy_j is not None
    return outcome(cycle=cycle, arm=arm, measurement=measurement(metrics={"energy_j": energy_j}))


def session(on: Bench, arm: Arm, share: float) -> list[Outcome]:
    """One version alone, for as long as base and head take."""
    return [measured(on, cycle, arm, share) for cycle in CYCLES for _ in range(2)][::2]


def beside(on: Bench, base: float, head: float) -> Iterator[tuple[Arm, Outcome]]:
    """Base and head in turns."""
    share: dict[Arm, float] = {"base": base, "head": head}
    for cycle in CYCLES:
        for arm in sorted(share, key=lambda arm: turn_of(cycle, arm)):
            yield arm, measured(on, cycle, arm, share[arm])


def verdict(
    head: list[Outcome], references: list[Reference], base: list[Outcome] | None = None
) -> str:
    (found,) = judge([LIMIT], head, references, base=base, allow_estimated=False, strict=False)
    assert found.comparison is not None
    return found.comparison.outcome


@pytest.mark.parametrize(
    ("wave", "share", "alone", "in_turns"),
    [
        pytest.param(WARMER, 0.8, "worse", "kept", id="nothing-changed-and-it-warms-up"),
        pytest.param(COOLER, 0.9, "kept", "worse", id="head-is-worse-and-it-cools-down"),
    ],
)
def test_drift_misleads_sessions_and_not_pairs(
    nvml_rig: NvmlRig, wave: str, share: float, alone: str, in_turns: str
) -> None:
    settings = {**CALL, "wave": wave, "origin": "epoch", "idle": 20}
    with bench(nvml_rig(H100, settings=settings)) as on:
        before = of_outcomes("before", session(on, "head", 0.8))
        assert before is not None
        assert verdict(session(on, "head", share), [before]) == alone
    with bench(nvml_rig(H100, settings=settings)) as on:
        arms: dict[Arm, list[Outcome]] = {"base": [], "head": []}
        for arm, found in beside(on, 0.8, share):
            arms[arm].append(found)
        assert verdict(arms["head"], [], arms["base"]) == in_turns
