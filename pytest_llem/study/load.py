"""A study file to a Study; every problem of the file at once, each with its line."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llem.demands import Limit
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import abilities, known_backends
from pytest_llem.prompt_file import SYNTHETIC
from pytest_llem.study import checks, prompt_source
from pytest_llem.study.axes import axes
from pytest_llem.study.base import Layer, layers
from pytest_llem.study.expectations import (
    Expectation,
    limits,
    parse,
    refuse_idle,
    refuse_unknown,
)
from pytest_llem.study.header import Header, Surroundings, header
from pytest_llem.study.identity import NAME, digest, name_of, resolve_path, same_as
from pytest_llem.study.keys import DockerSettings, Execution, Gaps, Requires
from pytest_llem.study.problems import Problems
from pytest_llem.study.schema import Problem, nearest, validate
from pytest_llem.study.sweep import Point, Source, Spot, expand, listed, merge
from pytest_llem.study.yaml_lines import Document

__all__ = ["Planned", "SkippedPoint", "Study", "Surroundings", "load"]

_FIELDS = frozenset(field.name for field in dataclasses.fields(Experiment)) - {"options"}
_NOT_FIELDS = ("expect", "requires")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """An experiment of a study, ready to be measured.

    Attributes:
        experiment: with the model as an absolute directory or a hub id.
        limits: what its gate judges.
        requires: what the host must have.
        variants: group of variants to the one it is.
        spot: where it is written.
        marks_at: where its marks are.
    """

    experiment: Experiment
    limits: tuple[Limit, ...]
    spot: Spot
    requires: Requires | None = None
    variants: Mapping[str, str] = field(default_factory=dict)
    marks_at: Spot | None = None

    @property
    def line(self) -> int:
        """Of the study file, where the experiment is written."""
        return self.spot.line

    @functools.cached_property
    def digest(self) -> str:
        """Of the experiment; made when first asked for, as most sessions collect more than run."""
        return digest(self.experiment)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedPoint:
    """A point of the grid that can't be measured, with every reason as ``file:line: text``."""

    name: str
    line: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study file, validated."""

    path: Path
    name: str
    execution: Execution
    gaps: Gaps
    runners: Mapping[str, str]
    images: Mapping[str, str]
    docker: DockerSettings
    experiments: tuple[Planned, ...]
    skipped: tuple[SkippedPoint, ...] = ()


def load(path: Path, shown: str, surroundings: Surroundings = Surroundings()) -> Study:
    """Read and validate a study file.

    Args:
        path: of the file.
        shown: how messages name it.
        surroundings: defaults below and options above what it says.

    Raises:
        StudyError: with every problem of the file.
    """
    backends = known_backends()
    problems = Problems()
    files, whole = layers(path, shown, _FIELDS | set(backends), problems)
    head = header(files[0].document, surroundings, backends, problems)
    if not whole:
        # Without its base an experiment would lack fields that nobody forgot.
        problems.check(shown)
    loader = _Loader(files, surroundings, backends, problems)
    experiments = loader.experiments(head)
    problems.check(shown)
    return Study(
        path=path,
        name=head.name,
        execution=head.execution,
        gaps=head.gaps,
        runners=head.runners,
        images=head.images,
        docker=head.docker,
        experiments=experiments,
        skipped=tuple(loader.skipped),
    )


class _Loader:
    """Makes experiments of a study's fields."""

    def __init__(
        self,
        files: Sequence[Layer],
        surroundings: Surroundings,
        backends: tuple[str, ...],
        problems: Problems,
    ) -> None:
        self._document: Document = files[0].document
        self._shared: dict[str, Any] = {}
        for layer in reversed(files):
            self._shared = merge(self._shared, layer.fields)
        # Where the whole document is looked into, so that the study's own requires are found.
        own = Source(self._document, (), (), self._document.data)
        self._sources = [own, *(Source(f.document, (), (), f.fields) for f in files[1:])]
        self._stem = self._document.path.name.split(".")[0]
        self._surroundings = surroundings
        self._backends = backends
        self._problems = problems
        self._expectations: dict[int, tuple[Expectation, ...]] = {}
        self._kept_alive: list[Any] = []
        self._models: dict[str, str] = {}
        self._requirements: dict[str, Requires | None] = {}
        self.skipped: list[SkippedPoint] = []

    def experiments(self, head: Header) -> tuple[Planned, ...]:
        """All experiments, those of the grid first."""
        grid = axes(self._document, self._backends, self._problems)
        shared = self._expected(self._sources[0], removable=False)
        planned: list[Planned] = []
        seen: set[Any] = set()
        failed = Problems()
        used: set[str] = set()
        if grid or not head.experiments:
            for point in expand(self._shared, self._sources, grid, self._surroundings.backend):
                used.add(str(point.data.get("backend", self._surroundings.backend)))
                if (found := self._of_grid(point, shared, failed)) is None:
                    continue
                same = (same_as(found.experiment), found.limits, found.requires)
                if same not in seen:
                    seen.add(same)
                    planned.append(found)
            if not planned:
                self.skipped.clear()
                self._problems.merge(failed)
        for source in head.experiments:
            own = {k: v for k, v in source.content.items() if k not in _NOT_FIELDS}
            point = listed(self._shared, self._sources, own, source)
            if (found := self._plan(point, shared, self._problems)) is not None:
                planned.append(found)
        for axis in grid:
            if axis.backend and axis.backend not in used:
                text = f"no experiment of the grid has backend {axis.backend}"
                self._problems.add(axis.choices[0].source.spot, text, ("sweep", axis.name))
        self._refuse_equal_names(planned)
        known = {*_FIELDS, *(axis.name for axis in grid if axis.variants)}
        every = [e for group in self._expectations.values() for e in group]
        refuse_unknown(every, known, self._backends, self._problems)
        if not self._problems:
            refuse_idle(every, self._problems)
        return tuple(planned)

    def _of_grid(
        self, point: Point, shared: tuple[Expectation, ...], failed: Problems
    ) -> Planned | None:
        """A point of the grid; when it is invalid it is listed among the skipped."""
        own = Problems()
        found = self._plan(point, shared, own)
        if found is None:
            failed.merge(own)
            name = str(point.data.get("id") or name_of(point.own, self._stem))
            reasons = tuple(own.lines(self._document.shown))
            self.skipped.append(SkippedPoint(name=name, line=point.spot.line, reasons=reasons))
        return found

    # --- one experiment --------------------------------------------------------------------

    def _plan(
        self, point: Point, shared: tuple[Expectation, ...], problems: Problems
    ) -> Planned | None:
        before = len(problems)
        given = point.data.get("id")
        if given is not None and not isinstance(given, str):
            text = f"should be text, not {given!r:.60}"
            problems.add(point.locate(("id",)), text, ("id",))
        name = str(given or name_of(point.own, self._stem))
        if not NAME.fullmatch(name):
            spot = point.locate(("id",))
            problems.add(spot, f"{name!r} may hold letters, digits and . _ + -")
        record = self._record(point, name, problems)
        specific = point.sources[: len(point.sources) - len(self._sources)]
        own = [self._expected(source, removable=True) for source in specific if not source.prefix]
        requires = self._required(point)
        if record is None or len(problems) > before:
            return None
        expectations = [*shared, *(e for group in reversed(own) for e in group)]
        # A limit names a model as the study does, not by its absolute path.
        said = {"model": point.data["model"], **point.variants} if expectations else {}
        asked = limits(expectations, record, said, self._problems) if expectations else ()
        return Planned(
            experiment=record,
            limits=asked,
            requires=requires,
            variants=point.variants,
            spot=point.spot,
            marks_at=point.locate(("marks",)) if record.marks else None,
        )

    def _record(self, point: Point, name: str, problems: Problems) -> Experiment | None:
        fields = {k: v for k, v in point.data.items() if k not in self._backends}
        fields["id"] = name
        backend = fields.setdefault("backend", self._surroundings.backend)
        if isinstance(model := fields.get("model"), str):
            fields["model"] = self._model(model)
        if isinstance(prompts := fields.get("prompts"), Mapping):
            fields["prompts"] = self._prompts(prompts)
        if "warmup" not in fields and self._surroundings.warmup is not None:
            fields["warmup"] = self._surroundings.warmup
        if (over := self._surroundings.over_warmup) is not None:
            said: Any = fields.get("warmup")
            both = isinstance(over, Mapping) and isinstance(said, Mapping)
            fields["warmup"] = {**said, **over} if both else over
        if backend not in self._backends:
            self._unknown_backend(point, str(backend), problems)
        for name in self._backends:
            options = point.data.get(name, {})
            if not isinstance(options, dict):
                problems.add(point.locate((name,)), "should be a mapping", (name,))
            elif name == backend:
                fields["options"] = options
                self._refuse_odd_options(point, backend, options, problems)
        if "options" in point.data:
            hint = "an engine's options stand under its name"
            spot = point.locate(("options",))
            problems.add(spot, f"unknown field; {hint}", ("options",))
        record, wrong = validate(Experiment, fields)
        for key, text in [*wrong, *_misfits(record or _rest(fields, wrong))]:
            # A value may be wrong at some points of a grid; a name nobody knows is a slip.
            slip = text.startswith("unknown field")
            (self._problems if slip else problems).add(point.locate(key), text, key)
        return record

    def _model(self, model: str) -> str:
        """A model's directory, looked for once."""
        if model not in self._models:
            self._models[model] = resolve_path(model, self._document.path.parent)
        return self._models[model]

    def _prompts(self, prompts: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the path of their file; they have the lengths that they have there."""
        source = prompts.get("source")
        if not isinstance(source, str) or source == SYNTHETIC:
            return prompts
        path = prompt_source.located(source, self._document.path.parent)
        return {"input_tokens": None, **prompts, "source": path}

    def _unknown_backend(self, point: Point, name: str, problems: Problems) -> None:
        from_study = "backend" in point.data
        hint = nearest(name, self._backends)
        where = "" if from_study else "default_backend: "
        spot = point.locate(("backend",))
        problems.add(spot, f"{where}unknown backend {name}; {hint}", ())

    def _refuse_odd_options(
        self, point: Point, backend: str, options: Any, problems: Problems
    ) -> None:
        """Only what JSON knows reaches a worker: no dates, no NaN."""
        if not options:
            return
        try:
            json.dumps(options, allow_nan=False)
        except (TypeError, ValueError) as error:
            problems.add(point.locate((backend,)), str(error), (backend,))

    # --- what it must keep to --------------------------------------------------------------

    def _expected(self, source: Source, *, removable: bool) -> tuple[Expectation, ...]:
        """What stands under ``expect`` of a source; read once, as many points share one."""
        if not isinstance(source.content, Mapping) or "expect" not in source.content:
            return ()
        key = id(source.content)
        if key not in self._expectations:
            self._kept_alive.append(source.content)
            self._expectations[key] = parse(source, self._problems, removable=removable)
        return self._expectations[key]

    def _required(self, point: Point) -> Requires | None:
        """What the host must have, the more specific over the more general."""
        asked: dict[str, Any] = {}
        for source in reversed(point.sources):
            if source.prefix or not isinstance(source.content, Mapping):
                continue
            given = source.content.get("requires")
            if isinstance(given, Mapping):
                asked = merge(asked, given)
            elif given is not None:
                spot = Spot(source.document, (*source.place, "requires"))
                self._problems.add(spot, f"should be a mapping, not {given!r:.60}", ("requires",))
        if not asked:
            return None
        whole = json.dumps(asked, sort_keys=True, default=str)
        if whole not in self._requirements:
            found, wrong = validate(Requires, asked)
            for index, name in enumerate(found.backends if found else ()):
                if name not in self._backends:
                    text = f"unknown backend; {nearest(name, self._backends)}"
                    wrong.append((("backends", index), text))
            for key, message in wrong:
                self._problems.add(point.locate(("requires", *key)), message, ("requires", *key))
            self._requirements[whole] = found
        return self._requirements[whole]

    def _refuse_equal_names(self, planned: Iterable[Planned]) -> None:
        spots: dict[str, Spot] = {}
        for item in planned:
            name = item.experiment.id
            if name in spots:
                first = f"first on line {spots[name].line}"
                text = f"two experiments are called {name}, {first}; give them an id"
                self._problems.add(item.spot, text, ())
            spots.setdefault(name, item.spot)


def _rest(fields: Mapping[str, Any], wrong: Iterable[Problem]) -> Experiment | None:
    """What is left of an experiment without what is wrong in it, to find what else is."""
    bad = {key[0] for key, _ in wrong if key}
    kept = {key: value for key, value in fields.items() if key not in bad}
    record, _ = validate(Experiment, {"model": "none", **kept})
    return record


def _misfits(experiment: Experiment | None) -> Iterator[Problem]:
    """What doesn't fit together in an experiment, or can't be done."""
    if experiment is None:
        return
    yield from checks.problems(experiment)
    if (can := abilities(experiment.backend)) is not None:
        yield from checks.unable(experiment, can)
