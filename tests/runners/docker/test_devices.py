"""How GPUs are asked for: which way first, and when another one is tried."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llem.errors import ContainerError
from pytest_llem.runners.docker.devices import gpu_requests, started

CDI = {"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}], "CDISpecDirs": ["/c"]}
HOOK = {"Runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}


def drivers(ways: list[list[Any]]) -> list[str]:
    return [request["Driver"] or "legacy" for [request] in ways]


@pytest.mark.parametrize(
    ("info", "order"),
    [
        ({}, ["legacy"]),
        ({"Runtimes": None, "DiscoveredDevices": None}, ["legacy"]),
        (HOOK, ["legacy"]),
        (HOOK | CDI, ["legacy", "cdi"]),
        (CDI, ["cdi", "legacy"]),
        ({"CDISpecDirs": ["/etc/cdi"]}, ["legacy", "cdi"]),
        ({"DiscoveredDevices": [{"ID": "vendor.example/nic=0"}]}, ["legacy"]),
    ],
)
def test_the_likelier_way_comes_first(info: dict[str, Any], order: list[str]) -> None:
    assert drivers(gpu_requests(info)) == order


def test_exactly_the_gpus_that_were_leased_are_asked_for() -> None:
    [legacy], [cdi] = gpu_requests(HOOK | CDI, (1, 3))
    assert legacy["DeviceIDs"] == ["1", "3"]
    assert legacy["Count"] == 0
    assert legacy["Capabilities"] == [["gpu", "compute", "utility"]]
    assert cdi["DeviceIDs"] == ["nvidia.com/gpu=1", "nvidia.com/gpu=3"]


def test_all_gpus_are_asked_for_without_their_numbers() -> None:
    [legacy], [cdi] = gpu_requests(HOOK | CDI, None)
    assert legacy["Count"] == -1
    assert not legacy["DeviceIDs"]
    assert cdi["DeviceIDs"] == ["nvidia.com/gpu=all"]


def test_an_experiment_on_the_cpu_asks_for_none() -> None:
    assert gpu_requests(HOOK | CDI, ()) == [[]]


def refusal(cause: str) -> ContainerError:
    return ContainerError(cause, phase="start", cause=cause, fix="mend it")


@pytest.mark.parametrize(
    ("causes", "tries", "told"),
    [
        ([None], 1, None),
        (["no toolkit", None], 2, None),
        (["toolkit removed", None], 2, None),
        # The first way is the one to mend where there is no second one either.
        (["no toolkit", "no cdi"], 2, "no toolkit"),
        (["no toolkit", "toolkit removed"], 2, "no toolkit"),
        # The second way works, and the GPUs don't.
        (["no toolkit", "no cdi device"], 2, "no cdi device"),
        (["driver too old", None], 1, "driver too old"),
        (["no command", None], 1, "no command"),
    ],
)
def test_another_way_is_tried_only_where_it_may_help(
    causes: list[str | None], tries: int, told: str | None
) -> None:
    tried: list[list[Any]] = []

    def start(requests: list[Any]) -> str:
        tried.append(requests)
        if cause := causes[len(tried) - 1]:
            raise refusal(cause)
        return "started"

    ways = gpu_requests(HOOK | CDI)[: len(causes)]
    if told is None:
        assert started(ways, start) == "started"
    else:
        with pytest.raises(ContainerError) as caught:
            started(ways, start)
        assert caught.value.cause == told
    assert len(tried) == tries
