"""The runs of an experiment: with a meter that knows its uncertainty, and on a real engine.

Time is the engine's own: no test waits, and a busy machine makes no difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.backends.pytorch import PytorchBackend
from pytest_llem.experiment import Experiment, Prompts
from pytest_llem.extensions import Completion, Engine, EngineFacts, Workload
from pytest_llem.records import Reading
from pytest_llem.worker.measure import tokens_sha256
from pytest_llem.worker.phases import Phases
from pytest_llem.worker.runs import Bench, Runs, run
from tests.builders import completion, experiment, reading, timing
from tests.worker.simulated import silent

TINY = Path(__file__).parents[2] / "benchmarks" / "models" / "tiny-llama"


class QuickEngine:
    """Answers at once, and takes as many bytes as it had runs since the last reset."""

    def __init__(self) -> None:
        self._since_reset = 0

    def facts(self) -> EngineFacts:
        return EngineFacts(vocab_size=1000, device="cpu")

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        self._since_reset += 1
        progress(len(workload.prompts))
        times = [0.0] * workload.output_tokens
        return tuple(
            completion(timing(0.0, *times, input_tokens=len(prompt)), tuple(prompt))
            for prompt in workload.prompts
        )

    def reset_peak_memory(self) -> None:
        self._since_reset = 0

    def peak_memory_bytes(self) -> int | None:
        return self._since_reset

    def close(self) -> None:
        """Nothing is held."""


class Paced:
    """An engine whose runs take as long as is said, by a clock that they move on."""

    def __init__(self, engine: Engine, run_s: float, token_s: float) -> None:
        """``token_s`` is what each output token of a request adds to ``run_s``."""
        self.now_s = 0.0
        self._run_s = run_s
        self._token_s = token_s
        self._engine = engine
        self.facts = engine.facts
        self.reset_peak_memory = engine.reset_peak_memory
        self.peak_memory_bytes = engine.peak_memory_bytes
        self.close = engine.close

    def clock(self) -> float:
        return self.now_s

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        self.now_s += self._run_s + self._token_s * workload.output_tokens
        return self._engine.run(workload, progress)


class SteadyMeter:
    """10 W, and an uncertainty that comes from the edges alone."""

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


def made(given: Experiment, engine: Paced, uncertainty_j: float = 5.0) -> tuple[Runs, Phases]:
    """The runs of an experiment, and the windows they lie in."""
    phases = Phases(silent, engine.clock)
    phases.meters = [SteadyMeter(uncertainty_j)]
    bench = Bench(given, engine, engine.facts(), "no meter", phases, silent, engine.clock())
    return run(bench), phases


def quick(**fields: Any) -> tuple[Runs, Phases]:
    """The same for three output tokens and an engine that takes 5 ms a run: 0.05 J."""
    engine = Paced(QuickEngine(), run_s=0.002, token_s=0.001)
    return made(experiment(**{"output_tokens": 3} | fields), engine)


def test_one_run_is_one_window() -> None:
    runs, phases = quick()
    assert [window.phase for window in phases.windows] == ["measure"]
    assert (runs.repeats, runs.precision, runs.prefill) == (1, None, None)
    assert (runs.facts.requests, runs.facts.output, runs.by_phase) == (2, 6, {})
    assert runs.first == runs.completions


def test_precision_is_reached_by_as_many_runs_as_it_takes() -> None:
    runs, phases = quick(precision=0.5)
    assert runs.precision is not None
    assert runs.precision.why_not is None
    # 5 J of 10 W for 5 ms a run: 200 runs are 50 %, and a tenth less is aimed at with every try.
    assert runs.repeats == math.ceil(200 / 0.9**2)
    assert runs.precision.reached == pytest.approx(0.5 * 200 / runs.repeats)
    assert [window.phase for window in phases.windows] == ["pilot", "pilot", "measure"]
    assert runs.facts.requests == len(runs.completions) == 2 * runs.repeats
    assert runs.warnings == ()


def test_what_belongs_to_the_workload_once_does_not_depend_on_the_repeats() -> None:
    alone, _ = quick()
    often, _ = quick(precision=0.5)
    assert often.repeats > 1
    assert alone.facts.peak_memory_bytes == often.facts.peak_memory_bytes == 1
    assert tokens_sha256(alone.first) == tokens_sha256(often.first)
    assert often.completions[0].token_ids != often.first[0].token_ids


def test_a_precision_out_of_reach_ends_in_time_with_a_warning() -> None:
    runs, phases = quick(precision=0.0001, timeout_s=1.5)
    # Nine tenths of the time, and all of them.
    assert phases.clock() == pytest.approx(0.9 * 1.5, abs=0.006)
    assert runs.repeats > 1
    assert runs.precision is not None
    assert "timeout_s leaves time for" in str(runs.precision.why_not)
    assert runs.warnings[0].startswith("precision 0.01 % was not reached, but ")


def test_precision_leaves_time_for_prefill() -> None:
    runs, phases = quick(precision=0.0001, timeout_s=2.0, phases=True)
    assert runs.prefill is not None
    assert phases.windows[-1].phase == "prefill"
    # A fifth of the time, less a first run of prefill alone.
    assert phases.windows[-1].duration_s == pytest.approx(0.2 * 2.0 - 0.003, abs=0.006)


def test_prefill_and_decode_are_of_the_long_window() -> None:
    runs, phases = quick(precision=0.5, phases=True)
    assert runs.repeats > 1
    prefill = runs.by_phase["prefill_energy_per_input_token_j"]
    decode = runs.by_phase["decode_energy_per_output_token_j"]
    (window,) = [window for window in phases.windows if window.phase == "prefill"]
    assert runs.prefill is not None
    assert prefill.value == pytest.approx(10 * window.duration_s / runs.prefill.input_tokens)
    # Two requests that have two more tokens each take 2 ms longer together.
    assert decode.value == pytest.approx(10 * 0.002 / 4)
    assert decode.uncertainty
    (text,) = runs.warnings
    assert text.startswith("the energy of decode is not larger than its uncertainty")


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
    paced = Paced(engine, run_s=1.0, token_s=0.01)
    runs, phases = made(given, paced, uncertainty_j=2.0)
    engine.close()
    assert runs.precision is not None
    assert runs.precision.why_not is None
    # 2 J are 5 % of 40 J, which 10 W take 3.2 runs for.
    assert runs.repeats == 4
    assert runs.facts.output == 4 * 24 * runs.repeats
    assert runs.facts.input == 4 * 32 * runs.repeats
    assert [window.phase for window in phases.windows][-3:] == ["measure", "pilot", "prefill"]
    prefill, decode = (figure.value for figure in runs.by_phase.values())
    assert prefill == pytest.approx(10 * 1.01 / (4 * 32))
    assert decode == pytest.approx(10 * 0.23 / (4 * 23))
    assert len({c.token_ids for c in runs.completions}) > 1
