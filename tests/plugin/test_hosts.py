"""Which host a worker is on, and what becomes of its replacement when that is gone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import execnet
import pytest

from pytest_llem.plugin.hosts import STAND_IN, Hosts, connecting, host_of, lost
from pytest_llem.plugin.wires import Wires

NOBODY = "ssh=-p 1 127.0.0.1//chdir=/checkout//python=/venv/bin/python"


def node(spec: str, *others: str) -> Any:
    """A worker as xdist's controller has it, among others."""
    specs = [execnet.XSpec(text) for text in (spec, *others)]
    group = {"gate": SimpleNamespace(hasreceiver=lambda: False)}
    manager = SimpleNamespace(specs=specs, group=group)
    gateway = SimpleNamespace(id="gw0", spec=specs[0])
    return SimpleNamespace(gateway=gateway, nodemanager=manager, workerinput={})


@pytest.mark.parametrize(
    ("spec", "host"),
    [
        ("popen", None),
        ("popen//python=python3.12", None),
        ("popen//chdir=/elsewhere", "localhost"),
        ("ssh=gpu2//python=/venv/bin/python", "gpu2"),
        ("ssh=-p 2222 -o ServerAliveInterval=5 me@gpu2", "gpu2"),
        ("popen//via=gate", "gate"),
        ("socket=gpu3:8888", "gpu3:8888"),
    ],
)
def test_a_host_is_called_as_the_user_calls_it(spec: str, host: str | None) -> None:
    assert host_of(node(spec).gateway) == host


class FakeConfig:
    """Of pytest's config what hosts use."""

    rootpath = Path("/here/project")

    def getoption(self, name: str) -> None:
        assert name == "llem_compare"


class FakeReporting:
    """What the controller knows of results; and it brings itself in."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def load(self, name: str) -> FakeReporting:
        assert name == "pytest_llem.plugin.reporting"
        return self

    def say(self, config: object, line: str) -> None:
        self.said.append(line)

    def unjudged(self, config: object, worker: str) -> str | None:
        return f"[{worker}]"


class FakeWires:
    """Notes what is told to whom."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def tell(self, node: Any, *message: str) -> None:
        self.told.append((node, *message))


@pytest.fixture
def hosts() -> Hosts:
    return Hosts(cast(pytest.Config, FakeConfig()), cast(Wires, FakeWires()), FakeReporting())


def test_a_worker_of_another_host_learns_its_name_and_paths_that_hold_there(hosts: Hosts) -> None:
    named = [Path("/here/project/benchmarks"), Path("/data/studies")]
    there, here = node("ssh=gpu2"), node("popen")
    hosts.equip(there, named)
    hosts.equip(here, named)
    assert there.workerinput == {
        "llem_host": "gpu2",
        "llem_named": ["benchmarks", "/data/studies"],
        "llem_known": [],
    }
    assert here.workerinput == {}


def test_a_test_is_lost_on_a_host(hosts: Hosts) -> None:
    for spec, text in (("ssh=gpu2", "worker crashed on gpu2"), ("popen", "worker crashed")):
        worker = node(spec)
        hosts.equip(worker, [])
        report = SimpleNamespace(node=worker, longrepr="worker crashed")
        hosts.pytest_handlecrashitem("a::c1", cast(pytest.TestReport, report))
        assert report.longrepr == text
    assert cast(Any, hosts)._reporting.said == ["a::c1: lost on gpu2"]


def test_what_a_lost_worker_measured_is_told_to_those_that_can_not_read_it(hosts: Hosts) -> None:
    gone, near, far = node(NOBODY), node("popen"), node("ssh=gpu2")
    for worker in (gone, near, far):
        hosts.equip(worker, [])
        worker.shutting_down = False
    hosts.scheduler = SimpleNamespace(nodes=[gone, near, far], sends_stand_ins_home=True)
    hosts.pytest_testnodedown(gone, "Not properly terminated")
    text = "127.0.0.1 doesn't answer any more; it gets no more tests"
    assert cast(Any, hosts)._reporting.said == [text]
    wires = cast(Any, hosts)._wires
    assert wires.told == [(far, "known", "[gw0]")]
    later = node("ssh=gpu3")
    hosts.equip(later, [])
    assert later.workerinput["llem_known"] == ["[gw0]"]


@pytest.mark.parametrize(("error", "ours"), [(None, True), ("crashed", False)])
def test_workers_that_end_and_schedulers_of_others_are_left_alone(
    hosts: Hosts, error: str | None, ours: bool
) -> None:
    gone = node(NOBODY)
    hosts.scheduler = SimpleNamespace(nodes=[gone], **({"sends_stand_ins_home": 1} if ours else {}))
    hosts.pytest_testnodedown(gone, error)
    assert gone.gateway.spec.ssh == "-p 1 127.0.0.1"


def test_a_worker_whose_host_is_gone_is_replaced_by_a_stand_in_while_others_work(
    hosts: Hosts,
) -> None:
    gone = node(NOBODY)
    assert lost(gone, [node("popen")]) == "127.0.0.1"
    spec = gone.gateway.spec
    assert (spec.popen, spec.ssh, spec.chdir, spec.python) == (True, None, None, None)
    hosts.equip(gone, [])
    assert gone.workerinput == {STAND_IN: "127.0.0.1"}


def test_with_nobody_else_left_the_replacement_takes_the_place_of_one_that_was() -> None:
    gone = node(NOBODY, f"{NOBODY}2", "popen//python=/venv2/bin/python//env:A=1")
    assert lost(gone, []) == "127.0.0.1"
    spec = gone.gateway.spec
    assert (spec.popen, spec.ssh, spec.python, spec.env) == (
        *(True, None, "/venv2/bin/python"),
        {"A": "1"},
    )
    assert getattr(spec, STAND_IN) is None


def test_a_worker_behind_a_gateway_that_is_gone_is_gone_too() -> None:
    assert lost(node("popen//via=gate"), []) == "gate"


@pytest.mark.parametrize("spec", ["popen", "popen//chdir=/elsewhere"])
def test_a_worker_of_this_host_is_replaced_as_ever(spec: str) -> None:
    crashed = node(spec)
    assert lost(crashed, []) is None
    assert crashed.gateway.spec == execnet.XSpec(spec)


def test_errors_of_others_pass() -> None:
    with pytest.raises(ValueError, match="something else"), connecting():
        raise ValueError("something else")
    with pytest.raises(LookupError), connecting():
        raise LookupError("gpu2")
    with pytest.raises(pytest.UsageError, match="gpu2: ssh can't connect"), connecting():
        raise execnet.HostNotFound("gpu2")
