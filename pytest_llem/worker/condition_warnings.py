"""What is out of the ordinary about GPUs around a window: a sentence each, with its remedy."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_llem.meters.gpu_state import HARMLESS, GpuProcess, GpuState, events_of
from pytest_llem.meters.trace import Sample
from pytest_llem.worker.power_trace import LEAST_SAMPLES

__all__ = ["RESIDUAL_BYTES", "foreign", "name_of", "of_gpu", "shared"]

RESIDUAL_BYTES = 2**30
"""Memory in use before anything of ours is there that a driver by itself does not hold."""

_DRIFT_C = 10.0
_RISING_C = 2.0
_CLOCK = 0.05

_AT_THIS_LIMIT = (
    "this is how it works at this limit: compare only with measurements at the same one, or set"
    " another: sudo nvidia-smi -i {gpu} -pl WATTS"
)
_COOL = "mend its cooling, and let it rest longer: execution.gaps"
_LOOK = "see nvidia-smi -q -d PERFORMANCE; the cause may be heat or the power supply"
_SLOWDOWNS = {
    "sw_power_cap": ("its power cap", _AT_THIS_LIMIT),
    "hw_thermal_slowdown": ("its own protection from heat", _COOL),
    "sw_thermal_slowdown": ("the driver, as it was too hot", _COOL),
    "hw_power_brake": (
        "the power brake of its server",
        "the power supply is overloaded: see the server's own log",
    ),
    "hw_slowdown": ("its own protection", _LOOK),
    "sync_boost": ("a slower GPU of its sync boost group", "take it out of the group"),
}
_OTHER = ("{event}", _LOOK)


def of_gpu(
    before: GpuState | None, after: GpuState | None, samples: Sequence[Sample]
) -> Iterator[str]:
    """Warnings about one GPU.

    Args:
        before: how it was before the window; None where that isn't known.
        after: how it was after it.
        samples: of this GPU over the window, in their order; may be empty.
    """
    known = after or before
    if known is None:
        return
    yield from _settings(known)
    yield from _slowdowns(known, [state for state in (before, after) if state], samples)
    if before and after:
        yield from _thermal(before, after, samples)
        yield from _clocks(before, after, samples)


def _settings(state: GpuState) -> Iterator[str]:
    gpu, limit_w, default_w = state.gpu, state.power_limit_w, state.power_limit_default_w
    if state.persistence is False:
        yield (
            f"GPU {gpu}: persistence mode is off, so its state is lost whenever nobody uses it;"
            f" switch it on: sudo nvidia-smi -i {gpu} -pm 1"
        )
    if limit_w is not None and default_w is not None and limit_w < default_w:
        yield (
            f"GPU {gpu}: its power limit is {limit_w:.0f} W, below its default of"
            f" {default_w:.0f} W; compare only with measurements at the same limit, or set it"
            f" back: sudo nvidia-smi -i {gpu} -pl {default_w:.0f}"
        )
    if state.mig or state.uuid.startswith("MIG-"):
        yield (
            f"GPU {gpu} is in MIG mode: power and energy are those of the whole GPU, with all its"
            " instances, and can't be told apart; for figures of this experiment alone, switch it"
            f" off: sudo nvidia-smi -i {gpu} -mig 0"
        )


def _slowdowns(
    state: GpuState, ends: Sequence[GpuState], samples: Sequence[Sample]
) -> Iterator[str]:
    """What slowed the GPU down in the window, or just before or after it."""
    seen = [events_of(s.event_bits) for s in samples if s.event_bits is not None]
    at_ends = {event for end in ends for event in end.events or ()}
    events = dict.fromkeys([*(event for found in seen for event in found), *sorted(at_ends)])
    for event in events:
        # Set together with its cause, where there is one known.
        by_cause = {"hw_thermal_slowdown", "hw_power_brake"} & events.keys()
        if event in HARMLESS or (event == "hw_slowdown" and by_cause):
            continue
        count = sum(event in found for found in seen)
        if count:
            share = count / len(seen)
            when = (
                f"in {share * 100:.0f} % of the window's {len(seen)} samples{_clock_range(samples)}"
            )
        else:
            when = "just before or after the window"
        cause, fix = _SLOWDOWNS.get(event, _OTHER)
        limit = (
            f", limit {state.power_limit_w:.0f} W"
            if event == "sw_power_cap" and state.power_limit_w is not None
            else ""
        )
        yield (
            f"GPU {state.gpu} was slowed down by {cause.format(event=event)} {when}{limit}:"
            f" {fix.format(gpu=state.gpu)}"
        )


def _clock_range(samples: Sequence[Sample]) -> str:
    clocks = [sample.sm_clock_mhz for sample in samples if sample.sm_clock_mhz is not None]
    return f" (SM clock {min(clocks)} to {max(clocks)} MHz)" if clocks else ""


def _thermal(before: GpuState, after: GpuState, samples: Sequence[Sample]) -> Iterator[str]:
    """Not in a steady state: it drifted over the window, or was still getting warmer."""
    fix = (
        "a warmer GPU draws more power for the same work: warm it up longer (warmup.prompts,"
        " warmup.until_stable), or measure longer"
    )
    first_c, last_c = before.temperature_c, after.temperature_c
    if first_c is not None and last_c is not None and abs(last_c - first_c) > _DRIFT_C:
        yield (
            f"thermal state: GPU {before.gpu} was at {first_c:.0f} °C before the window and at"
            f" {last_c:.0f} °C after it; {fix}"
        )
        return
    celsius = [s.temperature_c for s in samples if s.temperature_c is not None]
    if len(celsius) >= 2 * LEAST_SAMPLES:
        quarter = len(celsius) // 4
        third_c = statistics.fmean(celsius[2 * quarter : 3 * quarter])
        rise_c = statistics.fmean(celsius[-quarter:]) - third_c
        if rise_c >= _RISING_C:
            yield (
                f"thermal state: GPU {before.gpu} was still getting warmer at the end of the window"
                f" (by {rise_c:.1f} °C over its last quarter); {fix}"
            )


def _clocks(before: GpuState, after: GpuState, samples: Sequence[Sample]) -> Iterator[str]:
    """Other clocks at the end than at the start."""
    clocks = [s.sm_clock_mhz for s in samples if s.sm_clock_mhz is not None]
    first: float | None
    last: float | None
    if len(clocks) >= LEAST_SAMPLES:
        quarter = len(clocks) // 4
        first, last = statistics.median(clocks[:quarter]), statistics.median(clocks[-quarter:])
        where = "in the first and the last quarter of the window"
    elif "idle" in {*(before.events or ()), *(after.events or ())}:
        return  # an idle GPU slows down by itself
    else:
        first, last, where = before.sm_clock_mhz, after.sm_clock_mhz, "before and after the window"
    if first and last and abs(last - first) > _CLOCK * first:
        yield (
            f"GPU {before.gpu}: its SM clock was {first:.0f} and {last:.0f} MHz {where}; for"
            f" steady clocks, lock them: sudo nvidia-smi -i {before.gpu} -lgc MHZ"
        )


# --- others on the same GPU ----------------------------------------------------------------


def foreign(state: GpuState, own: frozenset[int]) -> tuple[GpuProcess, ...]:
    """Processes on a GPU that aren't ours."""
    return tuple(process for process in state.processes or () if process.pid not in own)


def shared(state: GpuState, others: Sequence[GpuProcess], proc: Path = Path("/proc")) -> str:
    """The warning that others compute on a GPU, too."""
    named = ", ".join(_described(process, proc) for process in others)
    end = " ".join(str(process.pid) for process in others)
    return (
        f"GPU {state.gpu} is shared with other processes: {named}; its energy and speed are theirs,"
        f" too: wait for them, or end them: kill {end}"
    )


def _described(process: GpuProcess, proc: Path) -> str:
    memory = "" if process.memory_bytes is None else f", {process.memory_bytes / 2**30:.1f} GiB"
    return f"pid {process.pid} ({name_of(process.pid, proc)}{memory})"


def name_of(pid: int, proc: Path = Path("/proc")) -> str:
    """What a process is called; ``?`` where that can't be read."""
    try:
        return (proc / str(pid) / "comm").read_text(errors="replace").strip() or "?"
    except OSError:
        return "?"
