"""A study's marks as pytest's own."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from pytest_llem.errors import StudyError
from pytest_llem.experiment import Experiment
from pytest_llem.study.load import Planned
from pytest_llem.study.sweep import Spot

__all__ = ["Mark", "Marks", "measurement_mark"]

Mark = pytest.MarkDecorator


@functools.cache
def measurement_mark(backend: str, runner: str, cycle: int, gpus: int) -> Mark:
    """The plugin's own mark; measurements of equal arguments share one."""
    return pytest.mark.llem(backend=backend, runner=runner, cycle=cycle, gpus=gpus)


class Marks:
    """Makes the marks that a study gives to its experiments."""

    def __init__(self) -> None:
        """Begin with none made."""
        self._made: dict[str, Mark] = {}

    def of(self, planned: Planned) -> list[Mark]:
        """The marks of an experiment: ``marks``, ``skip`` and ``xfail``.

        Raises:
            StudyError: when pytest refuses a mark.
        """
        marks = []
        spot = planned.marks_at or planned.spot
        for given in planned.experiment.marks:
            arguments = None
            if isinstance(given, str):
                name = given
            else:
                name, arguments = next(iter(given.items()))
            marks.append(_called(self._mark(name, spot), arguments))
        return [*marks, *_reasons(planned.experiment)]

    def _mark(self, name: str, spot: Spot) -> Mark:
        if name in self._made:
            return self._made[name]
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                mark: Mark = getattr(pytest.mark, name)
            for warning in caught:
                # As pytest would, but of the study's line and not of this plugin's.
                text, kind = str(warning.message), warning.category
                warnings.warn_explicit(text, kind, str(spot.document.path), spot.line)
        except (pytest.fail.Exception, Warning) as error:
            raise StudyError([f"{spot}: marks: {error}"]) from None
        self._made[name] = mark
        return mark


def _called(mark: Mark, arguments: Any) -> Mark:
    """``name: 3``, ``name: [1, 2]`` or ``name: {reason: text}``."""
    if arguments is None:
        return mark
    if isinstance(arguments, Mapping):
        return mark.with_args(**arguments)
    if isinstance(arguments, Sequence) and not isinstance(arguments, str):
        return mark.with_args(*arguments)
    return mark.with_args(arguments)


def _reasons(experiment: Experiment) -> Iterator[Mark]:
    if experiment.skip:
        yield pytest.mark.skip(reason=experiment.skip)
    if experiment.xfail:
        yield pytest.mark.xfail(reason=experiment.xfail)
