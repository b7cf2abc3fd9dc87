"""The energy of a steady window, by the real meters in their process, against the exact truth."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Callable, Sequence

import pytest

from pytest_llem.experiment import Concurrency, Prompts
from pytest_llem.extensions import Completion, EngineFacts, Target, Workload
from pytest_llem.meters.boxcar import Mean
from pytest_llem.meters.mean_power import Means
from pytest_llem.meters.nvml import NvmlMeter
from pytest_llem.meters.ticks import Look, Tick
from pytest_llem.meters.within import last_tick, of_means
from pytest_llem.records import Measurement, Window
from pytest_llem.worker.held import Held
from pytest_llem.worker.measure import measure
from tests.builders import DIGEST, experiment
from tests.meters.windows import CALL, bench
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import A100, BOARDS, NO_COUNTER, Rig
from tests.worker.simulated import silent
from tests.worker.test_scenario import SleepyBackend, SleepyEngine

pytestmark = pytest.mark.once

SLOTS, COUNT = 4, 60


class Loaded(SleepyEngine):
    """Draws power by how many requests it computes; notes how often NVML was called by anybody."""

    def __init__(self, rig: Rig) -> None:
        super().__init__()
        self.calls_by: list[tuple[float, int, float]] = []
        self._rig = rig
        self._busy = 0

    async def answer(
        self, number: int, workload: Workload, progress: Callable[[int], None]
    ) -> Completion:
        self._change(+1)
        # Not all alike, so that they don't go in step.
        await asyncio.sleep(0.05 + 0.01 * (number % 7))
        found = await super().answer(number, workload, progress)
        self._change(-1)
        asked_s = time.monotonic()
        self.calls_by.append((asked_s, sum(self._rig.calls().values()), time.monotonic()))
        return found

    def facts(self) -> EngineFacts:
        return EngineFacts(vocab_size=1000, device="cuda", reuses=True)

    def _change(self, by: int) -> None:
        self._busy += by
        self._rig.mark(self._busy / SLOTS)


def measured(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> tuple[Measurement, Loaded]:
    """Sixty requests, four at a time, on a simulated GPU."""
    for name, value in rig.environment().items():
        monkeypatch.setenv(name, value)
    engine = Loaded(rig)
    given = experiment(
        device="cuda",
        scenario=Concurrency(concurrency=SLOTS),
        prompts=Prompts(count=COUNT, input_tokens=4),
        output_tokens=3,
        idle="none",
        warmup="none",
        power_trace_hz="none",
        meters=("nvml",),
    )
    return measure(given, DIGEST, 1, Held(SleepyBackend(engine)), silent), engine


def window_of(found: Measurement) -> Window:
    return next(window for window in found.windows if window.phase == "measure")


def test_energy_is_that_of_the_steady_window(
    nvml_rig: NvmlRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A host that stands still sees no ticks, and says so.
    for _ in range(3):
        rig = nvml_rig(A100, settings={"energy_period_ms": 40})
        found, engine = measured(rig, monkeypatch)
        energy = found.metrics["energy_j"]
        if energy.value is not None:
            break
    assert energy.value is not None, energy.reason
    assert energy.uncertainty is not None
    window = window_of(found)
    end_s = window.start_s + window.duration_s
    exact_j = rig.truth().energy(window.start_s, end_s)
    assert abs(energy.value - exact_j) <= 4 * energy.uncertainty + 0.002 * exact_j
    # It ends at a tick of the counter, up to a period before the mark.
    assert found.traffic is not None
    assert found.traffic.steady_to_s is not None
    assert found.traffic.steady_from_s is not None
    assert window.start_s > found.traffic.steady_from_s
    tick_s = rig.counter().tick(end_s + 0.02)
    assert abs(end_s - tick_s) < 0.012
    # Tokens are those of the same window.
    of_token = found.metrics["energy_per_output_token_j"].value
    assert of_token == pytest.approx(energy.value / found.tokens["output"])
    # Nobody asked NVML within.
    until_s = min(end_s, found.traffic.steady_to_s)
    calls = {
        calls
        for asked_s, calls, told_s in engine.calls_by
        if window.start_s < asked_s and told_s < until_s
    }
    assert len(calls) == 1
    assert (found.integrity, found.metrics["idle_power_w"].value) == ((), None)
    assert found.meters["nvml"]


@pytest.mark.parametrize("board", ["V100", "A100", "H100"])
@pytest.mark.parametrize("wave", ["const:400", "square:250,550,0.2", "sine:400,150,0.37"])
@pytest.mark.parametrize("drain_s", [0.02, 1.0])
def test_a_window_out_of_a_load_is_exact(
    board: str, wave: str, drain_s: float, nvml_rig: NvmlRig
) -> None:
    rig = nvml_rig(BOARDS[board], settings={**CALL, "wave": wave})
    off, held = [], []
    with bench(rig) as on:
        for number in range(5):
            on.time.sleep(0.7 + 0.013 * number)
            rig.mark(0.3)
            on.time.sleep(0.2)
            rig.mark(1.0)
            on.time.sleep(0.6 + 0.037 * number)
            token = on.meter.start()
            start_s = on.time.monotonic()
            on.time.sleep(1.0 + 0.017 * number)
            mark_s = on.time.monotonic()
            on.time.sleep(0.002)
            for step in range(1, 11):
                rig.mark(1 - step / 10, mark_s + 0.01 + drain_s * step / 10)
            calls = on.calls()
            end_s, (reading,) = on.meter.stop_within(token, start_s, mark_s)
            assert on.calls() > calls
            assert mark_s - 0.11 < end_s < mark_s + 0.003
            exact_j = rig.truth().energy(start_s, end_s)
            assert reading.energy_j is not None
            assert reading.uncertainty_j is not None
            off.append(abs(reading.energy_j - exact_j) / exact_j)
            held.append(abs(reading.energy_j - exact_j) <= 3 * reading.uncertainty_j)
            assert (reading.quality, reading.before_w) == ("ok", None)
            on.time.sleep(drain_s)
    assert statistics.fmean(off) < 1e-4
    assert all(held)


def test_several_gpus_have_one_window(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(A100, gpus=3, settings={**CALL, "wave": "square:350,390,0.07"})
    with bench(rig, gpus=3) as on:
        rig.mark(1.0)
        on.time.sleep(0.7)
        token = on.meter.start()
        start_s = on.time.monotonic()
        on.time.sleep(2.0)
        mark_s = on.time.monotonic()
        end_s, readings = on.meter.stop_within(token, start_s, mark_s)
    assert mark_s - 0.11 < end_s < mark_s + 0.003
    assert len(readings) == 3
    for gpu, reading in enumerate(readings):
        exact_j = rig.truth(gpu).energy(start_s, end_s)
        assert reading.energy_j == pytest.approx(exact_j, rel=2e-3)
        assert abs((reading.energy_j or 0.0) - exact_j) <= 3 * (reading.uncertainty_j or 0.0)


LOOK = Look(10.050, 10.051, 7.0)


@pytest.mark.parametrize(
    ("behind", "time_s", "joules"),
    [
        # The read shows the tick of 10.0, whichever of those behind is known best.
        ([Tick(10.1, 10.1001, 8.0), Tick(10.2, 10.2001, 9.0)], 10.0, 7.0),
        ([Tick(10.06, 10.12, 8.0), Tick(10.2, 10.2001, 9.0)], 10.0, 7.0),
        # Whether the read came before that of 10.05 or after it can't be told.
        ([Tick(10.15, 10.1501, 8.0)], 10.15, 8.0),
        ([Tick(10.11, 10.16, 8.0), Tick(10.25, 10.2501, 9.0)], 10.25, 9.0),
    ],
)
def test_a_read_behind_a_window_tells_of_the_last_tick_in_it(
    behind: list[Tick], time_s: float, joules: float
) -> None:
    found = last_tick(LOOK, behind, 0.1, 0.001)
    assert found.time_s == pytest.approx(time_s, abs=1e-4)
    assert found.joules == joules


# --- without a counter ---------------------------------------------------------------------


class Readings:
    """Power readings of a rig's GPU, each the mean of the second before it, ten times a second."""

    def __init__(self, rig: Rig, since_s: float) -> None:
        self._truth = rig.truth()
        self._since_s = since_s

    def means(self, from_s: float, to_s: float) -> list[Means]:
        first = math.ceil((max(from_s, self._since_s) - self._since_s) * 10)
        last = math.floor((to_s - self._since_s) * 10)
        times = [self._since_s + number / 10 for number in range(first, last + 1)]
        found = [
            Mean(lo_s=at_s, hi_s=at_s + 5e-4, power_w=self._truth.energy(at_s - 1, at_s))
            for at_s in times
        ]
        return [Means(period_s=0.1, means=found)]

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("warm", [True, False])
def test_a_gpu_without_a_counter_has_windows_of_whole_spans(nvml_rig: NvmlRig, warm: bool) -> None:
    rig = nvml_rig(NO_COUNTER, settings={**CALL, "wave": "sine:300,50,0.37"})
    with rig.virtual_time() as clock:
        begun_s = clock.monotonic()
        meter = NvmlMeter(
            Target(device="cuda"), clock=clock, watch=lambda _: Readings(rig, begun_s)
        )
        clock.sleep(3)
        if warm:
            token = meter.start()
            start_s = rig.mark(1)
            clock.sleep(1.5)
            meter.stop(token, start_s, rig.mark(0))
        rig.mark(1)
        clock.sleep(1)
        token = meter.start()
        start_s = clock.monotonic()
        clock.sleep(3.6)
        mark_s = rig.mark(1)
        end_s, (reading,) = meter.stop_within(token, start_s, mark_s)
        meter.close()
    if not warm:
        assert reading.energy_j is None
        assert "over which time its power readings are means doesn't show" in (reading.reason or "")
        return
    assert end_s - start_s == pytest.approx(3.0, abs=0.06)
    exact_j = rig.truth().energy(start_s, end_s)
    assert reading.energy_j == pytest.approx(exact_j, rel=0.004)
    assert (reading.method, reading.quality) == ("power", "ok")


def means(seconds: float, without: Sequence[int] = ()) -> list[Mean]:
    """A reading of 100 W every tenth of a second from 0 on."""
    numbers = [number for number in range(round(seconds * 10)) if number not in without]
    return [Mean(lo_s=n / 10, hi_s=n / 10, power_w=100.0) for n in numbers]


def test_a_reading_that_went_unseen_makes_the_window_shorter() -> None:
    whole = of_means(means(6), 1.0, 0.1, 2.0, 5.95)
    assert whole is not None
    assert whole[0] == pytest.approx(5.0)
    assert whole[1].energy_j == pytest.approx(300.0)
    shorter = of_means(means(6, without=[50]), 1.0, 0.1, 2.0, 5.95)
    assert shorter is not None
    assert shorter[0] == pytest.approx(4.0)
    assert of_means(means(6), 1.0, 0.1, 2.0, 2.4) is None


def test_a_window_shorter_than_a_tick_ends_where_it_was_to(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(A100, settings=CALL)
    with bench(rig) as on:
        token = on.meter.start()
        with rig.load() as load:
            on.time.sleep(0.03)
        end_s, (reading,) = on.meter.stop_within(token, load.start_s, load.end_s)
    assert end_s == load.end_s
    assert reading.energy_j is not None
