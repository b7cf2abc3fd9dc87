"""A backend in one file: an engine that adds up its prompt."""

import difflib
import importlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Abilities, Completion, Engine, EngineFacts, Workload
from pytest_llem.records import RequestTiming

OPTIONS = {"step_s": 0.001}


class ExampleBackend:
    name = "example"
    install = "pip install llem-example-engine"
    abilities = Abilities(devices=frozenset({"cpu"}))

    def versions(self) -> Mapping[str, str | None]:
        # A real one asks importlib.metadata.version(), and says None where that raises.
        return {"llem-example-engine": "1.0"}

    def preload(self) -> None:
        importlib.import_module("statistics")  # a real one imports its engine here

    def load(self, experiment: Experiment) -> Engine:
        if Path(experiment.model).is_absolute() and not Path(experiment.model).is_dir():
            raise LlemError(f"there is no model directory {experiment.model}")
        for option in experiment.options.keys() - OPTIONS.keys():
            near = difflib.get_close_matches(option, OPTIONS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise LlemError(f"example.{option}: the engine doesn't know it{hint}")
        return ExampleEngine({**OPTIONS, **experiment.options})


class ExampleEngine:
    def __init__(self, options: Mapping[str, Any]) -> None:
        self._step_s = options["step_s"]

    def facts(self) -> EngineFacts:
        return EngineFacts(vocab_size=1000, device="cpu", details={"step_s": self._step_s})

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        done: list[Completion] = []
        for first in range(0, len(workload.prompts), workload.batch_size):
            submitted_s = time.monotonic()
            prompts = workload.prompts[first : first + workload.batch_size]
            tokens: list[list[int]] = [[] for _ in prompts]
            token_s: list[float] = []
            for _ in range(workload.output_tokens):
                time.sleep(self._step_s)
                for prompt, made in zip(prompts, tokens, strict=True):
                    made.append((sum(prompt) + 7 * len(made)) % 1000)
                token_s.append(time.monotonic())
            for prompt, made in zip(prompts, tokens, strict=True):
                timing = RequestTiming(
                    submitted_s=submitted_s,
                    token_s=tuple(token_s),
                    input_tokens=len(prompt),
                    output_tokens=len(made),
                )
                done.append(Completion(timing=timing, token_ids=tuple(made)))
            progress(len(done))
        return tuple(done)

    def reset_peak_memory(self) -> None:
        pass

    def peak_memory_bytes(self) -> int | None:
        return None  # it can't tell

    def close(self) -> None:
        pass
