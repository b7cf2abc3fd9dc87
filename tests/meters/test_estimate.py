"""The model of the CPU's power."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pytest_llem.extensions import Target
from pytest_llem.meters.estimate import BUSY_W, IDLE_W, EstimateMeter, cpu_time_s, model_j
from pytest_llem.records import Reading

CPU = Target(device="cpu")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

BURN = """
import sys, time
while time.process_time() < 0.3: pass
print("done", flush=True)
sys.stdin.read()
"""


def burn(seconds: float) -> None:
    """Use CPU time, however long that takes."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def estimate(token: object, duration_s: float) -> Reading:
    """Of a window whose length is given, so that only the CPU time counts."""
    (found,) = EstimateMeter(CPU).stop(token, 100.0, 100.0 + duration_s)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("duration_s", "cpu_s", "cpus", "joules"),
    [
        (0.0, 0.0, 8, 0.0),
        (1.0, 0.0, 1, 0.74),
        (1.0, 1.0, 1, 3.5),
        (10.0, 0.0, 4, 29.6),
        (10.0, 40.0, 4, 140.0),
        (10.0, 20.0, 4, 84.8),  # 29.6 + 2.76 * 20
    ],
)
def test_the_model_lies_between_idle_and_busy(
    duration_s: float, cpu_s: float, cpus: int, joules: float
) -> None:
    assert model_j(duration_s, cpu_s, cpus) == pytest.approx(joules)
    assert (IDLE_W, BUSY_W) == (0.74, 3.5)


@pytest.mark.parametrize(("device", "domains"), [("cpu", ["cpu:0"]), ("cuda", []), ("tpu", [])])
def test_only_the_cpu_is_modelled(device: str, domains: list[str]) -> None:
    meter = EstimateMeter(Target(device=device))
    assert list(meter.domains) == domains
    assert bool(meter.reason) == (not domains)


def test_a_reading_says_that_it_is_an_estimate() -> None:
    meter = EstimateMeter(CPU)
    found = estimate(meter.start(), 1.0)
    assert meter.estimates
    assert (found.domain, found.meter, found.method) == ("cpu:0", "estimate", "estimate")
    assert found.quality == "estimated"
    assert found.reason
    assert found.energy_j is not None
    assert found.energy_j > 0
    assert found.systematic == 0.5


def test_a_busy_loop_reads_more_than_sleeping() -> None:
    meter = EstimateMeter(CPU)
    token = meter.start()
    burn(0.2)
    busy = estimate(token, 1.0)
    token = meter.start()
    time.sleep(0.01)
    idle = estimate(token, 1.0)
    assert busy.energy_j is not None
    assert idle.energy_j is not None
    assert busy.energy_j - idle.energy_j > 0.1 * (BUSY_W - IDLE_W)


def test_windows_may_overlap() -> None:
    meter = EstimateMeter(CPU)
    outer = meter.start()
    burn(0.05)
    inner = meter.start()
    burn(0.05)
    (both, last) = (estimate(outer, 0.0).energy_j, estimate(inner, 0.0).energy_j)
    assert both is not None
    assert last is not None
    assert both > last > 0


NESTED = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"


@contextlib.contextmanager
def burnt(program: str) -> Iterator[None]:
    """A child that has used 0.3 s of CPU time, or has a child that has; both end with the body."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "done\n"
        yield  # the end of its standard input ends whoever reads it


@linux_only
@pytest.mark.parametrize("program", [BURN, NESTED], ids=["child", "grandchild"])
def test_the_cpu_time_of_processes_below_counts(program: str) -> None:
    own, total = time.process_time(), cpu_time_s()
    with burnt(program):
        of_others = (cpu_time_s() - total) - (time.process_time() - own)
    assert of_others > 0.2


def test_the_cpu_time_of_a_child_that_has_ended_counts() -> None:
    own, total = time.process_time(), cpu_time_s()
    with burnt(BURN):
        pass
    assert (cpu_time_s() - total) - (time.process_time() - own) > 0.2


@pytest.mark.parametrize("program", [BURN, NESTED], ids=["child", "grandchild"])
def test_a_process_that_ends_within_the_window_takes_no_energy_away(program: str) -> None:
    with burnt(program):
        token = EstimateMeter(CPU).start()
    found = estimate(token, 0.0).energy_j
    assert found is not None
    assert found >= 0
