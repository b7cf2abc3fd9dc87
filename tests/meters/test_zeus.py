"""The adapter for zeus: the real package on simulated GPUs, and fakes of what isn't here."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.extensions import Target
from pytest_llem.meters.zeus import Monitor, ZeusMeter
from pytest_llem.records import Reading
from pytest_llem.worker.choose import choose_meters
from tests.builders import experiment
from tests.fakes import Board, FakeNvml
from tests.rig.fixtures import NvmlRig
from tests.rig.nvml import V100

needs_zeus = pytest.mark.skipif(
    importlib.util.find_spec("zeus") is None,
    reason='the real zeus is not tested here: pip install "zeus>=0.16"',
)
CUDA = Target(device="cuda", count=None)


# --- the real package ----------------------------------------------------------------------

PROGRAM = """
import json, sys, time
from pytest_llem.extensions import Target
from pytest_llem.meters.zeus import ZeusMeter
from pytest_llem.wire import to_dict
meter = ZeusMeter(Target(device="cuda", count=int(sys.argv[1])))
imported = "zeus" in sys.modules
found = []
for seconds in map(float, sys.argv[2:]):
    token = meter.start()
    start_s = time.monotonic()
    time.sleep(seconds)
    end_s = time.monotonic()
    found.append([start_s, end_s, [to_dict(r) for r in meter.stop(token, start_s, end_s)]])
meter.close()
print(json.dumps([meter.reason, list(meter.domains), imported, found]))
"""


def run(environment: Mapping[str, str], *arguments: object) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:pytest_llem", "-c", PROGRAM]
        + [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        env=dict(environment),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_zeus
def test_the_real_zeus_reads_the_gpus_that_it_is_asked_for(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig(V100, gpus=2, opened=False)
    reason, domains, imported, windows = run(rig.environment(), 1, 1.0, 0.5)
    assert (reason, len(domains), imported) == ("", 1, False)
    for start_s, end_s, readings in windows:
        (reading,) = readings
        assert reading["domain"] == domains[0]
        exact_j = rig.truth(0).energy(start_s, end_s)
        # One tick of 20 ms at either end.
        assert reading["energy_j"] == pytest.approx(exact_j, rel=0.1)
        assert (reading["quality"], reading["method"]) == ("short", "counter")
        assert "not aligned" in reading["reason"]
        assert 0 < reading["uncertainty_j"] < reading["energy_j"]


@needs_zeus
def test_the_real_zeus_seeing_nothing_is_no_figure(nvml_rig: NvmlRig) -> None:
    rig = nvml_rig({**V100, "energy_period_ms": 100_000}, opened=False)
    _, _, _, windows = run(rig.environment(), 1, 0.01)
    (reading,) = windows[0][2]
    assert (reading["energy_j"], reading["quality"]) == (None, "unmeasured")
    assert "0 J" in reading["reason"]


@needs_zeus
def test_a_gpu_lost_in_a_window_is_a_reason(nvml_rig: NvmlRig) -> None:
    # Every second call: the first is that at the window's begin.
    lost = {"err.nvmlDeviceGetTotalEnergyConsumption": "15,0,2"}
    rig = nvml_rig({**V100, **lost}, opened=False)
    _, _, _, windows = run(rig.environment(), 1, 0.1)
    (reading,) = windows[0][2]
    assert reading["energy_j"] is None
    assert reading["reason"].startswith("zeus could not end: GPU is lost")


@needs_zeus
def test_its_measurement_has_the_fields_that_are_read() -> None:
    from zeus.device.soc.apple import AppleSiliconMeasurement
    from zeus.monitor.energy import Measurement

    fields = {field.name for field in dataclasses.fields(Measurement)}
    assert {"gpu_energy", "cpu_energy", "dram_energy", "soc_energy"} <= fields
    soc = {field.name for field in dataclasses.fields(AppleSiliconMeasurement)}
    assert {"gpu_mj", "cpu_total_mj", "dram_mj"} <= soc


# --- devices that aren't here --------------------------------------------------------------


@dataclasses.dataclass
class FakeSoc:
    gpu_mj: int | None = 2_000
    cpu_total_mj: int | None = 3_000
    dram_mj: int | None = None
    ane_mj: int | None = 7

    def get_available_metrics(self) -> set[str]:
        fields = dataclasses.asdict(self)
        return {name for name, value in fields.items() if value is not None}


@dataclasses.dataclass
class FakeMeasurement:
    gpu_energy: dict[int, float]
    soc_energy: FakeSoc | None


class FakeMonitor:
    """A monitor of zeus' that tells what it was told to."""

    def __init__(
        self, energies: Mapping[int, float], soc: FakeSoc | None = None, fails: str = ""
    ) -> None:
        self.gpu_indices = sorted(energies)
        self.soc_is_present = soc is not None
        self.soc = soc
        self.windows: list[str] = []
        self._energies = dict(energies)
        self._fails = fails

    def begin_window(self, key: str, sync_execution: bool = True) -> None:
        assert not sync_execution
        if self._fails == "begin":
            raise RuntimeError("no begin")
        self.windows.append(key)

    def end_window(self, key: str, sync_execution: bool = True) -> FakeMeasurement:
        assert not sync_execution
        if self._fails == "end":
            raise RuntimeError("no end")
        self.windows.remove(key)
        warnings.warn("measured as zero", stacklevel=1)
        return FakeMeasurement(self._energies, self.soc)


class Opener:
    """Opens a monitor, and remembers for which GPUs."""

    def __init__(self, monitor: Monitor | Exception) -> None:
        self.asked: list[list[int] | None] = []
        self._monitor = monitor

    def __call__(self, indices: list[int] | None) -> Monitor:
        self.asked.append(indices)
        if isinstance(self._monitor, Exception):
            raise self._monitor
        return self._monitor


def amd(tmp_path: Path, opener: Opener, count: int | None = None) -> ZeusMeter:
    driver = tmp_path / "kfd"
    driver.touch()
    return ZeusMeter(Target(device="cuda", count=count), opener, FakeNvml(), driver)


def window(meter: ZeusMeter, duration_s: float = 2.0) -> dict[str, Reading]:
    token = meter.start()
    return {reading.domain: reading for reading in meter.stop(token, 5.0, 5.0 + duration_s)}


def test_amds_gpus_are_read(tmp_path: Path) -> None:
    monitor = FakeMonitor({0: 30.0, 1: 40.0})
    meter = amd(tmp_path, Opener(monitor))
    assert (list(meter.domains), meter.reason) == (["gpu:amd-0", "gpu:amd-1"], "")
    for _ in range(2):
        found = window(meter)
        assert {domain: reading.energy_j for domain, reading in found.items()} == {
            "gpu:amd-0": 30.0,
            "gpu:amd-1": 40.0,
        }
    assert not monitor.windows
    spread_j = found["gpu:amd-0"].uncertainty_j
    assert spread_j == pytest.approx(30 / 2 * 0.1 / 6**0.5)
    # In a window shorter than a tick nearly all of it may be somebody else's.
    assert window(meter, 0.01)["gpu:amd-0"].uncertainty_j == pytest.approx(30 / 6**0.5)


def test_only_the_gpus_that_are_used_are_read(tmp_path: Path) -> None:
    opener = Opener(FakeMonitor({0: 30.0, 1: 40.0}))
    meter = amd(tmp_path, opener, 1)
    assert list(window(meter)) == ["gpu:amd-0"]
    assert opener.asked == [None, [0]]


def test_apples_chips_are_read() -> None:
    opener = Opener(FakeMonitor({}, FakeSoc()))
    meter = ZeusMeter(Target(device="mps"), opener)
    found = {domain: reading.energy_j for domain, reading in window(meter).items()}
    assert found == {"gpu:apple": 2.0, "cpu:0": 3.0}
    assert opener.asked == [[]]


def test_nvidias_gpus_have_the_names_that_nvml_gives_them(tmp_path: Path) -> None:
    opener = Opener(FakeMonitor({0: 30.0, 1: 40.0}))
    library = FakeNvml(Board(uuid="GPU-a"), Board(uuid="GPU-b"))
    meter = ZeusMeter(CUDA, opener, library, tmp_path)
    # So that both are never read at once; and zeus isn't opened for being looked at.
    assert (list(meter.domains), opener.asked) == (["gpu:GPU-a", "gpu:GPU-b"], [])
    assert window(meter)["gpu:GPU-b"].energy_j == 40.0
    assert opener.asked == [[0, 1]]


@pytest.mark.parametrize(
    ("energies", "words"),
    [
        ({0: 0.0, 1: 5.0}, "0 J"),
        ({0: -4294.0, 1: 5.0}, "was reset"),
        ({0: float("nan"), 1: 5.0}, "nan J"),
    ],
)
def test_what_cannot_be_is_no_figure_and_the_others_stay(
    tmp_path: Path, energies: dict[int, float], words: str
) -> None:
    found = window(amd(tmp_path, Opener(FakeMonitor(energies))))
    assert (found["gpu:amd-0"].energy_j, found["gpu:amd-0"].quality) == (None, "unmeasured")
    assert words in (found["gpu:amd-0"].reason or "")
    assert found["gpu:amd-1"].energy_j == 5.0


@pytest.mark.parametrize("fails", ["begin", "end"])
def test_an_error_of_zeus_is_a_reason(tmp_path: Path, fails: str) -> None:
    (reading,) = window(amd(tmp_path, Opener(FakeMonitor({0: 1.0}, fails=fails)))).values()
    assert reading.energy_j is None
    assert reading.reason == f"zeus could not {fails}: no {fails}"


def test_a_zeus_that_cannot_be_made_has_nothing(tmp_path: Path) -> None:
    meter = amd(tmp_path, Opener(OSError("no librocm")))
    assert (list(meter.domains), meter.reason) == ([], "zeus can't be used: no librocm")
    assert window(meter) == {}
    nvidia = ZeusMeter(CUDA, Opener(OSError("no")), FakeNvml(Board(uuid="GPU-a")), tmp_path)
    assert window(nvidia)["gpu:GPU-a"].reason == "zeus can't be used: no"


@pytest.mark.parametrize(
    ("target", "soc", "words"),
    [
        (Target(device="cpu"), None, "CPUs are read by the meter rapl"),
        (CUDA, None, "no AMD GPU"),
        (Target(device="mps"), None, "no Apple chip"),
        (Target(device="mps"), FakeSoc(gpu_mj=None, cpu_total_mj=None), "no Apple chip"),
    ],
)
def test_where_there_is_nothing_for_it_it_says_so(
    tmp_path: Path, target: Target, soc: FakeSoc | None, words: str
) -> None:
    meter = ZeusMeter(target, Opener(FakeMonitor({}, soc)), FakeNvml(), tmp_path / "kfd")
    assert not meter.domains
    assert words in meter.reason
    assert window(meter) == {}


def test_without_the_package_it_names_the_command() -> None:
    code = (
        "import sys\n"
        "sys.modules['zeus'] = None\n"
        "from pytest_llem.extensions import Target\n"
        "from pytest_llem.meters.zeus import ZeusMeter\n"
        "print(ZeusMeter(Target(device='mps')).reason)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == 'zeus isn\'t installed: pip install "pytest-llem[zeus]"'


@needs_zeus
def test_gpus_that_nvml_reads_are_left_to_it(nvml_rig: NvmlRig) -> None:
    nvml_rig(V100)
    meters, _ = choose_meters(experiment(), "cuda")
    assert [meter.name for meter in meters] == ["nvml"]
    named, _ = choose_meters(experiment(meters=("zeus",)), "cuda")
    assert [meter.domains for meter in named] == [meters[0].domains]
    for meter in (*meters, *named):
        meter.close()
