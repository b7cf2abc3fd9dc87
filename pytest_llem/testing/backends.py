"""What backends promise, and ``backend_conformance``."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Decoding, Experiment
from pytest_llem.extensions import Abilities, Backend
from pytest_llem.testing import engines
from pytest_llem.testing.promises import Book, Promise, judge
from pytest_llem.testing.trial import BackendTrial

__all__ = ["BACKEND_PROMISES", "backend_conformance"]

_SCENARIOS = {"offline", "poisson", "concurrency"}
_DEVICES = {"cpu", "cuda", "mps"}
_FIELDS = {field.name for field in dataclasses.fields(Decoding)}
_NOWHERE = "/nowhere/llem/no-such-model"

_book = Book[BackendTrial]()


def backend_conformance(
    backend: str | Callable[[], Backend],
    experiment: Experiment | None = None,
    *,
    option: str | None = None,
    skip: Collection[str] = (),
) -> None:
    """Try a backend and its engine on all that measurements rely on; loads it a few times.

    Args:
        backend: name of its entry point, or its class.
        experiment: what to load: model, weights, dtype, device and options count. The default is
            a tiny Llama with random weights.
        option: name of an option that the engine has; a typo of it must be answered with it.
        skip: names of promises that aren't tried.

    Raises:
        AssertionError: naming every promise that isn't kept, and how.
        ValueError: for a promise to skip that doesn't exist.
        LlemError: when there is no entry point of that name.
    """
    __tracebackhide__ = True
    with BackendTrial(backend, experiment, option=option) as trial:
        judge(f"the backend {trial.backend.name}", BACKEND_PROMISES, trial, skip)


# --- before anything is loaded -------------------------------------------------------------------


@_book.promise("names", "it has a name, its entry point's, and a command that installs the engine")
def _names(trial: BackendTrial) -> Iterator[str]:
    for attribute in ("name", "install"):
        value = getattr(trial.backend, attribute, None)
        if not isinstance(value, str) or not value.strip():
            yield f"{attribute} is {value!r}, not a text"
    if trial.entry is not None and trial.backend.name != trial.entry:
        yield f"name is {trial.backend.name!r}, but its entry point is called {trial.entry!r}"


@_book.promise("light", "importing and making it, and versions(), import no package but its own")
def _light(trial: BackendTrial) -> Iterator[str]:
    own = {"pytest_llem", trial.make.__module__.partition(".")[0]}
    heavy = set(trial.seen()["modules"]) - own - sys.stdlib_module_names
    if heavy:
        yield f"it imported {', '.join(sorted(heavy))}; import them in preload() and load()"


@_book.promise("versions", "versions() maps each package it needs to its version, or to None")
def _versions(trial: BackendTrial) -> Iterator[str]:
    found = trial.backend.versions()
    if not isinstance(found, Mapping) or not found:
        yield f"it is {found!r}, not a mapping with an entry at least"
        return
    for package, version in found.items():
        if not isinstance(package, str) or not isinstance(version, (str, type(None))):
            yield f"{package!r}: {version!r} isn't a text, nor None"
        elif version is None:
            yield f"{package} isn't installed here; install the engine to try it"


@_book.promise("abilities", "abilities is an Abilities, and says only what there is")
def _abilities(trial: BackendTrial) -> Iterator[str]:
    said: Any = getattr(trial.backend, "abilities", None)
    if not isinstance(said, Abilities):
        yield f"it is {said!r}"
        return
    if "offline" not in said.scenarios:
        yield "scenarios lacks offline, which run() is for"
    for name, known in (("scenarios", _SCENARIOS), ("devices", _DEVICES), ("decoding", _FIELDS)):
        if extra := set(getattr(said, name)) - known:
            yield f"{name} has {', '.join(sorted(extra))}; known are {', '.join(sorted(known))}"
    if not said.devices:
        yield "devices is empty"


@_book.promise("preload", "preload() imports: it starts no threads, and opens no device")
def _preload(trial: BackendTrial) -> Iterator[str]:
    seen = trial.seen()
    if seen["threads"]:
        yield f"it started {', '.join(seen['threads'])}"
    if seen["devices"]:
        yield f"it opened {', '.join(seen['devices'])}"


@_book.promise("no-model", "a model that isn't there is an LlemError that names it")
def _no_model(trial: BackendTrial) -> Iterator[str]:
    yield from _refusal(trial, [_NOWHERE], model=_NOWHERE)


@_book.promise(
    "unknown-option", "an option the engine doesn't know is an LlemError with the nearest"
)
def _unknown_option(trial: BackendTrial) -> Iterator[str]:
    options = dict(trial.experiment.options)
    unknown = "llem_has_no_such_option"
    yield from _refusal(trial, [unknown], options={**options, unknown: 1})
    if trial.option is not None:
        typo = f"{trial.option[:-2]}{trial.option[-1]}{trial.option[-2]}"
        if typo == trial.option:
            typo = f"{trial.option}s"
        yield from _refusal(trial, [typo, trial.option], options={**options, typo: 1})


def _refusal(trial: BackendTrial, words: list[str], **changes: Any) -> Iterator[str]:
    """What is wrong with how it refuses to load with these changes."""
    try:
        engine = trial.backend.load(dataclasses.replace(trial.experiment, **changes))
    except LlemError as error:
        missing = [word for word in words if word not in str(error)]
        if missing:
            yield f"the error doesn't name {' and '.join(missing)}: {error}"
    except Exception as error:
        yield f"it raised {type(error).__name__}, not LlemError: {error}"
    else:
        engine.close()
        yield f"it loaded with {changes}"


# --- the engine ----------------------------------------------------------------------------------


@_book.promise("loads", "load() makes an engine")
def _loads(trial: BackendTrial) -> Iterator[str]:
    engine = trial.load()
    needed = ("facts", "run", "reset_peak_memory", "peak_memory_bytes", "close")
    missing = [name for name in needed if not callable(getattr(engine, name, None))]
    if missing:
        yield f"it lacks {', '.join(missing)}"


@_book.promise("facts", "facts() says vocabulary and device, and details that JSON can hold")
def _facts(trial: BackendTrial) -> Iterator[str]:
    facts = trial.load().facts()
    if type(facts.vocab_size) is not int or facts.vocab_size < 1:
        yield f"vocab_size is {facts.vocab_size!r}"
    asked = trial.experiment.device
    if facts.device not in trial.backend.abilities.devices:
        yield f"device is {facts.device!r}, which isn't among its abilities"
    elif asked not in {"auto", facts.device}:
        yield f"device is {facts.device}, but {asked} was asked for"
    try:
        json.dumps(dict(facts.details), allow_nan=False)
    except (TypeError, ValueError) as error:
        yield f"details: {error}"


BACKEND_PROMISES: tuple[Promise[BackendTrial], ...] = (
    *_book.promises,
    *engines.PROMISES,
)
"""All that backends promise, in the order in which they are tried."""
