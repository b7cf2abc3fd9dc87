"""What a single field's type can't say: fields that don't fit together, and what can't be done."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pytest_llem.experiment import (
    DECODING,
    Concurrency,
    Experiment,
    Lognormal,
    Poisson,
    Uniform,
)
from pytest_llem.extensions import Abilities
from pytest_llem.study import prompt_source
from pytest_llem.study.yaml_lines import Key

__all__ = ["problems", "unable"]

Problem = tuple[Key, str]

_SECRET = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|APIKEY|KEY|CREDENTIALS?)$", re.IGNORECASE)


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
    yield from prompt_source.problems(experiment)
    parallel = experiment.tensor_parallel * experiment.pipeline_parallel
    if experiment.gpus is not None and experiment.gpus < parallel:
        yield ("gpus",), f"fewer than tensor_parallel × pipeline_parallel = {parallel}"
    yield from _unreadable(experiment)
    yield from _unsteady(experiment)
    for name in experiment.env:
        if _SECRET.search(name):
            text = "a secret doesn't belong in a study: its report shows it; set it where pytest"
            yield ("env", name), f"{text} runs, the worker inherits it"
    for index, mark in enumerate(experiment.marks):
        if isinstance(mark, Mapping) and len(mark) != 1:
            yield ("marks", index), "should be a name, or one name with its arguments"


def _unreadable(experiment: Experiment) -> Iterator[Problem]:
    """What needs an energy that the experiment's own choice of meters can't give."""
    if experiment.meters == "auto":
        return
    if experiment.precision is not None and set(experiment.meters) <= {"estimate"}:
        yield ("precision",), "needs a meter that measures; meters names none"
    if experiment.phases and not experiment.meters:
        yield ("phases",), "needs a meter; meters names none"


_LEAST_ARRIVALS = 4
"""One that ends before the steady window, two within it, and the arrival that ends it."""


def _unsteady(experiment: Experiment) -> Iterator[Problem]:
    """What doesn't go with requests that come one by one."""
    scenario, count = experiment.scenario, experiment.prompts.count
    if scenario == "offline":
        return
    kind = type(scenario).__name__.lower()
    if experiment.precision is not None:
        text = f"goes with the scenario offline only; with {kind} raise prompts.count"
        yield ("precision",), text
    if experiment.phases:
        text = "goes with the scenario offline only: prefill and decode are mixed"
        yield ("phases",), f"{text} with {kind}"
    if experiment.warmup != "none" and experiment.warmup.until_stable:
        text = f"goes with the scenario offline only; with {kind} raise warmup.prompts"
        yield ("warmup", "until_stable"), text
    if isinstance(scenario, Concurrency) and count <= scenario.concurrency:
        text = f"{count} requests never fill {scenario.concurrency} slots and go on; raise it, to"
        yield ("prompts", "count"), f"{text} ten times the concurrency, say"
    if isinstance(scenario, Poisson) and count < _LEAST_ARRIVALS:
        text = f"{count} requests are too few for a steady state; raise it"
        yield ("prompts", "count"), f"{text}, to a hundred, say"
    if isinstance(scenario, Poisson) and count / scenario.poisson > experiment.timeout_s:
        text = f"{count} requests at {scenario.poisson:g} a second take"
        took = f"{text} {count / scenario.poisson:.4g} s, and timeout_s is"
        yield ("timeout_s",), f"{took} {experiment.timeout_s:g}; raise it, or the rate"


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
    for name in DECODING:
        # A temperature of 0 is another word for greedy.
        asked = getattr(experiment.decoding, name)
        if asked is not None and (name, asked) != ("temperature", 0) and name not in can_decode:
            yield ("decoding", name), f"{who} can't do that; it is greedy"
