"""A measurement, made with an engine and a meter that only pretend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_llem.experiment import Experiment, Prompts, Slo, Uniform, Warmup
from pytest_llem.extensions import Abilities, Completion, EngineFacts, Workload
from pytest_llem.metrics import METRICS
from pytest_llem.records import Idle, IdlePower, Measurement, Precision, WarmUp
from pytest_llem.worker.held import Held
from pytest_llem.worker.measure import measure
from pytest_llem.worker.workload import asked_lengths, measured, warmup
from tests.builders import DIGEST, completion, experiment, timing


class FakeEngine:
    """Answers each request with tokens half a second apart, the first after its number in s."""

    def __init__(self) -> None:
        self.runs: list[Workload] = []
        self.calls: list[str] = []

    def facts(self) -> EngineFacts:
        return EngineFacts(vocab_size=1000, device="cpu", details={"dtype": "float32"})

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        self.calls.append("run")
        self.runs.append(workload)
        found = []
        for number, prompt in enumerate(workload.prompts):
            times = [number + index / 2 for index in range(workload.output_tokens)]
            found.append(completion(timing(0.0, *times, input_tokens=len(prompt))))
            progress(len(found))
        return tuple(found)

    def reset_peak_memory(self) -> None:
        self.calls.append("reset")

    def peak_memory_bytes(self) -> int | None:
        self.calls.append("peak")
        return 5

    def close(self) -> None:
        self.calls.append("close")


class FakeBackend:
    """Loads a :class:`FakeEngine`."""

    name = "fake"
    install = ""
    abilities = Abilities()

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.preloaded = False

    def versions(self) -> Mapping[str, str | None]:
        return {"fake": "1.0"}

    def preload(self) -> None:
        self.preloaded = True

    def load(self, experiment: Experiment) -> FakeEngine:
        assert self.preloaded
        return self.engine


def made(
    known: Idle | None = None, **fields: Any
) -> tuple[Measurement, FakeEngine, list[tuple[str, dict[str, Any]]]]:
    """The measurement of an experiment, its engine, and the frames that were sent."""
    backend = FakeBackend()
    frames: list[tuple[str, dict[str, Any]]] = []
    given = experiment(**({"idle": "none", "warmup": "none", "output_tokens": 3} | fields))

    def emit(kind: str, **data: Any) -> None:
        frames.append((kind, data))

    found = measure(given, DIGEST, 2, Held(backend), emit, known)
    return found, backend.engine, frames


def test_a_measurement_says_what_was_measured() -> None:
    found, _, _ = made()
    assert (found.experiment, found.digest, found.cycle) == ("a", DIGEST, 2)
    assert found.tokens == {"requests": 2, "input": 8, "output": 6}
    assert (found.integrity, found.warnings) == ((), ())
    assert found.subject["backend"] == "fake"
    assert found.subject["versions"] == {"fake": "1.0"}
    assert found.metrics["peak_memory_bytes"].value == 5.0
    assert found.metrics["energy_j"].quality == "estimated"


@pytest.mark.parametrize(
    ("fields", "phases"),
    [
        ({}, ["load", "measure", "close"]),
        ({"idle": 0.01}, ["load", "idle", "measure", "close"]),
        ({"warmup": Warmup(prompts=1)}, ["load", "warmup", "measure", "close"]),
        ({"phases": True}, ["load", "measure", "pilot", "prefill", "close"]),
    ],
)
def test_only_the_phases_that_are_asked_for_are_there(
    fields: dict[str, Any], phases: list[str]
) -> None:
    found, _, frames = made(**fields)
    assert [window.phase for window in found.windows] == phases
    assert [data["phase"] for kind, data in frames if kind == "phase"] == phases


def known_idle(domain: str) -> Idle:
    power = IdlePower(domain=domain, meter="estimate", method="estimate", power_w=7.0)
    return Idle(powers=(power,), duration_s=30.0, age_s=100.0, origin="b c1")


def test_idle_power_that_is_known_is_not_measured_again() -> None:
    found, _, _ = made(known_idle("cpu:0"), idle=30.0)
    assert [window.phase for window in found.windows] == ["load", "measure", "close"]
    assert found.idle is not None
    assert found.idle.origin == "b c1"
    assert 100.0 <= found.idle.age_s < 130.0
    assert found.metrics["idle_power_w"].value == 7.0


def test_idle_power_of_another_domain_is_not_taken_over() -> None:
    found, _, _ = made(known_idle("cpu:1"), idle=0.01)
    assert [window.phase for window in found.windows] == ["load", "idle", "measure", "close"]
    assert found.idle is not None
    assert found.idle.origin is None
    assert found.idle.age_s < 30.0
    assert [power.domain for power in found.idle.powers] == ["cpu:0"]


def test_who_wants_no_idle_power_has_none_though_it_is_known() -> None:
    found, _, _ = made(known_idle("cpu:0"), idle="none")
    assert found.idle is None
    assert found.metrics["net_energy_j"].value is None


def test_the_engine_gets_the_requests_that_the_experiment_describes() -> None:
    prompts = Prompts(count=6, input_tokens=Uniform(uniform=(2, 90)))
    _, engine, _ = made(prompts=prompts, seed=9, batch_size=4)
    (run,) = engine.runs
    given = experiment(prompts=prompts, seed=9)
    assert [list(prompt) for prompt in run.prompts] == list(measured(given, 1000).prompts)
    assert [len(prompt) for prompt in run.prompts] == asked_lengths(given)
    assert (run.output_tokens, run.batch_size, run.seed) == (3, 4, 9)


def test_warm_up_is_made_batch_by_batch_before_the_memory_is_counted() -> None:
    _, engine, _ = made(warmup=Warmup(prompts=5), batch_size=2)
    assert engine.calls == ["run", "run", "run", "reset", "run", "peak", "close"]
    *batches, _ = engine.runs
    whole = warmup(experiment(warmup=Warmup(prompts=5)), 1000)
    assert whole is not None
    assert [len(batch.prompts) for batch in batches] == [2, 2, 1]
    assert [prompt for batch in batches for prompt in batch.prompts] == list(whole.prompts)


def test_what_a_warm_up_came_to_is_recorded() -> None:
    found, _, _ = made(warmup=Warmup(prompts=5), batch_size=2)
    assert found.warmup == WarmUp(batches=3)
    assert made()[0].warmup is None


def test_a_warm_up_goes_on_until_stable_where_that_is_asked_for() -> None:
    found, engine, _ = made(warmup=Warmup(prompts=1, until_stable=True, timeout_s=1.0))
    assert found.warmup is not None
    assert found.warmup.stable is not None
    assert found.warmup.batches == len(engine.runs) - 1 >= 5


def test_a_measurement_of_one_run_says_so() -> None:
    found, _, _ = made()
    assert (found.repeats, found.precision, found.prefill) == (1, None, None)


def test_a_precision_that_nothing_can_judge_is_a_warning_and_costs_nothing() -> None:
    found, engine, frames = made(precision=0.02)
    assert found.precision == Precision(asked=0.02, reached=None, tries=0, why_not=WHY_NOT)
    assert found.warnings == (f"precision 2 % can't be judged: {WHY_NOT}",)
    assert (found.repeats, len(engine.runs)) == (1, 1)
    assert [window.phase for window in found.windows] == ["load", "measure", "close"]
    assert [data["phase"] for kind, data in frames if kind == "phase"] == ["load", "pilot", "close"]
    assert found.tokens_sha256 == made()[0].tokens_sha256


WHY_NOT = "the energy is an estimate; use a meter that measures, or leave precision out"


def test_phases_give_energy_of_prefill_and_decode() -> None:
    found, engine, _ = made(phases=True)
    assert found.prefill is not None
    # Eight input tokens a run; the runs after the measured one and the first of prefill.
    assert found.prefill.repeats == len(engine.runs) - 2
    assert found.prefill.input_tokens == 8 * found.prefill.repeats
    assert {run.output_tokens for run in engine.runs[1:]} == {1}
    for name in ("prefill_energy_per_input_token_j", "decode_energy_per_output_token_j"):
        assert found.metrics[name].quality == "estimated"
    assert found.tokens == {"requests": 2, "input": 8, "output": 6}
    assert list(found.metrics) == list(METRICS)


def test_a_warm_up_whose_time_is_over_is_a_warning() -> None:
    found, engine, _ = made(warmup=Warmup(prompts=5, timeout_s=1e-9))
    assert found.warnings == ("warm-up ended after 1e-09 s with 0 of 5 requests",)
    assert len(engine.runs) == 1


@pytest.mark.parametrize(("ttft_s", "good"), [(0.5, 1), (1.0, 2), (None, None)])
def test_goodput_is_that_of_the_experiments_own_slo(ttft_s: float | None, good: int | None) -> None:
    found, _, _ = made(slo=Slo(ttft_s=ttft_s))
    rate = found.metrics["goodput_per_s"].value
    duration_s = found.metrics["duration_s"].value
    assert duration_s
    assert rate == (None if good is None else good / duration_s)


def test_every_requests_times_are_sent_ahead_of_the_result() -> None:
    _, _, frames = made()
    rows = [row for kind, data in frames if kind == "series" for row in data["requests"]]
    assert [row["token_s"] for row in rows] == [[0.0, 0.5, 1.0], [1.0, 1.5, 2.0]]
    assert [row["input_tokens"] for row in rows] == [4, 4]
