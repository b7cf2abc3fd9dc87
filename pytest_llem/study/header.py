"""What a study says about itself: name, execution, runners, images, containers, the list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pytest_llem.demands import RunnerSpec
from pytest_llem.errors import RunnerError
from pytest_llem.study.keys import DockerSettings, Execution, Gaps
from pytest_llem.study.problems import Problems
from pytest_llem.study.schema import nearest, validate
from pytest_llem.study.sweep import Source, Spot, merge
from pytest_llem.study.yaml_lines import Document, Key

__all__ = ["Header", "Surroundings", "header", "resting"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What holds for all studies of a session.

    Attributes:
        backend: of experiments that name none.
        execution: what the user's settings say for studies that don't.
        warmup: the same; None where they don't say.
        gaps: longest rests of the mode ``thermal``.
        over_execution: what the command line says, above every study.
        over_warmup: the same.
        runners: names of runners besides ``local`` and ``docker``.
    """

    backend: str = "pytorch"
    execution: Mapping[str, Any] = field(default_factory=dict)
    warmup: Any = None
    gaps: Gaps = Gaps()
    over_execution: Mapping[str, Any] = field(default_factory=dict)
    over_warmup: Any = None
    runners: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A study's own keys, validated; what was wrong has its default.

    Attributes:
        gaps: what ``execution.gaps`` comes to.
        experiments: the entries of the list, each with its place.
    """

    name: str
    execution: Execution
    gaps: Gaps
    runners: Mapping[str, str]
    images: Mapping[str, str]
    docker: DockerSettings
    experiments: tuple[Source, ...]


def header(
    document: Document, surroundings: Surroundings, backends: Sequence[str], problems: Problems
) -> Header:
    """Read a study's own keys.

    Args:
        document: the study.
        surroundings: defaults below and options above what it says.
        backends: names of backends.
        problems: takes what is wrong.
    """
    reader = _Reader(document, backends, problems)
    said = merge(dict(surroundings.execution), merge({}, reader.mapping("execution")))
    if isinstance(given := said.get("gaps"), dict):
        said["gaps"] = merge(_gap_defaults(given, surroundings.gaps), given)
    execution = reader.record(Execution, "execution", merge(said, surroundings.over_execution))
    return Header(
        name=reader.name(),
        execution=execution,
        gaps=resting(execution.gaps, surroundings.gaps),
        runners=reader.by_backend("runners", _runner(surroundings.runners)),
        images=reader.by_backend("images", _image),
        docker=reader.record(DockerSettings, "docker", reader.mapping("docker")),
        experiments=reader.experiments(),
    )


def resting(said: Any, thermal: Gaps) -> Gaps:
    """What a value of ``execution.gaps`` comes to."""
    if isinstance(said, Gaps):
        return said
    if said == "thermal":
        return thermal
    seconds = 0.0 if said == "none" else float(said)
    return Gaps(between_experiments=seconds, between_cycles=seconds, mode="fixed")


def _gap_defaults(given: Mapping[str, Any], thermal: Gaps) -> dict[str, Any]:
    """What a study leaves out of its gaps: the user's longest rests, or nothing to wait for."""
    if given.get("mode") == "fixed":
        return {"between_experiments": 0.0, "between_cycles": 0.0}
    return {
        "between_experiments": thermal.between_experiments,
        "between_cycles": thermal.between_cycles,
    }


def _runner(others: Sequence[str]) -> Callable[[str], str]:
    def read(value: str) -> str:
        return RunnerSpec.parse(value, "study", others).value

    return read


def _image(value: str) -> str:
    if not value.strip():
        raise RunnerError("study: should be the name of an image")
    return value.strip()


class _Reader:
    """Reads keys of one document."""

    def __init__(self, document: Document, backends: Sequence[str], problems: Problems) -> None:
        self._document = document
        self._backends = backends
        self._problems = problems

    def _problem(self, key: Key, text: str) -> None:
        self._problems.add(Spot(self._document, key), text)

    def mapping(self, name: str) -> dict[str, Any]:
        """A key that holds a mapping; empty where it doesn't."""
        value = self._document.data.get(name)
        if value is None:
            return {}
        if isinstance(value, dict):
            return value
        self._problem((name,), f"should be a mapping, not {value!r:.60}")
        return {}

    def record(self, cls: Callable[..., _T], name: str, data: Mapping[str, Any]) -> _T:
        """A key's mapping as a record; nulls count as not given."""
        if not data:
            return cls()
        found, wrong = validate(cls, merge({}, data))
        for key, text in wrong:
            self._problem((name, *key), text)
        return cls() if found is None else found

    def name(self) -> str:
        """The study's name; that of its file up to the first dot where it has none."""
        name = self._document.data.get("name")
        if name is None:
            return self._document.path.name.split(".")[0]
        if not isinstance(name, str):
            self._problem(("name",), f"should be text, not {name!r:.60}")
        elif not name.strip():
            self._problem(("name",), "should not be empty")
        return str(name)

    def by_backend(self, name: str, read: Callable[[str], str]) -> dict[str, str]:
        """A mapping of backends to texts."""
        found = {}
        for backend, value in self.mapping(name).items():
            if backend not in self._backends:
                hint = nearest(backend, self._backends)
                self._problem((name, backend), f"unknown backend; {hint}")
            elif value is not None and not isinstance(value, str):
                self._problem((name, backend), f"should be text, not {value!r:.60}")
            elif value is not None:
                try:
                    found[backend] = read(value)
                except RunnerError as error:
                    self._problem((name, backend), str(error).partition(": ")[2])
        return found

    def experiments(self) -> tuple[Source, ...]:
        """The entries of the list."""
        value = self._document.data.get("experiments")
        if value is None:
            return ()
        if not isinstance(value, list):
            self._problem(("experiments",), f"should be a list, not {value!r:.60}")
            return ()
        found = []
        for index, item in enumerate(value):
            if isinstance(item, dict):
                found.append(Source(self._document, ("experiments", index), (), item))
            else:
                self._problem(("experiments", index), f"should be a mapping, not {item!r:.60}")
        return tuple(found)
