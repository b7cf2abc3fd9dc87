"""Studies written for a test: what becomes of them, and what is said about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.errors import StudyError
from pytest_llem.study.header import Surroundings
from pytest_llem.study.load import Planned, Study, load

__all__ = ["NAME", "SHOWN", "ids", "only", "problems", "study"]

NAME = "x.study.yaml"
SHOWN = f"bench/{NAME}"


def study(folder: Path, text: str, surroundings: Surroundings = Surroundings()) -> Study:
    """The study that a text is."""
    path = folder / NAME
    path.write_text(text, encoding="utf-8")
    return load(path, SHOWN, surroundings)


def problems(folder: Path, text: str, surroundings: Surroundings = Surroundings()) -> list[str]:
    """What is wrong with a text: ``line: what`` each, with the file's name where it is another."""
    with pytest.raises(StudyError) as caught:
        study(folder, text, surroundings)
    return [problem.removeprefix(f"{SHOWN}:") for problem in caught.value.problems]


def only(found: Study) -> Planned:
    """The experiment of a study that has just one."""
    (planned,) = found.experiments
    return planned


def ids(found: Study) -> list[str]:
    """What the experiments of a study are called, in order."""
    return [planned.experiment.id for planned in found.experiments]
