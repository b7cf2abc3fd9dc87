"""Plans for tests, and what is printed of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pytest_llem.demands import RunnerSpec
from pytest_llem.reports.plan import StudyPlan, Turn, lines
from pytest_llem.runners.fetch import Supply
from pytest_llem.study.keys import Execution
from pytest_llem.study.schedule import schedule
from tests.builders import experiment

__all__ = ["DOCKER", "row", "study", "supply", "turn", "turns"]

_LOCAL = RunnerSpec(mode="local")
DOCKER = RunnerSpec(
    mode="docker", source="cli", image="vllm/vllm-openai:v0.32.0", image_source="default"
)


def turn(name: str = "a", cycle: int = 1, **fields: Any) -> Turn:
    """A measurement without idle phase and gap."""
    own = {
        key: fields.pop(key)
        for key in ("position", "gap_s", "thermal", "known_s", "shares_idle", "runner", "arm")
        if key in fields
    }
    base = Turn(
        experiment=experiment(id=name, **{"idle": "none"} | fields), cycle=cycle, runner=_LOCAL
    )
    return dataclasses.replace(base, **own)


def turns(names: str, execution: Execution, **fields: Any) -> list[Turn]:
    """All measurements of a study of experiments with names of one letter, in its order."""
    return [
        turn(name, cycle, position=names.index(name), **fields)
        for name, cycle in schedule(names, execution.cycles, execution.order, execution.seed)
    ]


def study(names: str = "ab", /, **fields: Any) -> StudyPlan:
    """A plan of everything in a study."""
    execution = fields.pop("execution", Execution(cycles=2))
    base = StudyPlan(
        name="s",
        file="s.study.yaml",
        execution=execution,
        in_study=len(names),
        selected=len(names),
        turns=turns(names, execution),
    )
    return dataclasses.replace(base, **fields)


def row(label: str, *plans: StudyPlan) -> list[str]:
    """The texts behind a label, each line of them, without indentation."""
    return _rows(list(lines(plans or [study()])), label)


def _rows(found: Sequence[str], label: str) -> list[str]:
    start = next((i for i, line in enumerate(found) if line.startswith(f"  {label} ")), None)
    if start is None:
        return []
    own = [found[start][15:]]
    for line in found[start + 1 :]:
        if not line.startswith(" " * 15):
            break
        own.append(line.strip())
    return own


def supply(**fields: Any) -> Supply:
    """A model of the hub."""
    base = Supply(model="org/m", revision=None, random=False, place="hub", backends=("pytorch",))
    return dataclasses.replace(base, **fields)
