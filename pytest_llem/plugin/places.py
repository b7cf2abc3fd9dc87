"""Between selection and the first measurement: what can't be met here, and what needs isolation.

Collection touches neither GPUs nor Docker, so requirements are looked at here; and which backends
share a study is known only when the user's selection is.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pytest_llem.errors import LlemError, RunnerError
from pytest_llem.extensions import BACKENDS, find, names
from pytest_llem.gpus import Found, Gpu, look
from pytest_llem.plugin.collect import ExperimentNode, LlemItem, MeasurementItem
from pytest_llem.plugin.scheduler import out_of_order
from pytest_llem.plugin.session import KEY, LlemSession
from pytest_llem.runners import resolve
from pytest_llem.runners.docker.settings import given, keeps_engine
from pytest_llem.study.keys import Requires

__all__ = ["settle"]


def settle(session: pytest.Session) -> None:
    """Find unmet requirements, move studies of several backends to containers, and say so."""
    items = [item for item in session.items if isinstance(item, LlemItem)]
    if not items:
        return
    llem = session.config.stash[KEY]
    for item in items:
        if isinstance(item, MeasurementItem):
            item.experiment.selected.setdefault(item.arm, []).append(item.cycle)
    host = _Host(llem)
    studies: dict[Path, list[ExperimentNode]] = {}
    for node in dict.fromkeys(item.experiment for item in items):
        if node.planned.requires is not None:
            node.unmet = "; ".join(host.lacks(node, node.planned.requires))
        if not node.unmet and node.get_closest_marker("skip") is None:
            studies.setdefault(node.study.path, []).append(node)
    for nodes in studies.values():
        _isolate(llem, nodes)
    _say(llem, [node for nodes in studies.values() for node in nodes])
    for name in out_of_order(items):
        llem.notice(f"{name}: another plugin changed the order of the measurements")


def _isolate(llem: LlemSession, nodes: Sequence[ExperimentNode]) -> None:
    """Move a study's experiments to containers where it has several backends."""
    backends = {node.planned.experiment.backend for node in nodes}
    if len(backends) < 2:
        return
    moved = False
    for node in nodes:
        experiment = node.planned.experiment
        detected = llem.choices.detected
        spec = resolve.elevate(node.runner, detected, gpu=experiment.device != "cpu")
        if spec is None:
            node.refused = resolve.refused(backends)
        elif spec is not node.runner:
            moved = True
            try:
                node.runner = llem.choices.with_image(spec, node.study, experiment)
            except RunnerError as error:
                node.refused = str(error)
    if moved:
        llem.notice(resolve.elevated(backends))


def _say(llem: LlemSession, nodes: Sequence[ExperimentNode]) -> None:
    """What a user should know of the runners, each line once."""
    sources = {node.runner.source for node in nodes if not node.refused}
    if "auto_detected" in sources:
        llem.notice(resolve.DETECTED)
    if "default" in sources and llem.choices.detected.gpu is not None:
        llem.notice(resolve.NOT_DETECTED)
    used = {node.runner_of(arm).mode for node in nodes if not node.refused for arm in node.arms}
    if {"local", "docker"} <= used:
        llem.notice(resolve.MIXED)
    for node in nodes:
        contained = "docker" in {node.runner_of(arm).mode for arm in node.arms}
        skipped_by = contained and llem.choices.skips_preflight(node.study)
        if skipped_by and not node.refused:
            llem.notice(f"Docker pre-flight skipped ({skipped_by}).")
        if node.base is not None and _keeps(llem, node):
            llem.notice(
                f"{node.shown}: --llem-ab: no engine is kept: as two of them don't share a device,"
                " each measurement of base and head loads its own (worker: fresh)"
            )


def _keeps(llem: LlemSession, node: ExperimentNode) -> bool:
    """Whether measurements of an experiment would have shared engines."""
    contained = "docker" in {node.runner_of(arm).mode for arm in node.arms}
    kept = contained and keeps_engine(given(*llem.choices.containers(node.study)))
    return kept or node.planned.experiment.worker == "reuse"


class _Host:
    """What this host has, looked at when first asked for."""

    def __init__(self, llem: LlemSession) -> None:
        self._llem = llem

    @functools.cached_property
    def _found(self) -> Found:
        return look()

    def lacks(self, node: ExperimentNode, asked: Requires) -> Iterator[str]:
        """Why a measurement can't be made here, a reason for each requirement."""
        if asked.docker and not self._containers():
            yield "requires docker, and no daemon of this host was found"
        for backend in asked.backends:
            # What another Python or a container has, only its worker can tell.
            here = node.runner.mode != "docker" and node.runner.argument is None
            if here and (missing := _missing(backend)):
                yield f"requires backend {backend}: {missing}"
        wanted = (asked.gpus, asked.gpu_memory_bytes, asked.gpu_name, asked.power_limit_w)
        if any(value is not None for value in wanted):
            yield from _lacks_gpus(asked, self._found)

    def _containers(self) -> bool:
        detected = self._llem.choices.detected
        return detected.usable or detected.remote is not None


def _missing(backend: str) -> str:
    """Why a backend's engine can't be used; empty where it can."""
    if backend not in names(BACKENDS):
        return "no installed package brings it"
    try:
        found = find(BACKENDS, backend)()
    except LlemError as error:
        return str(error)
    absent = [name for name, version in found.versions().items() if version is None]
    return f"{' and '.join(absent)} not installed; {found.install}" if absent else ""


def _lacks_gpus(asked: Requires, found: Found) -> Iterator[str]:
    """How the GPUs of this host fall short."""
    count = asked.gpus or 1
    if len(found.gpus) < count:
        because = f" ({found.reason})" if found.reason else ""
        yield f"requires {_counted(count)}, {len(found.gpus)} found{because}"
        return
    fitting = [gpu for gpu in found.gpus if not list(_shortfalls(asked, gpu))]
    if len(fitting) < count:
        other = next(gpu for gpu in found.gpus if gpu not in fitting)
        reasons = f"GPU {other.index} {' and '.join(_shortfalls(asked, other))}"
        yield f"requires {_counted(count)} that fit, {len(fitting)} found: {reasons}"


def _counted(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _shortfalls(asked: Requires, gpu: Gpu) -> Iterator[str]:
    if asked.gpu_name is not None and asked.gpu_name.lower() not in gpu.name.lower():
        yield f"is a {gpu.name}, not a {asked.gpu_name}"
    memory = asked.gpu_memory_bytes
    if memory is not None and (gpu.memory_bytes is None or gpu.memory_bytes < memory):
        yield f"has {gpu.memory_bytes} bytes of memory, not {memory}"
    limit = asked.power_limit_w
    if limit is not None and (gpu.power_limit_w is None or abs(gpu.power_limit_w - limit) > 1):
        yield f"has a power limit of {gpu.power_limit_w} W, not {limit:g} W"
