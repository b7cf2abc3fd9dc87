"""``--llem-ab``: the base that experiments are compared with, measured in turns with them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import pytest

from pytest_llem.demands import RunnerSpec
from pytest_llem.errors import RunnerError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import known_backends
from pytest_llem.plugin.choices import Choices
from pytest_llem.runners.interpreters import located
from pytest_llem.study.load import Study
from pytest_llem.study.schema import nearest

__all__ = ["base_of", "bases"]

_OPTION = "--llem-ab"
_BASES = pytest.StashKey[Mapping[str, RunnerSpec]]()
_PAIR = re.compile(r"(?P<backend>[A-Za-z0-9_.-]+)=(?P<runner>.*)", re.DOTALL)


def bases(config: pytest.Config) -> Mapping[str, RunnerSpec]:
    """The base of each backend that has its own, and under no name that of all others.

    Raises:
        pytest.UsageError: for what is no runner, and beside ``--llem-compare``.
    """
    if _BASES not in config.stash:
        given: Sequence[str] = config.getoption("llem_ab") or ()
        if given and config.getoption("llem_compare"):
            raise pytest.UsageError(
                f"{_OPTION} compares with a base that is measured in this session, --llem-compare"
                " with earlier sessions: give one of the two"
            )
        try:
            config.stash[_BASES] = dict(_read(config, text) for text in given)
        except RunnerError as error:
            raise pytest.UsageError(f"{_OPTION}: {error}") from error
    return config.stash[_BASES]


def _read(config: pytest.Config, text: str) -> tuple[str, RunnerSpec]:
    """``[BACKEND=]RUNNER``."""
    pair = _PAIR.fullmatch(text)
    backend, value = (pair["backend"], pair["runner"]) if pair else ("", text)
    if backend and backend not in known_backends():
        hint = nearest(backend, known_backends())
        raise RunnerError(f"{text!r}: unknown backend {backend!r}; {hint}")
    others = Choices(config).other_runners
    try:
        spec = RunnerSpec.parse(value, _OPTION, others)
    except RunnerError as error:
        raise RunnerError(str(error).removeprefix(f"{_OPTION}: ")) from None
    if spec.mode == "local" and spec.argument is not None:
        spec = dataclasses.replace(
            spec, argument=located(spec.argument, config.invocation_params.dir)
        )
    return backend, dataclasses.replace(spec, source="ab")


def base_of(choices: Choices, study: Study, experiment: Experiment) -> RunnerSpec | None:
    """Where the base of an experiment runs; None where it has none.

    Raises:
        RunnerError: when it is to run in a container and there is no image.
    """
    known = bases(choices.config)
    spec = known.get(experiment.backend) or known.get("")
    # An image that is named here is what the comparison is about, whatever the study says.
    if spec is None or spec.mode != "docker" or spec.image is not None:
        return spec
    try:
        return choices.with_image(spec, study, experiment)
    except RunnerError:
        name = experiment.backend
        text = f"docker: there is no image for backend {name}; name one: {name}=docker:<image>"
        raise RunnerError(text) from None
