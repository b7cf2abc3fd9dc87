"""The process of the power trace, with the real pynvml and simulated GPUs."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_llem.gpus import look
from pytest_llem.meters.trace import Sample, Trace
from pytest_llem.runners.archive import build
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import H100, NO_COUNTER, Rig, Settings

pytestmark = pytest.mark.once

SOON_S = 20.0
TRIES = 5
NOISY: Settings = {"noise": 0.002, "instant_window_ms": 25}
LOST = "the driver can't reach the GPU any more (it is lost); restart the machine"


@pytest.fixture
def machine(nvml_rig: NvmlRig, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Rig]:
    """Makes a rig that processes started from here find, too."""

    def make(board: Settings = H100, **fields: object) -> Rig:
        rig = nvml_rig(board, **fields)  # type: ignore[arg-type]
        for name, value in rig.environment().items():
            monkeypatch.setenv(name, value)
        return rig

    return make


@pytest.fixture
def traces() -> Iterator[list[Trace]]:
    """Traces to be closed at the end."""
    made: list[Trace] = []
    yield made
    for trace in made:
        trace.close()


def started(traces: list[Trace], hz: float | None = 50.0, *, ticks: bool = False) -> Trace:
    trace = Trace([gpu.uuid for gpu in look(environ={}).gpus], hz, ticks=ticks)
    traces.append(trace)
    trace.start()
    return trace


def passed(trace: Trace, seconds: float, least: int = 0) -> tuple[float, float]:
    """Begin and end of some time; of more where a busy machine made too few samples."""
    start_s = time.monotonic()
    time.sleep(seconds)
    end_s = time.monotonic()
    while len(trace.samples(start_s, end_s)) < least and end_s - start_s < SOON_S:
        time.sleep(0.05)
        end_s = time.monotonic()
    return start_s, end_s


def sampled(trace: Trace, seconds: float, least: int = 0) -> tuple[Sample, ...]:
    """Samples of such a time, with the trace on only then."""
    trace.on()
    start_s, end_s = passed(trace, seconds, least)
    trace.off()
    return trace.samples(start_s, end_s)


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def is_gone_soon(pid: int) -> bool:
    deadline = time.monotonic() + SOON_S
    while is_there(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_there(pid)


# --- what is sampled -----------------------------------------------------------------------


def test_samples_tell_power_temperature_clock_and_events(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    machine(settings={"gated": 0, "wave": "const:500", "throttle": 4, "sm_clock": 1755})
    found = sampled(started(traces), 0.3, least=5)
    assert len(found) >= 5
    last = found[-1]
    assert (last.power_w, last.usage_w) == (500.0, 500.0)
    assert last.temperature_c is not None
    assert last.temperature_c > 30
    assert (last.sm_clock_mhz, last.event_bits) == (1755, 4)


def test_the_period_is_the_one_asked_for(machine: Callable[..., Rig], traces: list[Trace]) -> None:
    machine()
    times = [sample.at_s for sample in sampled(started(traces, 20.0), 1.5, least=10)]
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    # The machine may be busy now and then; the typical one is meant.
    assert gaps[len(gaps) // 2] == pytest.approx(0.05, rel=0.5)
    assert len(times) <= (times[-1] - times[0]) / 0.05 + 2


def test_the_peak_of_a_load_is_seen_where_averaged_power_hides_it(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    rig = machine(settings={"wave": "const:650", "instant_window_ms": 25, "instant_period_ms": 25})
    trace = started(traces)
    trace.on()
    for _ in range(TRIES):
        with rig.load() as load:
            time.sleep(0.5)
        found = trace.samples(load.start_s, load.end_s)
        if len(found) >= 5 and load.end_s - load.start_s < 0.7:
            break
        # One of us was kept from running: again, when the mean has forgotten it.
        time.sleep(1.2)
    trace.off()
    assert max(sample.power_w or 0 for sample in found) == pytest.approx(650, rel=0.01)
    assert max(sample.usage_w or 0 for sample in found) < 600


def test_samples_of_a_round_are_of_all_gpus_at_about_one_time(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    machine(gpus=3, settings={"gpu2.idle": 90})
    found = sampled(started(traces), 0.3, least=20)
    by_round = [[s for s in found if s.round == number] for number in {s.round for s in found}]
    whole = [round_ for round_ in by_round if len(round_) == 3]
    assert len(whole) >= 5
    assert all([sample.gpu for sample in round_] == [0, 1, 2] for round_ in whole)
    assert all(round_[2].power_w == 90.0 for round_ in whole)


def test_the_power_of_the_moment_is_that_of_all_gpus_and_only_while_it_is_on(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    machine(gpus=2, settings={"gated": 0, "wave": "const:500"})
    trace = started(traces)
    trace.on()
    passed(trace, 0.1, least=4)
    assert trace.power_w == 1000.0
    trace.off()
    deadline = time.monotonic() + SOON_S
    while trace.power_w is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert trace.power_w is None


def test_a_board_without_power_of_the_moment_gives_its_power_usage(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    machine(settings={"instant_supported": 0})
    trace = started(traces)
    found = sampled(trace, 0.1, least=1)
    assert trace.sources == ("usage",)
    assert found[-1].power_w == found[-1].usage_w == 70.0


def test_an_older_driver_tells_its_events_by_their_old_name(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    machine(settings={"missing": "nvmlDeviceGetCurrentClocksEventReasons", "throttle": 32})
    trace = started(traces)
    assert sampled(trace, 0.1, least=1)[-1].event_bits == 32
    assert trace.reasons == ("",)


def settled(rig: Rig) -> dict[str, int]:
    """Calls once a sample that was being taken is whole."""
    calls = rig.calls()
    for _ in range(50):
        time.sleep(0.2)
        before, calls = calls, rig.calls()
        if calls == before:
            break
    return dict(calls)


def test_nothing_is_asked_before_on_and_after_off(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    rig = machine()
    trace = started(traces)
    sampled(trace, 0.1, least=1)
    before = settled(rig)
    time.sleep(0.3)
    assert rig.calls() == before
    assert len(sampled(trace, 0.1, least=2)) >= 2
    assert rig.calls() != before


def test_only_samples_of_the_interval_are_given(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    machine()
    trace = started(traces)
    trace.on()
    passed(trace, 0.3, least=1)
    start_s, end_s = passed(trace, 0.3, least=1)
    passed(trace, 0.3, least=1)
    found = trace.samples(start_s, end_s)
    assert found
    assert all(start_s <= sample.at_s <= end_s for sample in found)


def test_slow_calls_make_fewer_samples_and_no_backlog(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    machine(gpus=2, settings={"latency_us": 10_000})
    trace = started(traces, 50.0)
    found = sampled(trace, 1.0, least=4)
    span_s = found[-1].at_s - found[0].at_s
    # Each takes five calls.
    assert 4 <= len(found) <= 1 + span_s / 0.05
    start_s = time.monotonic()
    trace.off()
    assert time.monotonic() - start_s < SOON_S
    assert trace.reason == ""


def test_what_the_process_used_of_the_cpu_is_told(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    machine()
    trace = started(traces)
    trace.on()
    first_s = trace.cpu_s
    start_s, end_s = passed(trace, 0.5, least=20)
    trace.off()
    assert first_s is not None
    assert trace.cpu_s is not None
    assert 0 < trace.cpu_s - first_s < end_s - start_s


# --- ticks ---------------------------------------------------------------------------------


def test_ticks_of_the_power_usage_are_bracketed(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    rig = machine(NO_COUNTER, settings=NOISY)
    trace = started(traces, None, ticks=True)
    trace.on()
    start_s = time.monotonic()
    time.sleep(3.0)
    (series,) = trace.ticks(start_s, time.monotonic())
    while len(series.ticks) < 10 and time.monotonic() < start_s + SOON_S:
        time.sleep(0.5)
        (series,) = trace.ticks(start_s, time.monotonic())
    assert series.reason == ""
    assert series.period_s == pytest.approx(0.1, rel=0.02)
    assert len(series.ticks) >= 10
    phase_s = rig.epoch_ns * 1e-9 + float(rig.setting("tick_phase_ms")) / 1000
    offsets = [((t.lo_s - phase_s) / 0.1, (t.hi_s - phase_s) / 0.1) for t in series.ticks]
    # Each bracket holds one tick of the grid, or all but touches it.
    right = sum(round((lo + hi) / 2) - 0.02 <= hi and lo <= round((lo + hi) / 2) + 0.02
                for lo, hi in offsets)  # fmt: skip
    assert right >= 0.9 * len(offsets)


def test_ticks_hold_the_mean_of_the_last_second(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    rig = machine(NO_COUNTER, settings={"wave": "ramp:100,600,3"})
    trace = started(traces, None, ticks=True)
    trace.on()
    for _ in range(TRIES):
        with rig.load() as load:
            time.sleep(2.0)
        (series,) = trace.ticks(load.start_s, load.end_s)
        seen = [tick for tick in series.ticks if tick.seen]
        if len(seen) >= 10 and load.end_s - load.start_s < 2.9:
            break
        # One of us was kept from running: again, when the mean has forgotten it.
        time.sleep(1.2)
    assert len(seen) >= 10
    for tick in seen:
        # It grows all the time: by its value it was renewed within the bracket.
        low_w, high_w = (rig.truth().energy(at_s - 1, at_s) for at_s in (tick.lo_s, tick.hi_s))
        assert tick.value is not None
        assert low_w - 1 <= tick.value <= high_w + 1


# --- how it ends ---------------------------------------------------------------------------


def test_it_ends_when_it_is_closed(machine: Callable[..., Rig], traces: list[Trace]) -> None:
    machine()
    trace = started(traces)
    trace.on()
    pid = trace.pid
    assert pid is not None
    assert is_there(pid)
    trace.close()
    assert trace.pid is None
    assert is_gone_soon(pid)


def test_it_can_be_closed_at_once_and_twice(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    machine()
    trace = started(traces)
    trace.close()
    trace.close()
    assert trace.pid is None


@pytest.mark.parametrize("copied", [False, True])
def test_it_ends_with_whoever_started_it(
    copied: bool, machine: Callable[..., Rig], tmp_path: Path
) -> None:
    """Also where an engine's process holds a copy of its standard input."""
    machine()
    program = f"""
        import os, sys, time
        from pytest_llem.gpus import look
        from pytest_llem.meters.trace import Trace
        trace = Trace([gpu.uuid for gpu in look(environ={{}}).gpus], 50.0)
        trace.start()
        trace.on()
        child = os.fork() if {copied} else 1
        if child:
            print(trace.pid, child, trace.reason or "-", flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid, child, reason = parent.stdout.readline().split(maxsplit=2)
    assert reason == "-\n"
    assert is_there(int(pid))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    try:
        assert is_gone_soon(int(pid))
    finally:
        if copied:
            os.kill(int(child), signal.SIGKILL)


def test_ctrl_c_is_left_to_others(machine: Callable[..., Rig], traces: list[Trace]) -> None:
    machine()
    trace = started(traces)
    trace.on()
    assert trace.pid is not None
    os.kill(trace.pid, signal.SIGINT)
    assert sampled(trace, 0.1, least=1)


# --- what goes wrong -----------------------------------------------------------------------


def test_a_gpu_that_is_lost_meanwhile_leaves_gaps_and_a_reason(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    rig = machine(gpus=2)
    age_s = time.monotonic() - rig.epoch_ns * 1e-9
    rig.configure({"err.nvmlDeviceGetFieldValues": f"15,{age_s + 3.0}"})
    trace = started(traces)
    trace.on()
    start_s, end_s = passed(trace, 0.2, least=2)
    lost_s = rig.epoch_ns * 1e-9 + age_s + 3.0
    passed(trace, max(0.0, lost_s - end_s) + 0.1, least=2)
    _, end_s = passed(trace, 0.0, least=2)
    trace.off()
    found = trace.samples(start_s, end_s)
    assert any(sample.power_w is None for sample in found)
    assert any(sample.power_w is not None for sample in found)
    assert trace.reasons == (LOST, LOST)
    assert trace.reason == ""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"err.nvmlInitWithFlags": 9, "err.nvmlInit_v2": 9}, "its kernel module isn't loaded"),
        ({"err.nvmlDeviceGetHandleByUUID": 15}, "it is lost"),
    ],
)
def test_a_driver_that_refuses_is_a_reason(
    settings: Settings, words: str, machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    rig = machine()
    trace = Trace([gpu.uuid for gpu in look(environ={}).gpus])
    rig.configure(settings)
    traces.append(trace)
    trace.start()
    assert sampled(trace, 0.1) == ()
    assert words in trace.reason
    assert trace.pid is None


def test_without_a_driver_there_is_a_reason(traces: list[Trace]) -> None:
    trace = Trace(["GPU-of-nobody"])
    traces.append(trace)
    trace.start()
    trace.on()
    trace.off()
    assert trace.samples(0.0, 1e9) == ()
    assert trace.ticks(0.0, 1e9) == ()
    assert trace.reason


def test_a_process_that_was_killed_is_a_reason(
    machine: Callable[..., Rig], traces: list[Trace]
) -> None:
    machine()
    trace = started(traces)
    trace.on()
    assert trace.pid is not None
    os.kill(trace.pid, signal.SIGKILL)
    trace.off()
    assert trace.samples(0.0, 1e9) == ()
    assert "the process of the power trace ended (exit status -9)" in trace.reason


def test_pipes_that_an_engine_closed_are_a_reason(machine: Callable[..., Rig]) -> None:
    machine()
    program = """
        import os
        from pytest_llem.gpus import look
        from pytest_llem.meters.trace import Trace
        trace = Trace([gpu.uuid for gpu in look(environ={}).gpus], 50.0)
        trace.start()
        trace.on()
        assert not trace.reason
        os.closerange(3, 64)
        trace.off()
        assert trace.samples(0.0, 1e12) == ()
        trace.close()
        print(trace.reason)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the p")
    assert done.stdout.strip()


def test_a_trace_that_was_never_started_is_a_reason() -> None:
    trace = Trace(["GPU-a"])
    trace.on()
    assert trace.samples(0.0, 1.0) == ()
    assert trace.reason == "the power trace isn't running"


def test_an_interpreter_that_is_not_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import sys
sys.executable = "/nonexistent/python"
from pytest_llem.meters.trace import Trace
trace = Trace(["GPU-a"])
trace.start()
trace.on()
print(trace.reason)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("the process of the power trace can't be started: ")


# --- from an archive in memory ---------------------------------------------------------------


def test_it_works_from_an_archive_that_lives_in_memory(machine: Callable[..., Rig]) -> None:
    import pynvml

    machine()
    program = f"""
        import json, os, sys, time
        handle = os.memfd_create("archive")
        os.write(handle, sys.stdin.buffer.read())
        sys.path[:0] = [f"/proc/{{os.getpid()}}/fd/{{handle}}"]
        sys.path.append({str(Path(str(pynvml.__file__)).parent)!r})
        from pytest_llem.gpus import look
        from pytest_llem.meters.trace import Trace
        trace = Trace([gpu.uuid for gpu in look(environ={{}}).gpus], 50.0)
        trace.start()
        trace.on()
        time.sleep(0.3)
        while len(trace.samples(0.0, 1e12)) < 3 and not trace.reason:
            time.sleep(0.05)
        trace.off()
        found = trace.samples(0.0, 1e12)
        trace.close()
        path = sys.modules[Trace.__module__].__file__
        print(json.dumps([path, len(found), trace.reason]))
    """
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", textwrap.dedent(program)],
        input=build(),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    path, count, reason = json.loads(done.stdout)
    assert path.startswith("/proc/")
    assert count >= 3
    assert reason == ""
