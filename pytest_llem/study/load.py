"""A study file to a Study; every problem of the file at once, each with its line."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llem.errors import RunnerError, StudyError
from pytest_llem.extensions import BACKENDS, names
from pytest_llem.metrics import METRICS
from pytest_llem.records import Execution, Experiment, Limit, RunnerSpec
from pytest_llem.study.schema import nearest, validate
from pytest_llem.study.sweep import (
    NAME,
    Point,
    digest,
    expand,
    merge,
    name_of,
    resolve_model,
)
from pytest_llem.study.yaml_lines import Document, Key, read

__all__ = ["Planned", "Study", "load"]

_STUDY_KEYS = {"name", "sweep", "experiments", "execution", "runners", "expect"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An experiment of a study, ready to be measured.

    Attributes:
        experiment: with the model as an absolute directory or a hub id.
        digest: of the experiment.
        limits: what its gate judges.
        line: of the study file, where the experiment is written.
    """

    experiment: Experiment
    digest: str
    limits: tuple[Limit, ...]
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study file, validated."""

    path: Path
    name: str
    execution: Execution
    runners: Mapping[str, str]
    experiments: tuple[Planned, ...]


def load(path: Path, shown: str) -> Study:
    """Read and validate a study file.

    Args:
        path: of the file.
        shown: how messages name it.

    Raises:
        StudyError: with every problem of the file.
    """
    return _Loader(read(path, shown), shown).study()


class _Loader:
    """Collects the problems of one file while making a study of it."""

    def __init__(self, document: Document, shown: str) -> None:
        self._document = document
        self._shown = shown
        self._problems: list[tuple[int, str]] = []
        self._backends = names(BACKENDS)

    def study(self) -> Study:
        data = self._document.data
        self._refuse_unknown_keys(data)
        execution, problems = validate(Execution, self._mapping("execution"))
        for key, text in problems:
            self._problem(("execution", *key), text)
        study = Study(
            path=self._document.path,
            name=self._name(data),
            execution=execution or Execution(),
            runners=self._runners(),
            experiments=self._experiments(data),
        )
        if self._problems:
            # Shared fields are validated with each experiment: say a thing once.
            lines = dict.fromkeys(sorted(self._problems))
            raise StudyError([f"{self._shown}:{line}: {text}" for line, text in lines])
        return study

    def _problem(self, key: Key, text: str, field: Key | None = None) -> None:
        name = ".".join(map(str, key if field is None else field))
        self._problems.append((self._document.line(key), f"{name}: {text}" if name else text))

    def _mapping(self, name: str) -> dict[str, Any]:
        value = self._document.data.get(name)
        if value is None:
            return {}
        if isinstance(value, dict):
            return value
        self._problem((name,), f"should be a mapping, not {value!r:.60}")
        return {}

    def _name(self, data: Mapping[str, Any]) -> str:
        name = data.get("name")
        if name is None:
            return self._document.path.name.split(".")[0]
        if not isinstance(name, str):
            self._problem(("name",), f"should be text, not {name!r:.60}")
        return str(name)

    def _refuse_unknown_keys(self, data: Mapping[str, Any]) -> None:
        fields = {f.name for f in dataclasses.fields(Experiment)} - {"options"}
        accepted = _STUDY_KEYS | fields | set(self._backends)
        for key in data:
            if key == "options":
                hint = "an engine's options stand under its name"
                self._problem((key,), f"unknown field; {hint}")
            elif key not in accepted:
                self._problem((key,), f"unknown field; {nearest(key, accepted)}")

    def _runners(self) -> dict[str, str]:
        found = {}
        for backend, value in self._mapping("runners").items():
            key: Key = ("runners", backend)
            if backend not in self._backends:
                self._problem(key, f"unknown backend; {nearest(backend, self._backends)}")
                continue
            try:
                found[backend] = RunnerSpec.parse(str(value), "study").value
            except RunnerError as error:
                self._problem(key, str(error).partition(": ")[2])
        return found

    # --- experiments -----------------------------------------------------------------------

    def _experiments(self, data: Mapping[str, Any]) -> tuple[Planned, ...]:
        fields = {f.name for f in dataclasses.fields(Experiment)} - {"options"}
        known = fields | set(self._backends)
        shared = merge({}, {k: v for k, v in data.items() if k in known})
        if data.get("expect") is not None:
            # As it stands: a limit without a bound is a mistake, not a limit that isn't set.
            shared["expect"] = data["expect"]
        points = expand(shared, self._sweep(), self._listed())
        planned = [p for p in map(self._plan, points) if p is not None]
        self._refuse_equal_names(planned)
        return tuple(planned)

    def _sweep(self) -> dict[str, list[Any]]:
        found = {}
        for key, values in self._mapping("sweep").items():
            if isinstance(values, list) and values:
                found[key] = values
            else:
                self._problem(("sweep", key), f"should be a list of values, not {values!r:.60}")
        return found

    def _listed(self) -> dict[int, dict[str, Any]]:
        value = self._document.data.get("experiments")
        if value is None:
            return {}
        if not isinstance(value, list):
            self._problem(("experiments",), f"should be a list, not {value!r:.60}")
            return {}
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                self._problem(("experiments", index), f"should be a mapping, not {item!r:.60}")
        return {index: item for index, item in enumerate(value) if isinstance(item, dict)}

    def _plan(self, point: Point) -> Planned | None:
        fields = {k: v for k, v in point.data.items() if k not in {"expect", *self._backends}}
        backend = fields.get("backend", "pytorch")
        before = len(self._problems)
        if backend not in self._backends:
            hint = nearest(str(backend), self._backends)
            self._problem(point.locate(("backend",)), f"unknown backend {backend}; {hint}", ())
        elif isinstance(options := point.data.get(backend, {}), dict):
            fields["options"] = options
        else:
            self._problem(point.locate((backend,)), "should be a mapping", (backend,))
        if "options" in point.data:
            hint = "an engine's options stand under its name"
            self._problem(point.locate(("options",)), f"unknown field; {hint}", ("options",))
        record, problems = validate(Experiment, fields)
        for key, text in problems:
            self._problem(point.locate(key), text, key)
        self._refuse_odd_options(point, backend, fields.get("options"))
        limits = self._limits(point)
        name = point.data.get("id") or name_of(point, self._document.path.name.split(".")[0])
        if not NAME.fullmatch(str(name)):
            self._problem(point.locate(("id",)), f"{name!r} may hold letters, digits and . _ + -")
        if record is None or len(self._problems) > before:
            return None
        model = resolve_model(record.model, self._document.path.parent)
        experiment = dataclasses.replace(record, id=str(name), model=model)
        return Planned(
            experiment=experiment,
            digest=digest(experiment),
            limits=limits,
            line=self._document.line(point.sources[0][0]),
        )

    def _refuse_odd_options(self, point: Point, backend: str, options: Any) -> None:
        """Only what JSON knows reaches a worker: no dates, no NaN."""
        try:
            json.dumps(options, allow_nan=False)
        except (TypeError, ValueError) as error:
            self._problem(point.locate((backend,)), str(error), (backend,))

    def _limits(self, point: Point) -> tuple[Limit, ...]:
        expect = point.data.get("expect", {})
        if not isinstance(expect, dict):
            self._problem(point.locate(("expect",)), "should be a mapping of metrics", ("expect",))
            return ()
        return tuple(
            limit
            for metric, bounds in expect.items()
            if (limit := self._limit(point, metric, bounds)) is not None
        )

    def _limit(self, point: Point, metric: str, bounds: Any) -> Limit | None:
        key: Key = ("expect", metric)
        place = point.locate(key)
        if metric not in METRICS:
            self._problem(place, f"unknown metric; {nearest(metric, METRICS)}", key)
            return None
        if not isinstance(bounds, dict) or not bounds or not set(bounds) <= {"min", "max"}:
            self._problem(place, "should be {min: number}, {max: number} or both", key)
            return None
        numbers = {name: _number(value) for name, value in bounds.items()}
        for name, number in numbers.items():
            if number is None:
                text = f"should be a number, not {bounds[name]!r:.60}"
                self._problem(point.locate((*key, name)), text, (*key, name))
        least, most = numbers.get("min"), numbers.get("max")
        if least is not None and most is not None and least > most:
            self._problem(place, f"no figure is at least {least:g} and at most {most:g}", key)
        where = f"{self._shown}:{self._document.line(place)}"
        return Limit(metric=metric, least=least, most=most, where=where)

    def _refuse_equal_names(self, planned: Iterable[Planned]) -> None:
        lines: dict[str, int] = {}
        for item in planned:
            name = item.experiment.id
            if name in lines:
                first = f"first on line {lines[name]}"
                text = f"two experiments are called {name}, {first}; give them an id"
                self._problems.append((item.line, text))
            lines.setdefault(name, item.line)


def _number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
