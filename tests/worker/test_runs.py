"""The runs of an experiment: with a meter that knows its uncertainty, and on a real engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.backends.pytorch import PytorchBackend
from pytest_llem.experiment import Experiment, Prompts
from pytest_llem.extensions import Completion, Engine, EngineFacts, Workload
from pytest_llem.records import Reading
from pytest_llem.worker.measure import Phases, tokens_sha256
from pytest_llem.worker.runs import Bench, Runs, run
from tests.builders import completion, experiment, reading, timing
from tests.worker.simulated import silent

TINY = Path(__file__).parents[2] / "benchmarks" / "models" / "tiny-llama"


class QuickEngine:
    """Takes a few milliseconds a run, and as many bytes as it had runs since the last reset."""

    def __init__(self) -> None:
        self.runs: list[Workload] = []
        self._since_reset = 0

    def facts(self) -> EngineFacts:
        return EngineFacts(vocab_size=1000, device="cpu")

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        time.sleep(0.005)
        self.runs.append(workload)
        self._since_reset += 1
        progress(len(workload.prompts))
        now_s = time.monotonic()
        times = [now_s] * workload.output_tokens
        return tuple(
            completion(timing(now_s, *times, input_tokens=len(prompt)), tuple(prompt))
            for prompt in workload.prompts
        )

    def reset_peak_memory(self) -> None:
        self._since_reset = 0

    def peak_memory_bytes(self) -> int | None:
        return self._since_reset

    def close(self) -> None:
        """Nothing is held."""


class SteadyMeter:
    """10 W, and an uncertainty that comes from the edges alone.

    It is as large as the energy of half a second, which no run of :class:`QuickEngine` takes even
    on a busy machine.
    """

    name = "steady"
    estimates = False
    domains: Sequence[str] = ("cpu:0",)
    reason = ""

    def __init__(self, uncertainty_j: float) -> None:
        self._uncertainty_j = uncertainty_j

    def start(self, exact: bool = True) -> bool:
        return exact

    def stop(self, token: bool, start_s: float, end_s: float) -> Sequence[Reading]:
        assert isinstance(token, bool)
        return (reading(10 * (end_s - start_s), uncertainty_j=self._uncertainty_j),)

    def close(self) -> None:
        """Nothing is held."""


def made(
    engine: Engine, uncertainty_j: float = 5.0, given: Experiment | None = None, **fields: Any
) -> tuple[Runs, Phases]:
    """The runs of an experiment of three output tokens, and the windows they lie in."""
    phases = Phases(silent)
    phases.meters = [SteadyMeter(uncertainty_j)]
    asked = given or experiment(**{"output_tokens": 3} | fields)
    loaded_s = time.monotonic()
    bench = Bench(asked, engine, engine.facts(), "no meter", phases, silent, loaded_s)
    return run(bench), phases


def test_one_run_is_one_window() -> None:
    runs, phases = made(QuickEngine())
    assert [window.phase for window in phases.windows] == ["measure"]
    assert (runs.repeats, runs.precision, runs.prefill) == (1, None, None)
    assert (runs.facts.requests, runs.facts.output, runs.by_phase) == (2, 6, {})
    assert runs.first == runs.completions


def test_precision_is_reached_by_as_many_runs_as_it_takes() -> None:
    engine = QuickEngine()
    runs, phases = made(engine, precision=0.5)
    assert runs.precision is not None
    assert runs.precision.why_not is None
    assert 0 < float(runs.precision.reached or 0) <= 0.5
    assert [window.phase for window in phases.windows][-1] == "measure"
    assert runs.repeats > 1
    assert runs.facts.requests == len(runs.completions) == 2 * runs.repeats
    assert runs.warnings == ()


def test_what_belongs_to_the_workload_once_does_not_depend_on_the_repeats() -> None:
    alone, _ = made(QuickEngine())
    often, _ = made(QuickEngine(), precision=0.5)
    assert often.repeats > 1
    assert alone.facts.peak_memory_bytes == often.facts.peak_memory_bytes == 1
    assert tokens_sha256(alone.first) == tokens_sha256(often.first)
    assert often.completions[0].token_ids != often.first[0].token_ids


def test_a_precision_out_of_reach_ends_in_time_with_a_warning() -> None:
    begun_s = time.monotonic()
    runs, _ = made(QuickEngine(), precision=0.0001, timeout_s=1.5)
    # Nine tenths of the time, and whatever a busy machine takes for one more run.
    assert time.monotonic() - begun_s < 3.0
    assert runs.repeats > 1
    assert runs.precision is not None
    assert "timeout_s leaves time for" in str(runs.precision.why_not)
    assert runs.warnings[0].startswith("precision 0.01 % was not reached, but ")


def test_precision_leaves_time_for_prefill() -> None:
    runs, phases = made(QuickEngine(), precision=0.0001, timeout_s=2.0, phases=True)
    assert runs.prefill is not None
    assert phases.windows[-1].phase == "prefill"
    assert phases.windows[-1].duration_s > 0.1


def test_prefill_and_decode_are_of_the_long_window() -> None:
    runs, phases = made(QuickEngine(), precision=0.5, phases=True)
    assert runs.repeats > 1
    # A run takes the same whether it makes one token or three: there is nothing left for decode.
    prefill = runs.by_phase["prefill_energy_per_input_token_j"]
    decode = runs.by_phase["decode_energy_per_output_token_j"]
    (window,) = [window for window in phases.windows if window.phase == "prefill"]
    assert runs.prefill is not None
    assert prefill.value == pytest.approx(10 * window.duration_s / runs.prefill.input_tokens)
    assert decode.value is not None
    assert decode.uncertainty
    assert len(runs.warnings) == (decode.value <= decode.uncertainty)


@pytest.mark.engine
def test_a_real_engine_is_run_again_and_again_and_for_prefill_alone() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    given = Experiment(
        model=str(TINY),
        weights="random",
        device="cpu",
        dtype="float32",
        prompts=Prompts(count=4, input_tokens=32),
        output_tokens=24,
        batch_size=4,
        precision=0.05,
        phases=True,
    )
    backend = PytorchBackend()
    backend.preload()
    engine = backend.load(given)
    engine.run(Workload(prompts=[[1]], output_tokens=2, batch_size=1, seed=0), lambda _: None)
    runs, phases = made(engine, uncertainty_j=0.2, given=given)
    engine.close()
    assert runs.precision is not None
    # Not "reached": on a busy machine runs may take half as long in one window as in another.
    assert 0 < (runs.precision.reached or 0) < 0.1
    assert runs.facts.output == 4 * 24 * runs.repeats
    assert runs.facts.input == 4 * 32 * runs.repeats
    assert [window.phase for window in phases.windows][-3:] == ["measure", "pilot", "prefill"]
    prefill, decode = (figure.value for figure in runs.by_phase.values())
    # Which is larger is not asked: other processes may slow one of the windows down.
    assert prefill is not None
    assert prefill > 0
    assert decode is not None
    assert len({c.token_ids for c in runs.completions}) > 1
