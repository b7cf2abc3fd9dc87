"""Backends with the abilities of the real ones that compute next to nothing.

The many studies of the documents are run with them: what those say is how a study is put together,
and to find that out takes no seconds each.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

from pytest_llem.backends.pytorch import PytorchBackend
from pytest_llem.backends.tensorrt import TensorrtBackend
from pytest_llem.backends.vllm import VllmBackend
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Abilities, Completion, EngineFacts, Workload
from pytest_llem.records import RequestTiming


class StandInEngine:
    """Answers at once, and whatever it is asked, the same."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def facts(self) -> EngineFacts:
        return EngineFacts(vocab_size=256, device="cpu", details={"stand_in": True})

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        submitted_s = time.monotonic()
        done = []
        for prompt in workload.prompts:
            times = tuple(time.monotonic() for _ in range(workload.output_tokens))
            done.append(_completion(prompt, submitted_s, times))
        progress(len(done))
        return tuple(done)

    async def answer(
        self, number: int, workload: Workload, progress: Callable[[int], None]
    ) -> Completion:
        submitted_s, times = time.monotonic(), []
        for _ in range(workload.output_tokens):
            await asyncio.sleep(0)
            times.append(time.monotonic())
        progress(len(times))
        return _completion(workload.prompts[number], submitted_s, tuple(times))

    def reset_peak_memory(self) -> None:
        """There is none."""

    def peak_memory_bytes(self) -> int:
        return 1_000_000

    def close(self) -> None:
        self.loop.close()


def _completion(
    prompt: Sequence[int], submitted_s: float, token_s: tuple[float, ...]
) -> Completion:
    timing = RequestTiming(
        submitted_s=submitted_s,
        token_s=token_s,
        input_tokens=len(prompt),
        output_tokens=len(token_s),
    )
    return Completion(timing=timing, token_ids=tuple(range(len(token_s))))


class StandIn:
    name = ""
    install = ""
    abilities = Abilities()

    def versions(self) -> Mapping[str, str | None]:
        return {self.name: "1.0"}

    def preload(self) -> None:
        """There is nothing to import."""

    def load(self, _experiment: Experiment) -> StandInEngine:
        return StandInEngine()


class Pytorch(StandIn):
    name = "quick_pytorch"
    abilities = dataclasses.replace(PytorchBackend.abilities, forks=True)


class Tensorrt(StandIn):
    name = "quick_tensorrt"
    abilities = dataclasses.replace(TensorrtBackend.abilities, forks=True)


class Vllm(StandIn):
    name = "quick_vllm"
    abilities = dataclasses.replace(VllmBackend.abilities, forks=True)
