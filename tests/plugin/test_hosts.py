"""Which host a worker is on, and what becomes of its replacement when that is gone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import execnet
import pytest

from pytest_llem.plugin.hosts import STAND_IN, connecting, equip, host_of, lost, on_host

NOBODY = "ssh=nobody.invalid//chdir=/checkout//python=/venv/bin/python"


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


def test_a_worker_of_another_host_learns_its_name_and_paths_that_hold_there() -> None:
    config = cast(pytest.Config, SimpleNamespace(rootpath=Path("/here/project")))
    named = [Path("/here/project/benchmarks"), Path("/data/studies")]
    there, here = node("ssh=gpu2"), node("popen")
    assert equip(config, there, named)
    assert there.workerinput == {
        "llem_host": "gpu2",
        "llem_named": ["benchmarks", "/data/studies"],
    }
    assert not equip(config, here, named)
    assert here.workerinput == {}
    assert on_host(SimpleNamespace(node=there)) == " on gpu2"
    assert on_host(SimpleNamespace(node=here)) == ""


def test_a_worker_whose_host_is_gone_is_replaced_by_a_stand_in_while_others_work() -> None:
    gone = node(NOBODY)
    assert lost(gone, [gone, node("popen")]) == "nobody.invalid"
    spec = gone.gateway.spec
    assert (spec.popen, spec.ssh, spec.chdir, spec.python) == (True, None, None, None)
    assert equip(cast(pytest.Config, None), gone, []) is False
    assert gone.workerinput == {STAND_IN: "nobody.invalid"}


def test_with_nobody_else_left_the_replacement_takes_the_place_of_one_that_was() -> None:
    gone = node(NOBODY, f"{NOBODY}2", "popen//python=/venv2/bin/python//env:A=1")
    assert lost(gone, [gone]) == "nobody.invalid"
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
