"""What surrounds a measured window on GPUs: who else is there, two looks, the power trace.

Nothing of this happens inside of the window.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pytest_llem.experiment import Experiment
from pytest_llem.gpus import Gpu, look
from pytest_llem.meters.gpu_state import GpuState, States, gpu_states
from pytest_llem.meters.trace import Sample, Trace
from pytest_llem.nvml import Nvml
from pytest_llem.records import TraceSummary, Window
from pytest_llem.wire import to_dict
from pytest_llem.worker import power_trace
from pytest_llem.worker.condition_warnings import foreign, of_gpu, shared
from pytest_llem.worker.host_pids import HostPids
from pytest_llem.worker.occupancy import LONGEST_S, Wait, hidden_pids, own_pids, wait_for_others
from pytest_llem.worker.seat import check_seat, engine_pids
from pytest_llem.worker.surroundings import Observed, Surroundings

__all__ = ["Conditions", "watched"]


class Conditions(Surroundings):
    """Watches some GPUs around one measured window."""

    def __init__(
        self,
        gpus: Sequence[Gpu],
        trace: Trace | None,
        *,
        nvml: Nvml | None = None,
        own: Callable[[], frozenset[int]] = own_pids,
        engine: Callable[[], frozenset[int]] | None = engine_pids,
        hidden: str = "",
        reason: str = "",
    ) -> None:
        """Watch nothing yet.

        Args:
            gpus: the experiment's own.
            trace: started, and of the same GPUs; None where there is none.
            nvml: ``pynvml``, or a test's own.
            own: tells pids of ours.
            engine: tells those of the engine and its worker only; None where it was loaded for an
                earlier measurement, which looked where it is.
            hidden: why pids mean nothing here; empty where they do.
            reason: why no GPU could be found.
        """
        self._gpus = tuple(gpus)
        self._trace = trace
        self._nvml = nvml
        self._own = own
        self._engine = engine
        self._seat = ""
        self._hidden = hidden
        self._reason = reason
        self._on_a_gpu = True
        self._wait = Wait()
        self._before = self._after = States(reason="the window was not reached")
        self._cpu_s: float | None = None

    def wait(self, emit: Callable[..., None]) -> None:
        """Wait until nobody else is on the GPUs, for a minute at most; said where it is due."""
        told: list[float] = []

        def tell(waited_s: float) -> None:
            if not told:
                emit("phase", phase="wait")
            told.append(waited_s)
            emit("progress", done=round(waited_s), total=round(LONGEST_S))

        if self._gpus:
            self._wait = wait_for_others(self._look, self._own, self._hidden, tell)

    def settle(self, device: str) -> None:
        """The engine is loaded, on this device: other devices than GPUs aren't watched.

        Raises:
            LlemError: when it is on a GPU that isn't its own.
        """
        if device != "cuda":
            self._on_a_gpu = False
            self._gpus = ()
            self.close()
        if self._gpus and self._engine is not None:
            self._seat = check_seat(self._gpus, self._engine(), self._hidden, self._nvml)

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """A look before the window and one after it, and the power trace meanwhile."""
        if not self._gpus:
            yield
            return
        self._before = self._look()
        used_s = None
        if self._trace is not None:
            self._trace.on()
            used_s = self._trace.cpu_s
        try:
            yield
        finally:
            if self._trace is not None:
                self._trace.off()
                if used_s is not None and self._trace.cpu_s is not None:
                    self._cpu_s = self._trace.cpu_s - used_s
            self._after = self._look()

    def observed(self, window: Window) -> Observed:
        """What there is to report of the measured window."""
        if not self._on_a_gpu:
            return Observed()
        if not self._gpus:
            reason = self._reason or "no GPU was found by NVML"
            none = TraceSummary(reason=reason)
            unknown = f"nothing is known of the conditions on the GPU: {reason}"
            conditions = {**self._conditions(), "reason": reason}
            return Observed(conditions=conditions, trace=none, warnings=(unknown,))
        samples = self._samples(window)
        return Observed(
            conditions=self._conditions(),
            trace=self._summary(samples),
            warnings=tuple(self._warnings(window, samples)),
            rows=tuple(power_trace.rows(samples, self._gpus)),
        )

    def power_w(self) -> float | None:
        """Of this moment, as the trace saw it; it asks no device."""
        return None if self._trace is None else self._trace.power_w

    def testbed(self) -> dict[str, Any]:
        """What makes two hosts comparable as to their GPUs; empty for other devices."""
        state = self._before if self._before.gpus else self._after
        if not state.gpus:
            return {}
        return {
            "gpus": [gpu.name for gpu in state.gpus],
            "gpu_count": len(state.gpus),
            "power_limits_w": [gpu.power_limit_w for gpu in state.gpus],
            "driver_branch": (state.driver or "").partition(".")[0] or None,
            "mig": any(gpu.mig or gpu.uuid.startswith("MIG-") for gpu in state.gpus),
        }

    def close(self) -> None:
        """End the power trace."""
        if self._trace is not None:
            self._trace.close()

    def _look(self) -> States:
        return gpu_states(self._gpus, self._nvml)

    def _samples(self, window: Window) -> tuple[Sample, ...]:
        if self._trace is None:
            return ()
        return self._trace.samples(window.start_s, window.start_s + window.duration_s)

    def _summary(self, samples: Sequence[Sample]) -> TraceSummary:
        if self._trace is None:
            reason = "the power trace is switched off (power_trace_hz: none)"
            return TraceSummary(reason=reason)
        unread = [
            f"GPU {gpu.index}: {why}"
            for gpu, why in zip(self._gpus, self._trace.reasons, strict=False)
            if why
        ]
        reason = "; ".join(filter(None, (self._trace.reason, *unread)))
        return power_trace.summary(samples, self._gpus, self._trace.sources, reason)

    def _conditions(self) -> dict[str, Any]:
        reasons = sorted({self._before.reason, self._after.reason} - {""})
        seat = f"unchecked: {self._seat}" if self._seat else "checked"
        return {
            "driver": self._before.driver or self._after.driver,
            "before": [to_dict(state) for state in self._before.gpus],
            "after": [to_dict(state) for state in self._after.gpus],
            "waited_s": self._wait.waited_s,
            "trace_cpu_s": self._cpu_s,
            "unchecked": f"processes on the GPUs: {self._hidden}" if self._hidden else None,
            "reason": "; ".join(reasons) or None,
            "seat": None if self._engine is None else seat,
        }

    def _warnings(self, window: Window, samples: Sequence[Sample]) -> Iterator[str]:
        yield from self._wait.warnings
        before = {state.uuid: state for state in self._before.gpus}
        after = {state.uuid: state for state in self._after.gpus}
        for number, gpu in enumerate(self._gpus):
            own = [sample for sample in samples if sample.gpu == number]
            ends = before.get(gpu.uuid), after.get(gpu.uuid)
            yield from of_gpu(*ends, own)
            yield from self._sharing([state for state in ends if state is not None])
        yield from power_trace.cross_check(
            samples,
            self._gpus,
            self._trace.sources if self._trace else (),
            window.readings,
            window.duration_s,
        )
        for when, states in (("before", self._before), ("after", self._after)):
            if states.reason:
                yield f"the GPUs could not be looked at {when} the window: {states.reason}"

    def _sharing(self, ends: Sequence[GpuState]) -> Iterator[str]:
        """Others who came after the wait: those that it told of aren't told of again."""
        if self._hidden or not ends:
            return
        ours = self._own() | self._wait.named
        others = {other.pid: other for state in ends for other in foreign(state, ours)}
        if others:
            yield shared(ends[-1], tuple(others.values()))


@contextlib.contextmanager
def watched(
    experiment: Experiment,
    emit: Callable[..., None],
    loaded: bool,
    host_pids: Callable[[], HostPids] | None = None,
) -> Iterator[Conditions]:
    """The conditions of a measurement on what may be a GPU, from before its engine is loaded.

    Waits for other processes, and starts the power trace. Where the engine is loaded already, and
    whose the memory is can't be told, there is nothing to wait for: it is the engine's own.
    ``host_pids`` asks the host for the pids of ours, where they have others here.
    """
    found = look()
    gpus = found.gpus[: experiment.devices]
    trace = None
    if gpus and experiment.power_trace_hz != "none":
        trace = Trace([gpu.uuid for gpu in gpus], experiment.power_trace_hz)
        trace.start()
    own: Callable[[], frozenset[int]] = own_pids
    engine: Callable[[], frozenset[int]] | None = engine_pids
    hidden = hidden_pids()
    if hidden and gpus and host_pids is not None:
        own = engine = told = host_pids()
        hidden = told.reason and f"{hidden}; {told.reason}"
    engine = None if loaded else engine
    conditions = Conditions(gpus, trace, own=own, engine=engine, hidden=hidden, reason=found.reason)
    try:
        if not (loaded and hidden):
            conditions.wait(emit)
        yield conditions
    finally:
        conditions.close()
