"""Several hosts by xdist's ssh gateways: real sshd, networks and folders of their own."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_llem.reports.collected import Collected
from pytest_llem.reports.json_report import document
from tests.acceptance.conftest import HEADER, THIRD_PARTY, Project
from tests.builders import measurement, outcome
from tests.rig.fixtures import NvmlRig
from tests.rig.hosts.fixtures import MakeHost
from tests.rig.hosts.host import Host
from tests.rig.nvml import A100, H100, Rig

pytestmark = pytest.mark.once

CHECKOUT = "/tmp/checkout"
CPU = textwrap.dedent(HEADER)
GPU = CPU.replace("meters: [fixed]", "device: cuda").replace("idle: 0.01", "idle: none")
TWO = """\
execution: {cycles: 2}
experiments:
  - {id: a, expect: {peak_memory_bytes: {max: 1e12}}}
  - {id: b, expect: {peak_memory_bytes: {max: 1e12}}}
"""


class Hosts:
    """A project that is checked out on several hosts, this one included."""

    def __init__(self, project: Project, make: MakeHost) -> None:
        self.project = project
        self._make = make
        self.hosts: list[Host] = []

    def add(self, name: str, rig: Rig | None = None) -> Host:
        """A host with the fake backend and, should there be a rig, its GPUs."""
        environment = {
            "PYTHONPATH": str(THIRD_PARTY),
            "PYTEST_ADDOPTS": os.environ["PYTEST_ADDOPTS"],
            "DOCKER_HOST": "unix:///no-docker.sock",
        }
        shared = []
        if rig is not None:
            names = ("LD_LIBRARY_PATH", "SIMNVML_CONFIG", "SIMNVML_MARKS", "SIMNVML_STATS")
            environment |= {name: rig.environment()[name] for name in names}
            shared = [rig.config_path.parent]
        host = self._make(name, environment, shared)
        self.hosts.append(host)
        return host

    def write(self, name: str, text: str) -> None:
        """A file of the project, on all hosts."""
        path = self.project.pytester.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        for host in self.hosts:
            host.put(f"{CHECKOUT}/{name}", text)

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest with a worker on each host, and end it should it hang."""
        # One file for all: ssh takes a single one.
        config = self.project.pytester.path / "ssh_config"
        config.write_text("".join(host.ssh_config.read_text() for host in self.hosts))
        places = [
            f"--tx=ssh={host.name}//ssh_config={config}//chdir={CHECKOUT}//python={sys.executable}"
            for host in self.hosts
        ]
        return self.project.pytester.runpytest_subprocess(
            *("-d", *places, "-o", "testpaths=benchmarks", "--llem-gaps=none"),
            *arguments,
            timeout=300,
        )

    def when(self, host: Host, name: str, act: Callable[[], None]) -> threading.Thread:
        """Do something as soon as a file is in a host's checkout."""

        def wait() -> None:
            end = time.monotonic() + 200
            while not host.path(f"{CHECKOUT}/{name}").exists() and time.monotonic() < end:
                time.sleep(0.02)
            act()

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        return waiting


@pytest.fixture
def hosts(project: Project, make_host: MakeHost) -> Hosts:
    return Hosts(project, make_host)


def files(folder: Path) -> dict[str, bytes]:
    """Raw files and logs of a session, and what they hold."""
    found = [*folder.glob("raw/*"), *folder.glob("logs/benchmarks*")]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in found}


def test_results_raw_files_and_logs_come_back(hosts: Hosts) -> None:
    north, south = hosts.add("north"), hosts.add("south")
    hosts.write("pytest.ini", "[pytest]\n")
    hosts.write("benchmarks/s.study.yaml", CPU + TWO)
    # References are on this host alone.
    then = outcome(measurement=measurement(testbed={"device": "cpu", "cpu": "an older one"}))
    before = document(Collected([then], []), session="x", environment={}, exit_status=0)
    (hosts.project.pytester.path / "before.json").write_text(json.dumps(before))
    result = hosts.run(
        "--llem-json=report.json",
        "--llem-compare=before.json",
        "--llem-compare-fail=peak_memory_bytes:5%",
    )
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["a: gate skipped: *the testbed differs: CPU: an older one → *"])
    report = hosts.project.report()
    assert {m["experiment"]: m["place"]["host"] for m in report["measurements"]} in (
        {"a": "north", "b": "south"},
        {"a": "south", "b": "north"},
    )
    folder = hosts.project.pytester.path / "results" / report["session"]
    theirs: dict[str, bytes] = {}
    for host in (north, south):
        assert host.processes() == []
        theirs |= files(host.path(f"{CHECKOUT}/results/{report['session']}"))
    assert len(theirs) == 8
    assert files(folder) == theirs
    assert all((folder / made["raw"]).exists() for made in report["measurements"])
    # As if each had been measured here: what reads journals finds them.
    lines = hosts.project.journal()
    key = ("experiment", "cycle", "finished")
    assert sorted([made[k] for k in key] for made in lines) == sorted(
        [made[k] for k in key] for made in report["measurements"]
    )


DIES = """\
import pathlib, time

def pytest_runtest_setup(item):
    # The first second cycle on the far host is its last.
    worker = getattr(item.config, "workerinput", {})
    if worker.get("llem_host") == "far" and item.name == "c2":
        pathlib.Path("dying").touch()
        time.sleep(200)

def pytest_handlecrashitem(crashitem, report, sched):
    sched.mark_test_pending(crashitem)
"""


def test_a_host_that_dies_costs_its_test_and_the_rest_goes_on(
    hosts: Hosts, nvml_rig: NvmlRig
) -> None:
    far = hosts.add("far", nvml_rig(A100, opened=False))
    hosts.add("near", nvml_rig(H100, opened=False))
    hosts.write("pytest.ini", "[pytest]\n")
    hosts.write("conftest.py", DIES)
    hosts.write(
        "benchmarks/s.study.yaml", f"{GPU}fake: {{computes_on: cuda}}\nworker: forked\n{TWO}"
    )
    # As if its power were cut: nobody is told.
    unplugged = hosts.when(far, "dying", far.unplug)
    result = hosts.run("--llem-json=report.json", "-v")
    unplugged.join()
    report = hosts.project.report()
    made = {f"{m['experiment']}{m['cycle']}": m for m in report["measurements"]}
    # Its test is failed, and what is left of its experiment is measured on the other.
    (there,) = (name for name, one in made.items() if one["place"]["host"] == "far")
    lost = f"benchmarks/s.study.yaml::{there[0]}::c2"
    result.assert_outcomes(passed=5, failed=2)
    result.stdout.fnmatch_lines(
        [
            "far doesn't answer any more; it gets no more tests",
            f"{lost}: lost on far",
            f"worker * crashed while running '{lost}' on far",
        ]
    )
    assert f"{lost}: lost on far" in report["notices"]
    assert sorted(made) == ["a1", "a2", "b1", "b2"]
    # That is another GPU: cycles that no gate judges together.
    outcomes = {gate["experiment"]: gate["outcome"] for gate in report["gates"]}
    assert outcomes == {"a": "passed", "b": "passed"} | {there[0]: "failed"}
    (gate,) = (gate for gate in report["gates"] if gate["outcome"] == "failed")
    (verdict,) = gate["verdicts"]
    assert verdict["reason"].startswith(
        "cycles of different testbeds have no common figure: GPUs: c1 NVIDIA A100"
    )
    assert len(report["experiments"]) == 3
    folder = hosts.project.pytester.path / "results" / report["session"]
    assert all((folder / one["raw"]).exists() for one in made.values())


# --- what can't begin ----------------------------------------------------------------------


def test_a_path_for_another_host_is_an_error_with_the_way_that_works(project: Project) -> None:
    project.study("id: a\n")
    result = project.run("benchmarks", "-d", "--tx=popen//chdir=elsewhere")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    line = "ERROR: pytest-xdist can't hand the path 'benchmarks' to another host. Name what is to"
    result.stderr.fnmatch_lines(
        [f"{line} be collected by an ini setting, -o testpaths=benchmarks*"]
    )


def test_a_host_that_is_not_there_is_an_error_in_words(hosts: Hosts) -> None:
    hosts.write("pytest.ini", "[pytest]\n")
    hosts.add("far").close()
    result = hosts.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: far: ssh can't connect; see what this says: ssh far true"])
