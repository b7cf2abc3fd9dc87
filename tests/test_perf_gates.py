"""The noise of our own sessions, and which models of noise the limits of the rule are for."""

from __future__ import annotations

import json
import random
from dataclasses import asdict

import pytest

from perf import gate_noise, gate_power
from perf.gate_power import Model

pytestmark = pytest.mark.once


def sessions(model: Model, count: int) -> list[dict[str, list[float]]]:
    """Speeds of two experiments whose times a model draws."""
    generator = random.Random(5)
    speeds = {"a": 100.0, "b": 3000.0}
    return [
        {
            name: [speed / slower for slower in model.session(generator, 3, 1.0)]
            for name, speed in speeds.items()
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    "model",
    [
        Model(within=0.01, between=0.03),
        Model(within=0.01, between=0.015, drift=-0.02),
        Model(within=0.01, between=0.02, slow_share=0.05, slow=0.25, drift=0.005),
    ],
)
def test_a_model_is_found_again_in_its_sessions(model: Model) -> None:
    found = gate_noise.fit(sessions(model, 800))
    assert found.within == pytest.approx(model.within, rel=0.15)
    # Two slow cycles of three are a slow session.
    assert found.between == pytest.approx(model.between, rel=0.3)
    assert found.drift == pytest.approx(model.drift, abs=0.001)
    assert found.slow_share == pytest.approx(model.slow_share, abs=0.01)
    if model.slow:
        assert found.slow == pytest.approx(model.slow, rel=0.2)


def test_the_model_that_is_kept_is_that_of_the_speeds_beside_it() -> None:
    kept = json.loads(gate_power.OWN.read_text())
    found = gate_noise.summed_up(kept)
    assert found["model"] == pytest.approx(kept["model"])
    assert found["rule"] == kept["rule"]
    assert asdict(gate_power.MODELS["own sessions"]) == kept["model"]


def test_each_session_is_tried_against_those_before_it() -> None:
    quiet = sessions(Model(within=0.001, between=0.001), 8)
    assert gate_noise.alarms(quiet, 5, 0.0) == (0, 6)
    assert gate_noise.alarms(quiet, 5, 0.10) == (6, 6)
    assert gate_noise.alarms(quiet[:5], 5, 0.10) == (0, 0)


def test_limits_are_for_noise_that_they_suppose() -> None:
    assert gate_power.beyond(gate_power.MODELS["reference"]) == ""
    assert gate_power.beyond(gate_power.MODELS["quiet"]) == ""
    # Warming up is the same in all sessions.
    assert gate_power.beyond(Model(within=0.01, between=0.01, drift=0.05)) == ""
    noisy = Model(within=0.03, between=0.05, slow_share=0.1, slow=0.3)
    assert gate_power.beyond(noisy) == (
        "cycles 3.0% > 1.5%, sessions 5.0% > 2.0%, slow cycles 3.0% > 0.8%"
    )
