"""From windows and timings to the value of every metric; see docs/methodology.md."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_llem.experiment import Slo
from pytest_llem.metrics import METRICS
from pytest_llem.records import Figure, Idle, RequestTiming, TraceSummary, Window
from pytest_llem.worker.energy import energies
from pytest_llem.worker.facts import Facts
from pytest_llem.worker.latency import goodput, latency_figures
from pytest_llem.worker.quantity import null

__all__ = ["figures"]


def figures(
    windows: Sequence[Window],
    timings: Sequence[RequestTiming],
    facts: Facts,
    slo: Slo = Slo(),
    *,
    idle: Idle | None = None,
    trace: TraceSummary | None = None,
    ended: Sequence[RequestTiming] | None = None,
    steal: Figure | None = None,
) -> dict[str, Figure]:
    """The value of every metric, or null with the reason.

    Args:
        windows: of all phases; ``measure`` must be there.
        timings: of the requests that the latencies are of.
        facts: counts of the same requests.
        slo: what a request must keep to, to count for goodput.
        idle: power with the engine loaded and no request; None where it wasn't asked for.
        trace: what a power trace saw over the measured window; None where there was none.
        ended: requests that goodput is of, where these are others than the latencies'.
        steal: share of the processors' time that went to other machines; None where nobody looked.
    """
    by_phase = {window.phase: window for window in windows}
    window = by_phase["measure"]
    found = latency_figures(timings)
    found |= _rates(window.duration_s, facts)
    found["goodput_per_s"] = goodput(window.duration_s, timings if ended is None else ended, slo)
    found |= energies(window, facts, idle, trace)
    found["duration_s"] = Figure(value=window.duration_s)
    found["load_s"] = (
        Figure(value=by_phase["load"].duration_s)
        if "load" in by_phase
        else null("the engine was loaded for an earlier measurement").figure
    )
    found["peak_memory_bytes"] = (
        null("the engine can't tell its peak memory on this system").figure
        if facts.peak_memory_bytes is None
        else Figure(value=float(facts.peak_memory_bytes))
    )
    found["cpu_steal_share"] = steal or null("nobody looked").figure
    return {name: found[name] for name in METRICS}


def _rates(duration_s: float, facts: Facts) -> dict[str, Figure]:
    names = ("output_tokens_per_s", "total_tokens_per_s", "requests_per_s")
    if duration_s <= 0:
        missing = null("the clock saw no time pass over the measured window")
        return dict.fromkeys(names, missing.figure)
    counts = (facts.output, facts.input + facts.output, facts.requests)
    return {
        name: Figure(value=count / duration_s) for name, count in zip(names, counts, strict=True)
    }
