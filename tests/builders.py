"""Small records for tests, each field overridable by name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pytest_llem.demands import Limit, RunnerSpec
from pytest_llem.experiment import Experiment, Prompts
from pytest_llem.extensions import Completion
from pytest_llem.metrics import METRICS
from pytest_llem.records import Figure, Measurement, Reading, RequestTiming, Verdict, Window
from pytest_llem.reports.collected import GateResult
from pytest_llem.results.outcome import Outcome
from pytest_llem.runners.detect import Detected
from pytest_llem.wire import to_dict

__all__ = [
    "DIGEST",
    "QUANTITIES",
    "UNHURRIED",
    "completion",
    "detected",
    "estimated",
    "experiment",
    "gate",
    "measurement",
    "outcome",
    "reading",
    "request",
    "timing",
    "unmeasured",
    "verdict",
    "window",
]

DIGEST = "d" * 64

QUANTITIES = st.just(0.0) | st.floats(1e-12, 1e9)
"""What may be measured: nothing, or so much that its smallest parts are floats with all digits."""

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For generated examples: a busy machine is no failure."""


def experiment(**fields: Any) -> Experiment:
    """An experiment of two short requests."""
    base = Experiment(id="a", model="org/m", prompts=Prompts(count=2, input_tokens=4))
    return dataclasses.replace(base, **fields)


def request(asked: Experiment) -> bytes:
    """The frame by which a host asks for the first cycle of an experiment."""
    fields = {"digest": DIGEST, "cycle": 1, "idle": None, "beside": []}
    fields |= {"pids": False, "keep": False, "worker": "fresh"}
    frame = {"frame": "request", "experiment": to_dict(asked), **fields}
    return json.dumps(frame).encode() + b"\n"


def reading(energy_j: float | None = 10.0, **fields: Any) -> Reading:
    """A counter's reading of the first processor."""
    base = Reading(domain="cpu:0", meter="test", method="counter", energy_j=energy_j)
    return dataclasses.replace(base, **fields)


def window(phase: str, duration_s: float, *readings: Reading) -> Window:
    """A phase that began at time 100."""
    return Window(phase=phase, start_s=100.0, duration_s=duration_s, readings=readings)


def timing(submitted_s: float, *token_s: float, **fields: Any) -> RequestTiming:
    """A request of four input tokens whose count of output tokens is that of its times."""
    base = RequestTiming(
        submitted_s=submitted_s, token_s=token_s, input_tokens=4, output_tokens=len(token_s)
    )
    return dataclasses.replace(base, **fields)


def completion(times: RequestTiming, token_ids: tuple[int, ...] | None = None) -> Completion:
    """A request that was answered with as many token ids as it has times."""
    ids = tuple(range(len(times.token_s))) if token_ids is None else token_ids
    return Completion(timing=times, token_ids=ids)


def detected(**fields: Any) -> Detected:
    """What is found on a host with neither Docker nor a GPU, but for the given fields."""
    base = Detected(
        cli=None,
        socket=None,
        accessible=False,
        remote=None,
        container=None,
        toolkit=None,
        cdi=None,
        gpu=None,
    )
    return dataclasses.replace(base, **fields)


def estimated(value: float) -> Figure:
    """A figure that nothing measured."""
    return Figure(value=value, uncertainty=0.0, quality="estimated", reason="modelled")


def unmeasured(reason: str) -> Figure:
    """A figure that is not there."""
    return Figure(value=None, quality="unmeasured", reason=reason)


def measurement(
    *, metrics: Mapping[str, float | Figure] | None = None, **fields: Any
) -> Measurement:
    """A measurement whose metrics are all 1, but for those given, carbon and cost, and steal."""
    given = {
        name: value if isinstance(value, Figure) else Figure(value=value)
        for name, value in (metrics or {}).items()
    }
    base = Measurement(
        experiment="a",
        digest=DIGEST,
        cycle=1,
        windows=(window("load", 1.0), window("measure", 2.0, reading())),
        metrics={name: Figure(value=1.0) for name in METRICS}
        | dict.fromkeys(("carbon_g", "cost"), unmeasured("not set"))
        | {"cpu_steal_share": Figure(value=0.0)}
        | given,
        tokens={"requests": 2, "input": 8, "output": 6},
        tokens_sha256="e" * 64,
        testbed={"device": "cpu", "cpus": 2},
        subject={"backend": "pytorch", "versions": {"torch": None}},
    )
    return dataclasses.replace(base, **fields)


def outcome(**fields: Any) -> Outcome:
    """A measured outcome; give ``measurement=None`` with a failure or a reason to skip."""
    base = Outcome(
        study="s",
        file="s.study.yaml",
        node="s.study.yaml::a::c1",
        experiment="a",
        digest=DIGEST,
        cycle=1,
        runner=RunnerSpec(mode="local"),
        finished="2026-01-02T03:04:05+00:00",
        measurement=measurement(),
    )
    return dataclasses.replace(base, **fields)


def verdict(judgement: str = "passed", **fields: Any) -> Verdict:
    """A verdict on the energy."""
    limit = Limit(metric="energy_j", most=5.0, where="s.study.yaml:7")
    base = Verdict(
        metric=limit.metric,
        outcome="passed",
        measured=1.0,
        limit="≤ 5.00 J",
        reason="1.00 J ≤ 5.00 J, -80.0 % (median of 1)",
        where=limit.where,
    )
    return dataclasses.replace(base, **({"outcome": judgement} | fields))


def gate(*verdicts: Verdict, **fields: Any) -> GateResult:
    """A gate of the experiment that :func:`outcome` measures."""
    base = GateResult(
        study="s",
        file="s.study.yaml",
        node="s.study.yaml::a::gate",
        experiment="a",
        cycles=1,
        verdicts=verdicts,
    )
    return dataclasses.replace(base, **fields)
