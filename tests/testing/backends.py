"""A backend that keeps every promise, and others that each break one."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Decoding, Experiment
from pytest_llem.extensions import Abilities, Completion, EngineFacts, Workload
from pytest_llem.records import RequestTiming

VOCABULARY = 5000

LOOPS: list[asyncio.AbstractEventLoop] = []
"""Of all engines that were made: not all are closed by whoever should."""


class GoodEngine:
    """Draws each token from a few candidates that the text before it decides."""

    def __init__(self, experiment: Experiment) -> None:
        self.loop = asyncio.new_event_loop()
        LOOPS.append(self.loop)
        self._seed = experiment.seed

    def facts(self) -> EngineFacts:
        return EngineFacts(vocab_size=VOCABULARY, device="cpu", details={"seed": self._seed})

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        done = []
        for number in range(len(workload.prompts)):
            done.append(self.loop.run_until_complete(self.answer(number, workload, _ignore)))
            progress(number + 1)
        return tuple(done)

    async def answer(
        self, number: int, workload: Workload, progress: Callable[[int], None]
    ) -> Completion:
        submitted_s = time.monotonic()
        prompt = workload.prompts[number]
        made: list[int] = []
        token_s: list[float] = []
        for _ in range(workload.output_tokens):
            await asyncio.sleep(0)
            made.append(self.token((*prompt, *made), workload.decoding, workload.seed))
            token_s.append(time.monotonic())
            progress(len(made))
        timing = RequestTiming(
            submitted_s=submitted_s,
            token_s=tuple(token_s),
            input_tokens=len(prompt),
            output_tokens=len(made),
            scheduled_s=submitted_s,
        )
        return Completion(timing=timing, token_ids=tuple(made), cached_tokens=0)

    def token(self, text: tuple[int, ...], decoding: Decoding, seed: int) -> int:
        words = f"{self._seed}/{text}"
        model = random.Random(hashlib.sha256(words.encode()).digest())
        likeliest, *others = (model.randrange(VOCABULARY) for _ in range(20))
        hot = decoding.temperature if decoding.temperature is not None else 1.0
        asked = (decoding.temperature, decoding.top_k, decoding.top_p, decoding.min_p)
        greedy = asked == (None,) * 4 or hot == 0
        alone = decoding.top_k == 1 or (decoding.top_p or 1) < 0.01 or decoding.min_p == 1
        if (decoding.repetition_penalty or 1) < 1:
            return text[0]
        if greedy or alone:
            return likeliest
        return random.Random(f"{seed}/{words}").choice([likeliest, *others])

    def reset_peak_memory(self) -> None:
        """Nothing is counted."""

    def peak_memory_bytes(self) -> int | None:
        return 1_000_000

    def close(self) -> None:
        self.loop.close()


def _ignore(_: int) -> None:
    """Nobody wants to know."""


class GoodBackend:
    name = "good"
    install = "pip install good"
    abilities = Abilities(
        scenarios=frozenset({"offline", "poisson", "concurrency"}),
        devices=frozenset({"cpu"}),
        batches=False,
        decoding=frozenset({"temperature", "top_k", "top_p", "min_p", "repetition_penalty"}),
    )
    engine: Callable[[Experiment], Any] = GoodEngine

    def versions(self) -> Mapping[str, str | None]:
        return {"good": "1.0"}

    def preload(self) -> None:
        """Nothing is heavy."""

    def load(self, experiment: Experiment) -> Any:
        if not Path(experiment.model).is_dir():
            raise LlemError(f"there is no model directory {experiment.model}")
        for option in experiment.options:
            if option != "steps":
                raise LlemError(f"good.{option}: unknown; did you mean steps?")
        return type(self).engine(experiment)


# --- each of these breaks the promise it is named for --------------------------------------------


class Names(GoodBackend):
    install = ""


class Light(GoodBackend):
    def __init__(self) -> None:
        import pydantic  # noqa: F401


class Versions(GoodBackend):
    def versions(self) -> Mapping[str, str | None]:
        return {"good": None}


class AbilitiesWrong(GoodBackend):
    abilities = Abilities(scenarios=frozenset({"online"}))


class PreloadThread(GoodBackend):
    def preload(self) -> None:
        threading.Thread(target=time.sleep, args=(60,), daemon=True, name="pool").start()


class NoModel(GoodBackend):
    def load(self, experiment: Experiment) -> Any:
        if not Path(experiment.model).is_dir():
            raise FileNotFoundError(experiment.model)
        return super().load(experiment)


class UnknownOptionTaken(GoodBackend):
    def load(self, experiment: Experiment) -> Any:
        return super().load(dataclasses.replace(experiment, options={}))


class UnknownOptionUnnamed(GoodBackend):
    def load(self, experiment: Experiment) -> Any:
        if experiment.options:
            raise LlemError("an option is wrong")
        return super().load(experiment)


class UnknownOptionNotNearest(GoodBackend):
    def load(self, experiment: Experiment) -> Any:
        for option in experiment.options:
            raise LlemError(f"good.{option}: unknown")
        return super().load(experiment)


class Loads(GoodBackend):
    def load(self, experiment: Experiment) -> Any:
        if experiment.options:
            return super().load(experiment)
        raise RuntimeError("no GPU")


def breaking(**methods: Any) -> type[GoodBackend]:
    """A backend whose engine has other methods."""
    engine = type("BrokenEngine", (GoodEngine,), methods)
    return type("Broken", (GoodBackend,), {"engine": engine})


def changed(change: Callable[[Completion], Completion]) -> type[GoodBackend]:
    """A backend whose engine's completions are changed, however it is asked."""

    async def answer(self: GoodEngine, *arguments: Any) -> Completion:
        return change(await GoodEngine.answer(self, *arguments))

    return breaking(answer=answer)


def retimed(**fields: Any) -> type[GoodBackend]:
    """A backend whose timings have other fields, each made of the timing."""

    def change(completion: Completion) -> Completion:
        made = {name: make(completion.timing) for name, make in fields.items()}
        timing = dataclasses.replace(completion.timing, **made)
        return dataclasses.replace(completion, timing=timing)

    return changed(change)


def deciding(choose: Callable[..., Any]) -> type[GoodBackend]:
    """A backend whose engine changes how it decodes before it does."""

    def token(self: GoodEngine, text: tuple[int, ...], decoding: Decoding, seed: int) -> int:
        text, decoding, seed = choose(text, decoding, seed)
        return GoodEngine.token(self, text, decoding, seed)

    return breaking(token=token)


def _without(*names: str) -> type[GoodBackend]:
    """A backend whose engine takes no notice of fields of decoding."""
    return deciding(
        lambda text, decoding, seed: (
            text,
            dataclasses.replace(decoding, **dict.fromkeys(names)),
            seed,
        )
    )


_drawn = iter(range(10**9))


class _Leaving(GoodEngine):
    """Leaves a thread that keeps the process from ending."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        self.stop = threading.Event()
        LEFT.append(self.stop)
        threading.Thread(target=self.stop.wait, name=f"left {len(LEFT)}").start()


LEFT: list[threading.Event] = []
"""What ends the threads that engines left behind."""


class _Sequential(GoodEngine):
    """One request after the other, though it could take more."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        self._lock = asyncio.Lock()

    async def answer(self, *arguments: Any) -> Completion:
        async with self._lock:
            return await super().answer(*arguments)


class _Remembering(GoodEngine):
    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        self._known: set[tuple[int, ...]] = set()

    async def answer(
        self, number: int, workload: Workload, progress: Callable[[int], None]
    ) -> Completion:
        completion = await super().answer(number, workload, progress)
        prompt = tuple(workload.prompts[number])
        hit = len(prompt) - 1 if prompt in self._known else 0
        self._known.add(prompt)
        return dataclasses.replace(completion, cached_tokens=hit)


class _Sized(GoodEngine):
    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        self._longest = experiment.output_tokens


class _Once(GoodEngine):
    made = 0

    def __init__(self, experiment: Experiment) -> None:
        _Once.made += 1
        super().__init__(dataclasses.replace(experiment, seed=_Once.made))


def _backend(engine: type[GoodEngine]) -> type[GoodBackend]:
    return type("Broken", (GoodBackend,), {"engine": engine})


def broken() -> Iterator[tuple[str, str, type[GoodBackend]]]:
    """Promise, what is wrong, and the backend that breaks it so."""
    yield "names", "install is ''", Names
    yield "light", "pydantic", Light
    yield "versions", "isn't installed here", Versions
    yield "abilities", "lacks offline", AbilitiesWrong
    yield "abilities", "has online", AbilitiesWrong
    yield "preload", "it started pool", PreloadThread
    yield "no-model", "FileNotFoundError, not LlemError", NoModel
    yield "unknown-option", "it loaded with", UnknownOptionTaken
    yield "unknown-option", "doesn't name llem_has_no_such_option", UnknownOptionUnnamed
    yield "unknown-option", "doesn't name steps", UnknownOptionNotNearest
    yield "loads", "RuntimeError was raised: no GPU", Loads
    yield "loads", "it lacks close", breaking(close=None)
    for text, facts in (
        ("vocab_size is 0", EngineFacts(vocab_size=0, device="cpu")),
        ("isn't among its abilities", EngineFacts(vocab_size=9, device="cuda")),
        (
            "not JSON serializable",
            EngineFacts(vocab_size=9, device="cpu", details={"dtype": object()}),
        ),
    ):
        yield "facts", text, breaking(facts=lambda _, facts=facts: facts)
    yield "answers", "came back with counts", retimed(input_tokens=lambda t: t.input_tokens + 1)
    yield (
        "answers",
        "came back with counts",
        breaking(run=lambda self, *asked: GoodEngine.run(self, *asked)[::-1]),
    )
    yield (
        "exact",
        "says it has 5 and has 4",
        changed(lambda c: dataclasses.replace(c, token_ids=c.token_ids[1:])),
    )
    yield "exact", "says it has 0", retimed(output_tokens=lambda t: t.output_tokens - 1)
    yield (
        "ids",
        "5000 isn't an id below 5000",
        changed(lambda c: dataclasses.replace(c, token_ids=(5000, *c.token_ids[1:]))),
    )
    yield "times", "5 tokens and 4 times", retimed(token_s=lambda t: t.token_s[1:])
    yield "clock", "run backwards", retimed(token_s=lambda t: t.token_s[::-1])
    yield (
        "clock",
        "before the run began",
        retimed(submitted_s=lambda t: t.submitted_s - 60, scheduled_s=lambda _: None),
    )
    yield "clock", "after the run's end", retimed(token_s=lambda t: [x + 60 for x in t.token_s])
    yield "clock", "isn't a number", retimed(token_s=lambda t: [float("nan")] * len(t.token_s))
    yield "clock", "scheduled_s isn't between", retimed(scheduled_s=lambda t: t.token_s[0] + 1)
    yield (
        "progress",
        "it told []",
        breaking(run=lambda self, asked, _: GoodEngine.run(self, asked, _ignore)),
    )
    yield "prompts", "six different prompts", breaking(token=lambda *_: 7)
    yield "greedy", "and then", breaking(token=lambda *_: next(_drawn) % VOCABULARY)
    yield (
        "greedy",
        "another seed changed",
        deciding(lambda text, decoding, seed: ((*text, seed), decoding, seed)),
    )
    yield (
        "seed",
        "the same seed, answers differ",
        deciding(lambda text, decoding, _: (text, decoding, next(_drawn))),
    )
    yield (
        "seed",
        "another seed changes nothing",
        deciding(lambda text, decoding, _: (text, decoding, 1)),
    )
    yield "decoding", "temperature: 2.0 changes nothing", _without("temperature")
    for name in ("top_k", "top_p", "min_p"):
        yield "decoding", f"{name}: ", _without(name)
    yield "decoding", "repetition_penalty: ", _without("repetition_penalty")
    yield "fresh", "tokens in a cache", _backend(_Remembering)
    yield (
        "fresh",
        "reuses is true",
        breaking(facts=lambda _: EngineFacts(vocab_size=99, device="cpu", reuses=True)),
    )
    yield "kept", "it reads output_tokens; name it", _backend(_Sized)
    yield "memory", "it is -1", breaking(peak_memory_bytes=lambda _: -1)
    yield "streaming", "waited for the end", _backend(_Sequential)
    yield (
        "streaming",
        "20 tokens asked for, 19 came",
        changed(lambda c: dataclasses.replace(c, token_ids=c.token_ids[:19])),
    )
    yield (
        "streaming",
        "isn't an async method",
        breaking(answer=lambda self, *asked: GoodEngine.answer(self, *asked)),
    )
    yield "closes", "thread left", _backend(_Leaving)
    yield "closes", "event loop isn't closed", breaking(close=lambda _: None)
    yield "loads-again", "and then", _backend(_Once)


BROKEN = tuple(broken())
