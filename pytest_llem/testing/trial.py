"""A backend on trial: what it is made and loaded with, and runs that several promises look at."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pytest_llem.experiment import Decoding, Experiment
from pytest_llem.extensions import BACKENDS, Backend, Completion, Engine, Workload, find
from pytest_llem.testing.promises import NotTried
from pytest_llem.worker.workload import synthetic

__all__ = ["TINY_MODEL", "BackendTrial", "Run", "Watched", "left_over"]

TINY_MODEL = Path(__file__).parents[1] / "cli" / "templates" / "models" / "tiny-llama"
"""A directory with the config.json of a small model, for ``weights: random``."""

_SIMPLEST = ((), (), 0)
"""The run that nothing is asked of."""

_PROBE = """
import importlib, json, operator, os, sys, threading
sys.path[:] = json.loads(sys.argv[1])
before = set(sys.modules)
backend = operator.attrgetter(sys.argv[3])(importlib.import_module(sys.argv[2]))()
backend.versions()
modules = {name.partition(".")[0] for name in set(sys.modules) - before}
threads = set(threading.enumerate())
backend.preload()
devices = set()
if os.path.isdir("/proc/self/fd"):
    for number in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if path.startswith(("/dev/nvidia", "/dev/kfd", "/dev/dri")):
            devices.add(path)
print()
print(json.dumps({
    "modules": sorted(modules),
    "threads": sorted(t.name for t in set(threading.enumerate()) - threads),
    "devices": sorted(devices),
}))
"""
"""What importing, making and preloading a backend does to an interpreter that has done nothing."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a workload, and what was seen around it.

    Attributes:
        began_s: before the call, by the monotonic clock.
        ended_s: after it.
        told: what it told of its progress.
    """

    workload: Workload
    completions: tuple[Completion, ...]
    began_s: float
    ended_s: float
    told: tuple[int, ...]

    @property
    def tokens(self) -> list[tuple[int, ...]]:
        """Token ids of each request."""
        return [completion.token_ids for completion in self.completions]


def left_over() -> set[str]:
    """Processes made by this one, and threads that keep it from ending."""
    found = {f"thread {t.name}" for t in threading.enumerate() if not t.daemon}
    for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found |= {f"process {pid}" for pid in path.read_text().split()}
    return found


class Watched(Experiment):
    """An experiment that notes which of its fields are read: in ``seen``.

    A copy of it is watched no longer.
    """

    @classmethod
    def of(cls, plain: Experiment) -> Watched:
        """In the place of an experiment."""
        fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
        made = cls(**fields)
        vars(made).update(seen=set(), plain=plain)
        return made

    def __getattribute__(self, name: str) -> Any:
        """A property counts, and what it reads by itself doesn't."""
        own: dict[str, Any] = object.__getattribute__(self, "__dict__")
        if name.startswith("__") or "plain" not in own:
            return object.__getattribute__(self, name)
        if name == "seen":
            return own[name]
        own["seen"].add(name)
        return getattr(own["plain"], name)


class BackendTrial:
    """A backend, and an engine that is loaded when it is needed and shared by the promises.

    Attributes:
        make: makes the backend.
        entry: name of its entry point; None where it wasn't given by name.
        experiment: what engines are loaded with.
        option: name of an option that the engine has.
        patience_s: time for what was told to end, to end.
        before_load: what was there before the first engine.
        loaded_with: the experiment of the engine that is loaded; it knows what was read of it.
    """

    def __init__(
        self,
        backend: str | Callable[[], Backend],
        experiment: Experiment | None = None,
        *,
        option: str | None = None,
        patience_s: float = 20.0,
    ) -> None:
        """Take a backend.

        Args:
            backend: name of its entry point, or its class.
            experiment: what to load: model, weights, dtype, device and options count. The
                default is a tiny Llama with random weights.
            option: name of an option that the engine has, so that a typo of it can be tried.
            patience_s: time for processes and threads to be gone, once the engine is closed.
        """
        self.entry = backend if isinstance(backend, str) else None
        self.make: Callable[[], Backend] = (
            find(BACKENDS, backend) if isinstance(backend, str) else backend
        )
        self.backend = self.make()
        self.experiment = experiment or Experiment(
            model=str(TINY_MODEL), weights="random", backend=self.backend.name
        )
        self.option = option
        self.patience_s = patience_s
        self.before_load: set[str] = set()
        self.loaded_with = Watched.of(self.experiment)
        self._engine: Engine | None = None
        self._loaded = False
        self._first: list[tuple[int, ...]] | None = None
        self._failed: Exception | None = None
        self._runs: dict[object, Run] = {}
        self._seen: dict[str, list[str]] | None = None

    def __enter__(self) -> BackendTrial:
        """Nothing is loaded yet."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Close the engine; where that fails too, what failed before is what is told."""
        with contextlib.nullcontext() if kind is None else contextlib.suppress(Exception):
            self.close()

    def load(self) -> Engine:
        """The engine; loaded where it isn't.

        Raises:
            Exception: whatever loading raises, the first time.
            NotTried: the same, from then on.
        """
        if self._failed is not None:
            raise NotTried(f"it doesn't load: {self._failed}") from self._failed
        if self._engine is None:
            if not self._loaded:
                self.before_load, self._loaded = left_over(), True
            try:
                self.backend.preload()
                self.loaded_with = Watched.of(self.experiment)
                self._engine = self.backend.load(self.loaded_with)
            except Exception as error:
                self._failed = error
                raise
        return self._engine

    def close(self) -> None:
        """Close the engine, where one is loaded, and forget its runs."""
        engine, self._engine = self._engine, None
        self._runs.clear()
        if engine is not None:
            engine.close()

    @contextlib.contextmanager
    def instead(self, **changes: Any) -> Iterator[Engine]:
        """An engine of a changed experiment, in place of the one that is loaded."""
        self.close()
        usual, failed = self.experiment, self._failed
        self.experiment = dataclasses.replace(usual, **changes)
        try:
            yield self.load()
        finally:
            self.experiment, self._failed = usual, failed
            self.close()

    def first(self) -> list[tuple[int, ...]]:
        """What the first engine answered to the simplest workload."""
        if self._first is None:
            self.run()
        return self._first or []

    def workload(
        self,
        lengths: tuple[int, ...] = (6, 6, 6),
        tokens: int = 5,
        *,
        batch: int = 2,
        seed: int = 7,
        decoding: Decoding = Decoding(),
        prompts: str = "a",
    ) -> Workload:
        """Requests of those lengths; ``prompts`` is the seed of their text."""
        drawn = synthetic(lengths, self.load().facts().vocab_size, prompts)
        return Workload(
            # Of nobody but the engine: it may not write there.
            prompts=tuple(tuple(prompt) for prompt in drawn),
            output_tokens=tokens,
            batch_size=batch if self.backend.abilities.batches else 1,
            seed=seed,
            decoding=decoding,
        )

    def run(self, *arguments: Any, again: int = 0, **named: Any) -> Run:
        """Run the workload made of the arguments; the same arguments are the same run."""
        key = (arguments, tuple(sorted(named.items())), again)
        if key not in self._runs:
            workload = self.workload(*arguments, **named)
            told: list[int] = []
            began_s = time.monotonic()
            completions = tuple(self.load().run(workload, told.append))
            ended_s = time.monotonic()
            self._runs[key] = Run(
                workload=workload,
                completions=completions,
                began_s=began_s,
                ended_s=ended_s,
                told=tuple(told),
            )
            if key == _SIMPLEST and self._first is None:
                self._first = self._runs[key].tokens
        return self._runs[key]

    def stream(self, workload: Workload) -> tuple[list[Completion], list[list[int]]]:
        """All requests at once, as a load generator sends them; and what each told."""
        engine: Any = self.load()
        told: list[list[int]] = [[] for _ in workload.prompts]

        async def together() -> list[Completion]:
            answers = (engine.answer(n, workload, told[n].append) for n in range(len(told)))
            return list(await asyncio.gather(*answers))

        completions: list[Completion] = engine.loop.run_until_complete(together())
        return completions, told

    def seen(self) -> dict[str, list[str]]:
        """What importing and preloading it did to an interpreter of its own.

        ``modules``: packages that came with its import; ``threads`` and ``devices``: that were
        started and opened by ``preload``.
        """
        if self._seen is None:
            made = [self.make.__module__, getattr(self.make, "__qualname__", "")]
            done = subprocess.run(
                [sys.executable, "-c", _PROBE, json.dumps(sys.path), *made],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise NotTried(
                    f"{'.'.join(made)} can't be imported, made and preloaded in an interpreter of"
                    f" its own: {done.stderr.strip()[-500:]}"
                )
            self._seen = json.loads(done.stdout.splitlines()[-1])
        return self._seen
