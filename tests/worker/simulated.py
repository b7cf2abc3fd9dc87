"""An engine, windows and a meter on a clock that nobody waits for."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pytest_llem.extensions import Completion, EngineFacts, Meter, Workload
from pytest_llem.records import Figure, Window
from pytest_llem.worker.repeats import Repeater
from tests.builders import completion, timing, window

__all__ = ["Lab", "silent"]

Seconds = Callable[[Workload], float]


def silent(kind: str, **fields: Any) -> None:
    """Nobody listens to frames."""
    assert kind
    assert isinstance(fields, dict)


class Lab:
    """Everything that a :class:`Repeater` needs, in a world with a time of its own.

    Attributes:
        now_s: the time; work moves it on, and so may a test.
        batches: every workload that the engine was given.
        exact: how the windows were asked for, by name and in order.
    """

    def __init__(
        self, run_s: float | Seconds = 1.0, edges_s: float = 0.0, draw_s: float = 0.0
    ) -> None:
        self.now_s = 0.0
        self.windows: list[Window] = []
        self.meters: Sequence[Meter] = ()
        self.batches: list[Workload] = []
        self.exact: list[tuple[str, bool | None]] = []
        self._run_s = run_s
        self._edges_s = edges_s
        self._draw_s = draw_s

    def repeater(self, emit: Callable[..., None] = silent, output_tokens: int = 3) -> Repeater:
        """Runs a workload of two prompts; their first token is the repeat's number."""

        def draw(number: int) -> Workload:
            self.now_s += self._draw_s
            return Workload(
                prompts=[[number, 1], [number, 2, 3]],
                output_tokens=output_tokens,
                batch_size=2,
                seed=0,
            )

        return Repeater(self, self, emit, draw)

    def energy(
        self, power_w: float = 10.0, edge_j: float = 0.0, noise_j: float = 0.0
    ) -> Callable[[Window], Figure]:
        """A meter: uncertain by so much a window, and so much in each of its seconds."""

        def read(window: Window) -> Figure:
            spread_j = math.hypot(edge_j, noise_j * math.sqrt(window.duration_s))
            return Figure(value=power_w * window.duration_s, uncertainty=spread_j)

        return read

    # --- windows ---------------------------------------------------------------------------

    def clock(self) -> float:
        return self.now_s

    @contextlib.contextmanager
    def phase(self, name: str, exact: bool | None = None) -> Iterator[None]:
        self.exact.append((name, exact))
        self.now_s += self._edges_s / 2
        start_s = self.now_s
        yield
        self.windows.append(window(name, self.now_s - start_s))
        self.now_s += self._edges_s / 2

    # --- engine ----------------------------------------------------------------------------

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        self.batches.append(workload)
        self.now_s += self._run_s(workload) if callable(self._run_s) else self._run_s
        progress(len(workload.prompts))
        return tuple(self._answers(workload.prompts, workload.output_tokens))

    def _answers(self, prompts: Sequence[Sequence[int]], count: int) -> Iterator[Completion]:
        times = [self.now_s + index for index in range(count)]
        for prompt in prompts:
            yield completion(timing(self.now_s, *times, input_tokens=len(prompt)))

    def facts(self) -> EngineFacts:
        return EngineFacts(vocab_size=1000, device="cpu")

    def reset_peak_memory(self) -> None:
        """There is no memory."""

    def peak_memory_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        """Nothing is held."""
