"""What a worker of pytest-xdist tells its controller, which may have other GPUs, or none."""

from __future__ import annotations

import collections
from collections.abc import Hashable, Iterable
from typing import Any

import pytest

from pytest_llem.gpus import Found, look
from pytest_llem.nvml import driver_is_there
from pytest_llem.plugin.collect import ExperimentNode, LlemItem
from pytest_llem.plugin.work import ALONE
from pytest_llem.runners.docker.settings import given, keeps_engine
from pytest_llem.study.identity import engine_key

__all__ = ["taken"]


def taken(session: pytest.Session) -> dict[str, Any]:
    """GPUs of this host, by the names that leases have for them, and who needs how many.

    Returns:
        ``gpus``; ``needs``, id of an experiment to the number of GPUs, 0 for a host alone;
        ``default``, that of all that aren't among them; ``engines``, id of an experiment to the
        number of the engine that is kept for it.
    """
    nodes = dict.fromkeys(item.experiment for item in session.items if isinstance(item, LlemItem))
    found = Found()
    if any(node.planned.experiment.device in {"auto", "cuda"} for node in nodes):
        found = look() if driver_is_there() else found
    boards = list(dict.fromkeys(gpu.board for gpu in found.gpus))
    needs = {node.nodeid: _need(node, len(boards)) for node in nodes}
    common = collections.Counter(needs.values()).most_common(1)
    default = common[0][0] if common else ALONE
    return {
        "gpus": boards,
        "default": default,
        "needs": {name: need for name, need in needs.items() if need != default},
        "engines": _engines(nodes),
    }


def _engines(nodes: Iterable[ExperimentNode]) -> dict[str, int]:
    """Numbers of the engines that are kept, equal for experiments that may have the same one."""
    numbers: dict[Hashable, int] = {}
    found = {}
    for node in nodes:
        settings = given(*node.llem.choices.containers(node.study))
        contained = node.runner.mode == "docker" and keeps_engine(settings)
        if node.planned.experiment.worker == "reuse" or contained:
            key = (engine_key(node.planned.experiment, node.runner), node.planned.experiment.worker)
            found[node.nodeid] = numbers.setdefault(key, len(numbers) + 1)
    return found


def _need(node: ExperimentNode, boards: int) -> int:
    experiment = node.planned.experiment
    elsewhere = node.llem.choices.detected.remote and node.runner.mode == "docker"
    if experiment.device not in {"auto", "cuda"} or not boards or elsewhere:
        # What a daemon elsewhere has isn't known before it is asked.
        return ALONE
    return experiment.devices
