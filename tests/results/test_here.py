"""Whether this host is an earlier measurement's testbed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_llem.demands import RunnerSpec
from pytest_llem.gpus import Found, Gpu
from pytest_llem.results.here import Here
from tests.builders import measurement, outcome

FACTS = {"cpu": "Xeon", "cpus": 8, "system": "Linux x86_64"}
CPU = {"device": "cpu", **FACTS}
GPU = {**CPU, "device": "cuda", "gpus": ["H100"], "power_limits_w": [700.0], "driver_branch": "570"}


def gpu(name: str, limit_w: float | None = 700.0) -> Gpu:
    return Gpu(index=0, uuid="GPU-1", name=name, memory_bytes=None, power_limit_w=limit_w)


def differs(
    then: Mapping[str, Any],
    *,
    mode: str = "local",
    remote: bool = False,
    linux: bool = True,
    facts: Mapping[str, Any] = FACTS,
    found: Found | None = None,
    driver: str = "570.1",
) -> list[str]:
    here = Here(
        facts=lambda: facts,
        find=lambda: found or Found(gpus=(gpu("A100", None), gpu("H100"))),
        greet=lambda: {"driver": driver} if driver else {"reason": "no driver"},
        linux=linux,
    )
    image = "x" if mode == "docker" else None
    made = outcome(
        runner=RunnerSpec(mode=mode, image=image),
        place={"remote": remote},
        measurement=measurement(testbed=then),
    )
    return here.differs(made)


@pytest.mark.parametrize("then", [CPU, GPU, {}])
def test_the_same_host_does_not_differ(then: dict[str, Any]) -> None:
    assert differs(then) == []


def test_this_host_is_this_host() -> None:
    made = outcome(measurement=measurement(testbed=dict(Here().facts())))
    assert Here().differs(made) == []


def test_what_differs_is_named_then_and_now() -> None:
    facts = {"cpu": "EPYC", "cpus": 64, "system": "Linux aarch64"}
    assert differs(CPU, facts=facts) == [
        "CPU: Xeon → EPYC",
        "CPUs: 8 → 64",
        "system: Linux x86_64 → Linux aarch64",
    ]


@pytest.mark.parametrize(
    ("found", "driver", "expected"),
    [
        (Found(gpus=(gpu("A100"),)), "570.1", ["GPU: H100 → A100"]),
        (Found(reason="no NVIDIA driver"), "", ["GPU: H100 → no NVIDIA driver"]),
        (Found(gpus=(gpu("H100", 350.0),)), "570.1", ["power limit: 700 W → 350 W"]),
        (Found(gpus=(gpu("H100", 700.4),)), "570.99.2", []),
        (Found(gpus=(gpu("H100", None),)), "570.1", []),
        (None, "580.2", ["driver: 570 → 580"]),
        (None, "", ["driver: 570 → unknown"]),
    ],
)
def test_gpus(found: Found | None, driver: str, expected: list[str]) -> None:
    assert differs(GPU, found=found, driver=driver) == expected


def test_a_container_may_have_fewer_cpus_than_its_host() -> None:
    facts = {**FACTS, "cpus": 64}
    assert differs(CPU, mode="docker", facts=facts) == []
    assert differs(CPU, mode="docker", facts={**facts, "cpu": "EPYC"}) == ["CPU: Xeon → EPYC"]


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"mode": "docker", "remote": True},
        {"mode": "docker", "linux": False},
        {"mode": "slurm"},
    ],
)
def test_of_other_hosts_nothing_is_told(elsewhere: dict[str, Any]) -> None:
    assert differs(GPU, facts={"cpu": "M4", "cpus": 1, "system": "Darwin"}, **elsewhere) == []
