"""What loaded engines promise: of their tokens, their times, and how they decode."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

from pytest_llem.experiment import BUILT_FROM, Concurrency, Decoding
from pytest_llem.extensions import Completion
from pytest_llem.testing.promises import Book, Promise
from pytest_llem.testing.trial import BackendTrial, Run, Watched, left_over

__all__ = ["PROMISES"]

_RAGGED = (3, 19, 7, 12, 5)
_LONG = (80, 80)
"""Longer than a block of any engine's cache."""

_HOT = 2.0
"""A temperature at which hardly all draws are the likeliest token; some engines take no higher."""

_STRICT: dict[str, Any] = {"top_k": 1, "top_p": 1e-6}
"""Settings that leave the likeliest token alone."""

_LOOSE: dict[str, Any] = {"top_k": 40, "top_p": 0.999, "min_p": 1e-4, "temperature": _HOT}
"""Settings that leave many."""

_book = Book[BackendTrial]()


def _runs(trial: BackendTrial) -> Iterator[tuple[str, Run]]:
    """Runs of several sizes, each with what it is."""
    yield "requests of one token", trial.run((6, 6, 6), 1)
    yield "requests of 5 tokens", trial.run((6, 6, 6), 5)
    yield "requests of different lengths", trial.run(_RAGGED, 9)


@_book.promise("answers", "every request is answered, in order, and its prompt counted")
def _answers(trial: BackendTrial) -> Iterator[str]:
    for what, run in _runs(trial):
        asked = [len(prompt) for prompt in run.workload.prompts]
        counted = [completion.timing.input_tokens for completion in run.completions]
        if counted != asked:
            yield f"{what}: prompts of {asked} tokens came back with counts {counted}"


@_book.promise("exact", "every request gets exactly the tokens asked for; its end is ignored")
def _exact(trial: BackendTrial) -> Iterator[str]:
    for what, run in _runs(trial):
        asked = run.workload.output_tokens
        for number, completion in enumerate(run.completions):
            counts = (completion.timing.output_tokens, len(completion.token_ids))
            if counts != (asked, asked):
                yield (
                    f"{what}: {asked} asked for; request {number} says it has {counts[0]} and has"
                    f" {counts[1]}"
                )


@_book.promise("ids", "tokens are ids of the vocabulary")
def _ids(trial: BackendTrial) -> Iterator[str]:
    size = trial.load().facts().vocab_size
    for what, run in _runs(trial):
        ids = {token for tokens in run.tokens for token in tokens}
        if wrong := [i for i in ids if type(i) is not int or not 0 <= i < size]:
            yield f"{what}: {wrong[0]!r} isn't an id below {size}"


@_book.promise("times", "every token has a time")
def _times(trial: BackendTrial) -> Iterator[str]:
    for what, run in _runs(trial):
        for number, completion in enumerate(run.completions):
            times, tokens = len(completion.timing.token_s), len(completion.token_ids)
            if times != tokens:
                yield f"{what}: request {number} has {tokens} tokens and {times} times"


@_book.promise("clock", "times are of time.monotonic(), ascend, and lie within the run")
def _clock(trial: BackendTrial) -> Iterator[str]:
    for what, run in _runs(trial):
        for number, completion in enumerate(run.completions):
            yield from (f"{what}: request {number}: {text}" for text in _disorder(run, completion))


def _disorder(run: Run, completion: Completion) -> Iterator[str]:
    timing = completion.timing
    times = (run.began_s, timing.submitted_s, *timing.token_s, run.ended_s)
    if not all(map(math.isfinite, times)):
        yield "a time isn't a number"
    elif timing.submitted_s < run.began_s:
        yield f"submitted {run.began_s - timing.submitted_s:.3g} s before the run began"
    elif any(b < a for a, b in itertools.pairwise(times[1:-1])):
        yield "its times run backwards"
    elif timing.token_s and timing.token_s[-1] > run.ended_s:
        yield f"its last token is {timing.token_s[-1] - run.ended_s:.3g} s after the run's end"
    scheduled_s = timing.scheduled_s
    first_s = timing.token_s[0] if timing.token_s else math.inf
    if scheduled_s is not None and not timing.submitted_s <= scheduled_s <= first_s:
        yield "scheduled_s isn't between submission and the first token"


@_book.promise("progress", "run() tells how many requests are done, up to all of them")
def _progress(trial: BackendTrial) -> Iterator[str]:
    run = trial.run(_RAGGED, 9)
    if list(run.told) != sorted(run.told) or not run.told or run.told[-1] != len(_RAGGED):
        yield f"of {len(_RAGGED)} requests it told {list(run.told)}"


@_book.promise("prompts", "answers depend on the prompt")
def _prompts(trial: BackendTrial) -> Iterator[str]:
    tokens = trial.run((12,) * 6, 12).tokens
    if len(set(tokens)) == 1:
        yield f"six different prompts were all answered with {list(tokens[0])}"


@_book.promise("greedy", "where nothing is said of decoding, equal requests have equal answers")
def _greedy(trial: BackendTrial) -> Iterator[str]:
    first, second = (trial.run((12,) * 3, 12, again=n, prompts="g").tokens for n in (1, 2))
    if first != second:
        yield f"it answered {first} and then {second}"
    other = trial.run((12,) * 3, 12, seed=8, prompts="g").tokens
    if other != first:
        yield f"another seed changed {first} into {other}"


def _decoded(trial: BackendTrial, seed: int = 7, again: int = 0, **fields: Any) -> list[Any]:
    """Tokens of the same prompts, decoded so."""
    run = trial.run((12,) * 3, 12, seed=seed, again=again, prompts="g", decoding=Decoding(**fields))
    return run.tokens


@_book.promise("seed", "where it samples, a seed's answers are repeated, and another's differ")
def _seed(trial: BackendTrial) -> Iterator[str]:
    can = trial.backend.abilities.decoding
    loose = {name: value for name, value in _LOOSE.items() if name in can}
    if not loose:
        return
    if _decoded(trial, again=1, **loose) != _decoded(trial, again=2, **loose):
        yield f"with {loose} and the same seed, answers differ"
    if _decoded(trial, again=1, **loose) == _decoded(trial, seed=8, **loose):
        yield f"with {loose}, another seed changes nothing"


@_book.promise("decoding", "every field of decoding among its abilities has its effect")
def _decoding(trial: BackendTrial) -> Iterator[str]:
    can, greedy = trial.backend.abilities.decoding, _decoded(trial)
    hot: dict[str, Any] = {"temperature": _HOT} if "temperature" in can else {}
    for name in sorted(can & _LOOSE.keys()):
        if _decoded(trial, **{name: _LOOSE[name]}) == greedy:
            yield f"{name}: {_LOOSE[name]} changes nothing of greedy decoding"
    for name in sorted(can & _STRICT.keys()):
        if _decoded(trial, **hot, **{name: _STRICT[name]}) != greedy:
            yield f"{name}: {_STRICT[name]} leaves the likeliest token alone, but others came"
    # Many tokens of random weights are as likely as the likeliest: it need not be greedy.
    if hot and "min_p" in can and _decoded(trial, **hot, min_p=1.0) == _decoded(trial, **hot):
        yield f"min_p: 1.0 changes nothing at a temperature of {_HOT}"
    if "temperature" in can and _decoded(trial, temperature=0.0) != greedy:
        yield "temperature: 0 isn't greedy"
    # Below 1 it makes repetitions likelier: of that, a text without any shows something, too.
    if "repetition_penalty" in can and _decoded(trial, repetition_penalty=0.05) == greedy:
        yield "repetition_penalty: 0.05 changes nothing"


@_book.promise("fresh", "nothing is kept of earlier prompts, unless somebody asks for it")
def _fresh(trial: BackendTrial) -> Iterator[str]:
    if trial.load().facts().reuses:
        yield "facts().reuses is true"
    for again in (1, 2):
        run = trial.run(_LONG, 2, again=again, prompts="long")
    cached = [completion.cached_tokens for completion in run.completions]
    if any(cached):
        yield f"prompts that it had seen before had {cached} tokens in a cache"


@_book.promise("kept", "it looks only at what all measurements share that one engine is kept for")
def _kept(trial: BackendTrial) -> Iterator[str]:
    engine = trial.load()
    trial.run()
    asked = Watched.of(trial.experiment)
    if prepare := getattr(engine, "prepare", None):
        prepare(asked)
    shared = {*BUILT_FROM, *trial.backend.abilities.built_from, *asked.seen, "id"}
    if trial.experiment.weights == "random":
        shared.add("seed")
    seen = trial.loaded_with.seen
    if seen.issuperset(field.name for field in dataclasses.fields(trial.experiment)):
        return  # it made a copy of all, and what it reads of that isn't known
    if others := seen - shared:
        yield (
            f"it reads {', '.join(sorted(others))}; name it in abilities.built_from, or read it in"
            " prepare(experiment), too"
        )


@_book.promise("memory", "peak_memory_bytes() is a number of bytes, or None; it can be reset")
def _memory(trial: BackendTrial) -> Iterator[str]:
    engine = trial.load()
    engine.reset_peak_memory()
    trial.run((6, 6, 6), 5, again=1)
    peak = engine.peak_memory_bytes()
    if peak is not None and (type(peak) is not int or peak <= 0):
        yield f"it is {peak!r}"


@_book.promise("closes", "close() ends what load() started")
def _closes(trial: BackendTrial) -> Iterator[str]:
    loop = getattr(trial.load(), "loop", None)
    trial.run()
    trial.close()
    # A process that has been told to end takes its time.
    until_s = time.monotonic() + trial.patience_s
    while (left := left_over() - trial.before_load) and time.monotonic() < until_s:
        time.sleep(0.05)
    if left:
        yield f"{', '.join(sorted(left))} still there {trial.patience_s:g} s later"
    if isinstance(loop, asyncio.AbstractEventLoop) and not loop.is_closed():
        yield "its event loop isn't closed"


@_book.promise("loads-again", "after close() it loads again, and answers as before")
def _loads_again(trial: BackendTrial) -> Iterator[str]:
    first = trial.first()
    trial.close()
    second = trial.run().tokens
    if first != second:
        yield f"with the same seed it answered {first} first and then {second}"


@_book.promise("streaming", "loaded for another scenario than offline it has loop and answer()")
def _streaming(trial: BackendTrial) -> Iterator[str]:
    if not trial.backend.abilities.scenarios - {"offline"}:
        return
    with trial.instead(scenario=Concurrency(concurrency=3)) as engine:
        if not isinstance(getattr(engine, "loop", None), asyncio.AbstractEventLoop):
            yield "loop isn't an event loop"
        elif not inspect.iscoroutinefunction(getattr(engine, "answer", None)):
            yield "answer isn't an async method"
        else:
            yield from _answered(trial)


def _answered(trial: BackendTrial) -> Iterator[str]:
    """What is wrong with requests that are sent one by one, before the first has its answer."""
    workload = trial.workload((6, 6, 6), 20, prompts="s")
    completions, told = trial.stream(workload)
    for number, (completion, seen) in enumerate(zip(completions, told, strict=True)):
        counts = (completion.timing.output_tokens, len(completion.token_ids))
        if counts != (20, 20) or len(completion.timing.token_s) != 20:
            yield f"request {number}: 20 tokens asked for, {counts[1]} came"
        if seen != sorted(seen) or not seen or seen[-1] != 20:
            yield f"request {number}: of 20 tokens it told {seen}"
    timings = [completion.timing for completion in completions]
    if all(a.token_s and b.submitted_s >= a.token_s[-1] for a, b in itertools.pairwise(timings)):
        yield "each request waited for the end of the one before"


PROMISES: tuple[Promise[BackendTrial], ...] = tuple(_book.promises)
"""What loaded engines promise, in the order in which it is tried."""
