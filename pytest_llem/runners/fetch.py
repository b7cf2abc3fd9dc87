"""What the models of a study take: how large they are, and what of them must be fetched first."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_llem.experiment import Experiment
from pytest_llem.runners.models import (
    CONFIG,
    Answer,
    Finding,
    Hub,
    asks_hub,
    fetched,
    find_hub,
    holds_weights,
    in_directory,
    not_here,
    refused,
)

__all__ = ["Copy", "ImageSupply", "Stock", "Supply"]

_NO_CLIENT = "huggingface_hub is not installed here, so the hub can't be asked"
_NO_CONFIG = f"the hub has no {CONFIG} of it"
_NO_SIZE = "the hub tells no size of its weights"
_NO_WEIGHTS = "the hub has no weights of it that are known here (*.safetensors, *.bin)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """A model, and where it comes from.

    Attributes:
        model: an absolute directory, or as the study says.
        random: no experiment needs its weights, so that its config is enough.
        place: ``directory`` or ``cache`` where it is here already, ``hub`` where it isn't;
            ``engine`` where only the engine knows what is meant.
        backends: who load it.
        size_bytes: of a directory what is loaded, of the hub what is to be fetched; None where
            that isn't known, or where nothing is to be fetched.
        reason: why no size is known.
        problem: why it can't be used, without its name; None where it can.
    """

    model: str
    revision: str | None
    random: bool
    place: Literal["directory", "cache", "hub", "engine"]
    backends: tuple[str, ...]
    size_bytes: int | None = None
    reason: str = ""
    problem: Finding | None = None

    @property
    def name(self) -> str:
        """Model and revision."""
        return _name(self.model, self.revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSupply:
    """A container image, and whether the daemon has it.

    Attributes:
        here: None where the daemon can't be asked.
        size_bytes: unpacked, of one that is here; registries tell no size.
        reason: why the daemon can't be asked.
    """

    name: str
    here: bool | None
    size_bytes: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A model that a daemon elsewhere needs a copy of.

    Attributes:
        model: an absolute directory, or as the study says.
        daemon: its name.
        done: whether it was copied before.
    """

    model: str
    daemon: str
    size_bytes: int
    done: bool


@dataclass(frozen=True, slots=True)
class _Found:
    place: Literal["directory", "cache", "hub", "engine"]
    size_bytes: int | None = None
    reason: str = ""
    problem: Finding | None = None


class Stock:
    """Looks for models, and asks the hub for each once."""

    def __init__(self, hub: Callable[[], Hub | None] = find_hub) -> None:
        """Take what makes the hub; it is called only when a model needs it."""
        self._find = functools.cache(hub)
        self._answers: dict[tuple[str, str | None], Answer] = {}
        self._silent = ""

    def supplies(self, experiments: Iterable[Experiment]) -> list[Supply]:
        """The models of experiments, each once, in the order of their first use."""
        users: dict[tuple[str, str | None, str], list[Experiment]] = {}
        for experiment in experiments:
            model, revision = experiment.model, experiment.revision
            kind = "hub" if asks_hub(experiment) else "engine"
            if Path(model).is_absolute():
                # A revision means nothing there.
                kind, revision = "directory", None
            users.setdefault((model, revision, kind), []).append(experiment)
        return [self._supply(*key, own) for key, own in users.items()]

    def _supply(
        self, model: str, revision: str | None, kind: str, users: list[Experiment]
    ) -> Supply:
        random = all(experiment.weights == "random" for experiment in users)
        if kind == "directory":
            found = _directory(Path(model), random=random)
        else:
            found = self._on_hub(model, revision, random) if kind == "hub" else _Found("engine")
        problem = found.problem
        if problem is not None:
            text = problem.text.removeprefix(f"{_name(model, revision)}: ")
            problem = Finding(text, problem.fix)
        return Supply(
            model=model,
            revision=revision,
            random=random,
            place=found.place,
            backends=tuple(dict.fromkeys(experiment.backend for experiment in users)),
            size_bytes=found.size_bytes,
            reason=found.reason,
            problem=problem,
        )

    def _on_hub(self, model: str, revision: str | None, random: bool) -> _Found:
        hub = self._find()
        if hub is None:
            return _Found("hub", reason=_NO_CLIENT)
        here = hub.cached(model, revision)
        if CONFIG in here and (random or holds_weights(here)):
            return _Found("cache")
        name = _name(model, revision)
        if hub.offline:
            problem = not_here(name, model, revision, whole=CONFIG not in here)
            return _Found("hub", problem=problem)
        if self._silent and (model, revision) not in self._answers:
            # Each question may take until its timeout.
            return _Found("hub", reason=f"not asked, as the hub was silent about {self._silent}")
        answer = self._ask(hub, model, revision)
        if answer.status == "found":
            return _to_fetch(answer, here, random=random)
        finding = refused(name, answer)
        if answer.status == "silent":
            self._silent = self._silent or name
            return _Found("hub", reason=finding.text.removeprefix(f"{name}: "))
        return _Found("hub", problem=finding)

    def _ask(self, hub: Hub, model: str, revision: str | None) -> Answer:
        key = (model, revision)
        if key not in self._answers:
            self._answers[key] = hub.ask(model, revision)
        return self._answers[key]


def _name(model: str, revision: str | None) -> str:
    return f"{model}@{revision}" if revision else model


def _directory(folder: Path, *, random: bool) -> _Found:
    problem = in_directory(str(folder), "random" if random else "pretrained")
    if problem is not None:
        return _Found("directory", problem=problem)
    try:
        sizes = {file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()}
    except OSError as error:
        return _Found("directory", reason=f"it can't be read: {error.strerror}")
    loaded = [CONFIG] if random else [CONFIG, *fetched(sizes, ())]
    return _Found("directory", sum(sizes[name] for name in loaded))


def _to_fetch(answer: Answer, here: Collection[str], *, random: bool) -> _Found:
    """The config and the weights: what else an engine fetches is small."""
    sizes = answer.files
    if CONFIG not in here and CONFIG not in sizes:
        return _Found("hub", reason=_NO_CONFIG)
    config = 0 if CONFIG in here else sizes.get(CONFIG, 0)
    if random:
        return _Found("hub", config)
    if not fetched(sizes, ()):
        return _Found("hub", reason=_NO_WEIGHTS)
    missing = [sizes[name] for name in fetched(sizes, here)]
    if not all(missing):
        return _Found("hub", reason=_NO_SIZE)
    return _Found("hub", config + sum(missing))
