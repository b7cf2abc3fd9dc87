"""A measurement of requests that come one by one, on an engine and meters that only pretend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Concurrency, Experiment, Poisson, Prompts, Slo
from pytest_llem.extensions import Abilities, Completion, Engine, EngineFacts, Workload
from pytest_llem.metrics import METRICS
from pytest_llem.records import Measurement, RequestTiming
from pytest_llem.wire import from_dict, to_dict
from pytest_llem.worker.held import Held
from pytest_llem.worker.latency import stages
from pytest_llem.worker.measure import measure
from pytest_llem.worker.phases import Phases
from tests.builders import DIGEST, experiment, timing
from tests.worker.simulated import Lab, silent

TOKEN_S = 0.004


class SleepyEngine(Lab):
    """Has a token every 4 ms, of any number of requests at a time, after a queue of 4 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.calls: list[str] = []

    async def answer(
        self, number: int, workload: Workload, progress: Callable[[int], None]
    ) -> Completion:
        submitted_s = self.loop.time()
        await asyncio.sleep(TOKEN_S)
        scheduled_s, times = self.loop.time(), []
        for _ in range(workload.output_tokens):
            await asyncio.sleep(TOKEN_S)
            times.append(self.loop.time())
            progress(len(times))
        found = RequestTiming(
            submitted_s=submitted_s,
            token_s=tuple(times),
            input_tokens=len(workload.prompts[number]),
            output_tokens=len(times),
            scheduled_s=scheduled_s,
        )
        ids = tuple(workload.prompts[number][: len(times)])
        return Completion(timing=found, token_ids=ids, cached_tokens=1, preemptions=0)

    def facts(self) -> EngineFacts:
        return EngineFacts(vocab_size=1000, device="cpu", reuses=True)

    def reset_peak_memory(self) -> None:
        self.calls.append("reset")

    def peak_memory_bytes(self) -> int | None:
        self.calls.append("peak")
        return 5

    def close(self) -> None:
        self.loop.close()


class SleepyBackend:
    """Loads one."""

    name = "sleepy"
    install = ""
    abilities = Abilities(scenarios=frozenset({"offline", "poisson", "concurrency"}))

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def versions(self) -> Mapping[str, str | None]:
        return {}

    def preload(self) -> None:
        """Nothing is heavy."""

    def load(self, experiment: Experiment) -> Engine:
        return self.engine


Made = tuple[Measurement, list[tuple[str, dict[str, Any]]]]
Measure = Callable[..., Made]


@pytest.fixture
def made() -> Measure:
    """Measures an experiment; gives the frames too."""

    def make(**fields: Any) -> Made:
        base = {"idle": "none", "warmup": "none", "output_tokens": 3, "meters": ("estimate",)}
        frames: list[tuple[str, dict[str, Any]]] = []

        def emit(kind: str, **data: Any) -> None:
            frames.append((kind, data))

        held = Held(SleepyBackend(SleepyEngine()))
        return measure(experiment(**(base | fields)), DIGEST, 1, held, emit), frames

    return make


def windows(found: Measurement) -> dict[str, tuple[float, float]]:
    return {each.phase: (each.start_s, each.start_s + each.duration_s) for each in found.windows}


def test_a_fixed_number_in_flight_is_measured_where_it_is_steady(made: Measure) -> None:
    found, frames = made(
        scenario=Concurrency(concurrency=4),
        prompts=Prompts(count=60, input_tokens=4),
        slo=Slo(e2e_s=60.0),
    )
    assert list(windows(found)) == ["load", "ramp", "measure", "drain", "close"]
    begun_s, ended_s = windows(found)["measure"]
    assert windows(found)["ramp"][1] == pytest.approx(begun_s)
    assert windows(found)["drain"][0] == pytest.approx(ended_s)
    traffic = found.traffic
    assert traffic is not None
    assert (traffic.scenario, traffic.asked, traffic.requests) == ("concurrency", 4.0, 60)
    assert (traffic.in_flight_max, traffic.reason) == (4, None)
    assert (found.integrity, found.warnings) == ((), ())

    rows = [row for kind, data in frames if kind == "series" for row in data["requests"]]
    assert len(rows) == 60
    times = [time_s for row in rows for time_s in row["token_s"]]
    inside = sum(begun_s < time_s <= ended_s for time_s in times)
    duration_s = ended_s - begun_s
    figure = {name: found.metrics[name].value for name in METRICS}
    assert found.tokens["output"] == inside
    assert figure["duration_s"] == pytest.approx(duration_s)
    assert figure["output_tokens_per_s"] == pytest.approx(inside / duration_s)
    ended = sum(begun_s < row["token_s"][-1] <= ended_s for row in rows)
    assert figure["requests_per_s"] == figure["goodput_per_s"] == pytest.approx(ended / duration_s)
    counted = [row for row in rows if begun_s < row["submitted_s"] <= ended_s]
    assert traffic.counted == len(counted) > 0
    longest_s = max(row["token_s"][-1] - row["submitted_s"] for row in counted)
    assert figure["e2e_max_s"] == pytest.approx(longest_s)
    assert figure["peak_memory_bytes"] == 5

    assert found.metrics["energy_j"].quality == "estimated"
    assert figure["energy_per_output_token_j"] == pytest.approx(
        (figure["energy_j"] or 0.0) / inside
    )
    assert "requests go on" in (found.metrics["energy_to_idle_j"].reason or "")
    assert from_dict(Measurement, to_dict(found)) == found


def test_random_arrivals_are_those_of_the_seed_and_overlap(made: Measure) -> None:
    rate, count = 200.0, 50
    found, frames = made(
        scenario=Poisson(poisson=rate), prompts=Prompts(count=count, input_tokens=4), seed=11
    )
    rows = [row for kind, data in frames if kind == "series" for row in data["requests"]]
    due = [row["due_s"] for row in rows]
    assert due == sorted(due)
    assert all(row["submitted_s"] >= row["due_s"] - 0.001 for row in rows)
    traffic = found.traffic
    assert traffic is not None
    assert traffic.arrivals_per_s is not None
    assert traffic.late_s is not None
    assert traffic.in_flight_max > 1
    # How late a busy machine is comes on top.
    least_s = count / rate * (1 - 3 / count**0.5)
    most_s = count / rate * (1 + 3 / count**0.5) + traffic.late_s
    assert least_s <= count / traffic.arrivals_per_s <= most_s
    assert found.integrity == ()


def test_where_time_went_is_told(made: Measure) -> None:
    found, _ = made(scenario=Concurrency(concurrency=2), prompts=Prompts(count=20, input_tokens=4))
    split = found.stages
    assert split is not None
    assert split.reason is None
    assert split.queue_s is not None
    assert split.prefill_s is not None
    assert split.decode_s is not None
    assert split.queue_s.p50 >= TOKEN_S * 0.9
    assert split.prefill_s.p50 >= TOKEN_S * 0.9
    assert split.decode_s.p50 >= TOKEN_S * 1.8
    parts = (split.queue_s, split.prefill_s, split.decode_s)
    whole_s = found.metrics["e2e_mean_s"].value
    assert sum(part.mean for part in parts) == pytest.approx(whole_s)


def test_a_run_that_is_never_steady_is_a_warning_and_no_figure(made: Measure) -> None:
    # All four come within a millisecond or so, and the first of them ends after 16.
    found, _ = made(scenario=Poisson(poisson=5e3), prompts=Prompts(count=4, input_tokens=4))
    assert found.traffic is not None
    assert found.traffic.reason == "the run was never steady; raise prompts.count"
    assert found.metrics["energy_j"].value is None
    assert found.metrics["output_tokens_per_s"].reason == found.traffic.reason
    assert any("no figures of a steady state" in text for text in found.warnings)
    assert found.integrity == ()


def test_an_engine_that_answers_one_batch_after_another_is_refused() -> None:
    held = Held(SleepyBackend(Lab()))
    given = experiment(
        scenario=Concurrency(concurrency=1), idle="none", warmup="none", meters=("estimate",)
    )
    with pytest.raises(LlemError, match="takes no requests while it computes others"):
        measure(given, DIGEST, 1, held, silent)
    held.close(Phases(silent))


# --- stages of any run ---------------------------------------------------------------------


def test_an_engine_that_does_not_tell_when_it_began_leaves_the_stages_null() -> None:
    found = stages([timing(0.0, 1.0, 3.0), timing(0.0, 1.0, 2.0, scheduled_s=0.5)])
    assert (found.queue_s, found.prefill_s) == (None, None)
    assert found.reason == "the engine doesn't tell when it began with a request"
    assert found.decode_s is not None
    assert (found.decode_s.mean, found.decode_s.max) == (1.5, 2.0)
    assert stages([]).reason == "no request was made"
