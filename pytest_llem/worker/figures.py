"""From windows and timings to the value of every metric; see docs/methodology.md."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pytest_llem.experiment import Slo
from pytest_llem.extensions import Completion
from pytest_llem.metrics import METRICS, PERCENTILES
from pytest_llem.records import WORST_FIRST, Figure, Quality, Reading, RequestTiming, Window

__all__ = [
    "Facts",
    "energy",
    "figures",
    "goodput",
    "latencies",
    "latency_figures",
    "own_energy",
]

_OWN_DOMAIN = {"cuda": "gpu:", "cpu": "cpu:"}
"""Device of an experiment to the prefix of the domains whose energy is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Counts of a run and what else is known about it.

    Attributes:
        requests: finished requests.
        input: input tokens, as the engine counted them.
        output: output tokens, as the engine counted them.
        peak_memory_bytes: None where the engine can't tell.
        device: ``cpu`` or ``cuda``.
        no_meter: why there is no energy, should no meter read the device.
    """

    requests: int
    input: int
    output: int
    peak_memory_bytes: int | None
    device: str
    no_meter: str

    @classmethod
    def of(
        cls, completions: Sequence[Completion], peak: int | None, device: str, no_meter: str
    ) -> Facts:
        """Count the tokens of the requests."""
        return cls(
            requests=len(completions),
            input=sum(c.timing.input_tokens for c in completions),
            output=sum(c.timing.output_tokens for c in completions),
            peak_memory_bytes=peak,
            device=device,
            no_meter=no_meter,
        )


def figures(
    windows: Sequence[Window],
    timings: Sequence[RequestTiming],
    facts: Facts,
    slo: Slo = Slo(),
) -> dict[str, Figure]:
    """The value of every metric, or null with the reason.

    Args:
        windows: of all phases; ``load`` and ``measure`` must be there.
        timings: of the measured requests.
        facts: counts of the same requests.
        slo: what a request must keep to, to count for goodput.
    """
    by_phase = {window.phase: window for window in windows}
    window = by_phase["measure"]
    found = latency_figures(timings)
    found |= _rates(window.duration_s, facts)
    found["goodput_per_s"] = goodput(window.duration_s, timings, slo)
    found |= _energies(window, by_phase.get("idle"), facts)
    found |= dict.fromkeys(_BY_PHASE, _null("prefill was not measured by itself (phases: false)"))
    found["duration_s"] = Figure(value=window.duration_s)
    found["load_s"] = Figure(value=by_phase["load"].duration_s)
    found["peak_memory_bytes"] = (
        _null("the engine can't tell its peak memory on this system")
        if facts.peak_memory_bytes is None
        else Figure(value=float(facts.peak_memory_bytes))
    )
    return {name: found[name] for name in METRICS}


_BY_PHASE = ("prefill_energy_per_input_token_j", "decode_energy_per_output_token_j")
"""Made of windows of their own: phase_energy.py."""


def _null(reason: str) -> Figure:
    return Figure(value=None, quality="unmeasured", reason=reason)


def _rates(duration_s: float, facts: Facts) -> dict[str, Figure]:
    if duration_s <= 0:
        null = _null("the clock saw no time pass over the measured window")
        return dict.fromkeys(("output_tokens_per_s", "total_tokens_per_s", "requests_per_s"), null)
    return {
        "output_tokens_per_s": Figure(value=facts.output / duration_s),
        "total_tokens_per_s": Figure(value=(facts.input + facts.output) / duration_s),
        "requests_per_s": Figure(value=facts.requests / duration_s),
    }


def goodput(duration_s: float, timings: Sequence[RequestTiming], slo: Slo) -> Figure:
    """Requests per second that keep to all that the slo says.

    A request of a single token has no time per output token, so nothing to break there.
    """
    wanted = (slo.ttft_s, slo.tpot_s, slo.e2e_s)
    if wanted == (None, None, None):
        return _null("the experiment has no slo")
    if duration_s <= 0:
        return _null("the clock saw no time pass over the measured window")
    if any(not timing.token_s for timing in timings):
        return _null("a request has no times of its tokens")
    good = sum(_keeps(timing, slo) for timing in timings)
    return Figure(value=good / duration_s)


def _keeps(timing: RequestTiming, slo: Slo) -> bool:
    first, last = timing.token_s[0], timing.token_s[-1]
    count = len(timing.token_s)
    taken = (
        (slo.ttft_s, first - timing.submitted_s),
        (slo.tpot_s, (last - first) / (count - 1) if count > 1 else 0.0),
        (slo.e2e_s, last - timing.submitted_s),
    )
    return all(longest is None or time_s <= longest for longest, time_s in taken)


# --- energy --------------------------------------------------------------------------------


def energy(readings: Iterable[Reading], prefix: str, no_meter: str) -> Figure:
    """Sum of the readings of the domains with a prefix.

    One member that could not be read makes the sum null: a smaller sum would be a wrong figure.
    Estimates are never added to measurements. Uncertainties of separate sensors are independent,
    so they add in quadrature.
    """
    own = [reading for reading in readings if reading.domain.startswith(prefix)]
    if not own:
        return _null(no_meter)
    for reading in own:
        if reading.energy_j is None:
            return _null(f"{reading.domain}: {reading.reason or 'could not be read'}")
    qualities = {reading.quality for reading in own}
    if "estimated" in qualities and len(qualities) > 1:
        return _null("some of the experiment's devices were measured and others only estimated")
    spreads = [reading.uncertainty_j for reading in own]
    return Figure(
        value=sum(reading.energy_j or 0.0 for reading in own),
        uncertainty=_quadrature(spreads),
        quality=_worst(qualities),
        reason="; ".join(reading.reason for reading in own if reading.reason) or None,
    )


def own_energy(window: Window, device: str, no_meter: str) -> Figure:
    """Energy of the experiment's own devices over a window."""
    return energy(window.readings, _OWN_DOMAIN[device], no_meter)


def _quadrature(spreads: Iterable[float | None]) -> float | None:
    """Root of the sum of squares; unknown when any is."""
    known = list(spreads)
    return None if None in known else math.hypot(*(spread or 0.0 for spread in known))


def _worst(qualities: Iterable[Quality]) -> Quality:
    """The least trustworthy of several qualities."""
    present = set(qualities)
    return next(quality for quality in WORST_FIRST if quality in present)


def _combine(
    function: Callable[..., float], *operands: Figure, uncertainty: float | None = None
) -> Figure:
    """A figure made from others: null when any is, and as doubtful as the most doubtful."""
    for operand in operands:
        if operand.value is None:
            return operand
    return Figure(
        value=function(*(operand.value for operand in operands)),
        uncertainty=uncertainty,
        quality=_worst(operand.quality for operand in operands),
        reason=next((operand.reason for operand in operands if operand.reason), None),
    )


def _scaled(figure: Figure, factor: float) -> Figure:
    """A figure times an exact number."""
    spread = None if figure.uncertainty is None else abs(figure.uncertainty * factor)
    return _combine(lambda value: value * factor, figure, uncertainty=spread)


def _per(figure: Figure, count: float, what: str) -> Figure:
    """A figure divided by a count that may be zero."""
    return _scaled(figure, 1 / count) if count > 0 else _null(f"there were no {what}")


def _energies(window: Window, idle: Window | None, facts: Facts) -> dict[str, Figure]:
    """Energy, idle and net energy, and what they are per token, request, second and joule."""
    prefix = _OWN_DOMAIN[facts.device]
    gross = energy(window.readings, prefix, facts.no_meter)
    if idle is None:
        idle_power = _null("idle power was not measured (idle: none)")
    else:
        idle_gross = energy(idle.readings, prefix, facts.no_meter)
        idle_power = _per(idle_gross, idle.duration_s, "seconds of idle")
    idle_energy = _scaled(idle_power, window.duration_s)
    net = _combine(
        lambda total, base: total - base,
        gross,
        idle_energy,
        uncertainty=_quadrature([gross.uncertainty, idle_energy.uncertainty]),
    )
    return {
        "energy_j": gross,
        "idle_energy_j": idle_energy,
        "net_energy_j": net,
        "energy_per_output_token_j": _per(gross, facts.output, "output tokens"),
        "net_energy_per_output_token_j": _per(net, facts.output, "output tokens"),
        "energy_per_token_j": _per(gross, facts.input + facts.output, "tokens"),
        "energy_per_request_j": _per(gross, facts.requests, "requests"),
        "power_mean_w": _per(gross, window.duration_s, "seconds"),
        "idle_power_w": idle_power,
        "output_tokens_per_j": _tokens_per_joule(gross, facts.output),
    }


def _tokens_per_joule(gross: Figure, tokens: int) -> Figure:
    if gross.value is not None and gross.value <= 0:
        return _null("no energy was used, as far as the meter can tell")
    spread = None
    if gross.value and gross.uncertainty is not None:
        spread = tokens * gross.uncertainty / gross.value**2
    return _combine(lambda value: tokens / value, gross, uncertainty=spread)


# --- latency -------------------------------------------------------------------------------


def latencies(timings: Iterable[RequestTiming]) -> dict[str, list[float]]:
    """All values of each latency, in seconds.

    ``ttft``: first token − submission. ``itl``: gaps between neighbouring tokens, pooled over
    all requests. ``tpot``: (last − first) / (n − 1). ``e2e``: last token − submission.
    """
    found: dict[str, list[float]] = {"ttft": [], "itl": [], "tpot": [], "e2e": []}
    for timing in timings:
        times = timing.token_s
        if not times:
            continue
        found["ttft"].append(times[0] - timing.submitted_s)
        found["e2e"].append(times[-1] - timing.submitted_s)
        found["itl"].extend(after - before for before, after in itertools.pairwise(times))
        if len(times) > 1:
            found["tpot"].append((times[-1] - times[0]) / (len(times) - 1))
    return found


def latency_figures(timings: Sequence[RequestTiming]) -> dict[str, Figure]:
    """Mean, percentiles and maximum of each latency.

    Percentiles interpolate between order statistics: definition 7 in "Sample Quantiles in
    Statistical Packages", The American Statistician 50 (1996), the default of numpy.
    """
    has_tokens = any(timing.token_s for timing in timings)
    found: dict[str, Figure] = {}
    for family, values in latencies(timings).items():
        if not values:
            reason = "no token was produced" if timings else "no request was made"
            if has_tokens:
                reason = "needs two output tokens or more"
            found |= {f"{family}_{suffix}_s": _null(reason) for suffix in _SUFFIXES}
            continue
        # Two equal values stand for a single one, which quantiles() refuses before Python 3.13.
        points = values * 2 if len(values) == 1 else values
        cuts = statistics.quantiles(points, n=100, method="inclusive")
        numbers = {"mean": statistics.fmean(values), "max": max(values)}
        numbers |= {suffix: cuts[round(part * 100) - 1] for suffix, part in PERCENTILES.items()}
        found |= {f"{family}_{suffix}_s": Figure(value=n) for suffix, n in numbers.items()}
    return found


_SUFFIXES = ("mean", *PERCENTILES, "max")
