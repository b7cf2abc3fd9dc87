"""What a single field's type can't say: fields that don't fit together, and what can't be done."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pytest_llem.experiment import Experiment, Lognormal, Uniform
from pytest_llem.extensions import Abilities
from pytest_llem.study.keys import Execution
from pytest_llem.study.yaml_lines import Key

__all__ = ["LATER", "NOT_YET", "not_yet", "problems", "unable"]

Problem = tuple[Key, str]

_SECRET = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|APIKEY|KEY|CREDENTIALS?)$", re.IGNORECASE)
NOT_YET = "not in this version"


def problems(experiment: Experiment) -> Iterator[Problem]:
    """What is wrong with an experiment wherever it runs."""
    lengths = experiment.prompts.input_tokens
    if isinstance(lengths, Uniform) and lengths.uniform[0] > lengths.uniform[1]:
        low, high = lengths.uniform
        text = f"runs backwards: from {low} to {high}; swap them"
        yield ("prompts", "input_tokens", "uniform"), text
    if isinstance(lengths, Lognormal) and lengths.lognormal.median > lengths.lognormal.max:
        shape = lengths.lognormal
        text = f"the median, {shape.median}, is above the longest, {shape.max}"
        yield ("prompts", "input_tokens", "lognormal"), text
    source = experiment.prompts.source
    if source != "synthetic" and not source.endswith(".jsonl"):
        yield ("prompts", "source"), f"should be synthetic or a .jsonl file, not {source!r:.60}"
    parallel = experiment.tensor_parallel * experiment.pipeline_parallel
    if experiment.gpus is not None and experiment.gpus < parallel:
        yield ("gpus",), f"fewer than tensor_parallel × pipeline_parallel = {parallel}"
    yield from _unreadable(experiment)
    for name in experiment.env:
        if _SECRET.search(name):
            text = "a secret doesn't belong in a study: its report shows it; set it where pytest"
            yield ("env", name), f"{text} runs, the worker inherits it"
    for index, mark in enumerate(experiment.marks):
        if isinstance(mark, Mapping) and len(mark) != 1:
            yield ("marks", index), "should be a name, or one name with its arguments"
    yield from _later(experiment)


def _unreadable(experiment: Experiment) -> Iterator[Problem]:
    """What needs an energy that the experiment's own choice of meters can't give."""
    if experiment.meters == "auto":
        return
    if experiment.precision is not None and set(experiment.meters) <= {"estimate"}:
        yield ("precision",), "needs a meter that measures; meters names none"
    if experiment.phases and not experiment.meters:
        yield ("phases",), "needs a meter; meters names none"


LATER: Mapping[str, Callable[[Any], bool]] = {
    "prompts.source": lambda source: source != "synthetic",
    "worker": lambda worker: worker != "fresh",
    "execution.max_failures": lambda failures: failures is not None,
    "execution.time_budget_s": lambda budget_s: budget_s is not None,
}
"""What a study may say and nothing here does yet, and which values of it: refused, not ignored."""


def _later(experiment: Experiment) -> Iterator[Problem]:
    """What nothing here does yet, of an experiment."""
    for name, is_asked in LATER.items():
        key = tuple(name.split("."))
        value: Any = None if key[0] == "execution" else experiment
        for part in key:
            value = getattr(value, part, None)
        if value is not None and is_asked(value):
            yield key, NOT_YET


def not_yet(execution: Execution) -> Iterator[Problem]:
    """What nothing here does yet, of the keys below ``execution``."""
    for name, is_asked in LATER.items():
        first, _, key = name.partition(".")
        if first == "execution" and is_asked(getattr(execution, key)):
            yield (key,), NOT_YET


def unable(experiment: Experiment, abilities: Abilities) -> Iterator[Problem]:
    """What an experiment asks and its backend can't do."""
    who = experiment.backend
    scenario = experiment.scenario
    kind = scenario if isinstance(scenario, str) else type(scenario).__name__.lower()
    if kind not in abilities.scenarios:
        can = ", ".join(sorted(abilities.scenarios))
        yield ("scenario",), f"{who} can't do {kind}; it can do: {can}"
    if experiment.batch_size != 1 and not abilities.batches:
        yield ("batch_size",), f"{who} makes up batches by itself; leave this out"
    if experiment.device not in {"auto", *abilities.devices}:
        can = ", ".join(sorted(abilities.devices))
        yield ("device",), f"{who} can't compute on {experiment.device}; it can on: {can}"
    if not abilities.parallel:
        for name in ("tensor_parallel", "pipeline_parallel", "gpus"):
            if getattr(experiment, name) not in {None, 1}:
                yield (name,), f"{who} computes on one device only"
    elif not abilities.tensor_parallel and experiment.tensor_parallel != 1:
        yield ("tensor_parallel",), f"{who} can't share layers; set pipeline_parallel"
    can_decode = abilities.decoding
    for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty"):
        # A temperature of 0 is another word for greedy.
        asked = getattr(experiment.decoding, name)
        if asked is not None and (name, asked) != ("temperature", 0) and name not in can_decode:
            yield ("decoding", name), f"{who} can't do that; it is greedy"
