"""The figures of energy and power: sums over an experiment's devices; see docs/methodology.md."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from pytest_llem.records import Figure, Idle, Reading, TraceSummary, Window
from pytest_llem.worker.facts import Facts
from pytest_llem.worker.quantity import Quantity, null, of_power, of_reading, total

__all__ = ["energies", "energy", "energy_to_idle", "idle_power", "traced"]

_NO_IDLE = "idle power was not measured (idle: none)"
_NO_PHASES = "phases: true was not asked for"
_NO_TRACE = "no trace of power and temperature was taken"
_NO_CARBON = "no carbon intensity is given: set carbon: intensity_g_per_kwh in .lem-config.yaml"
_NO_PRICE = "no price is given: set carbon: price_per_kwh in .lem-config.yaml"


def energies(
    window: Window, facts: Facts, idle: Idle | None, trace: TraceSummary | None
) -> dict[str, Figure]:
    """All that is made of energy, power and temperature.

    What the user's own settings are needed for is null here: the host knows them.

    Args:
        window: the measured one.
        facts: counts of its requests.
        idle: power with the engine loaded and no request; None where it wasn't asked for.
        trace: what a power trace saw over the window; None where there was none.
    """
    prefix, readings = facts.own_domain, window.readings
    gross = energy(readings, prefix, facts.no_meter)
    base = null(_NO_IDLE) if idle is None else idle_power(idle, prefix, facts.no_meter)
    at_rest = base.times(window.duration_s)
    net = total([(1.0, gross), (-1.0, at_rest)])
    found = {
        "energy_j": gross,
        "idle_energy_j": at_rest,
        "net_energy_j": net,
        "energy_to_idle_j": energy_to_idle(readings, prefix, window.duration_s, facts.no_meter),
        "cpu_energy_j": _of_host(readings, "cpu:", "processors", facts),
        "dram_energy_j": _of_host(readings, "dram:", "memory", facts),
        "energy_per_output_token_j": gross.per(facts.output, "output tokens"),
        "net_energy_per_output_token_j": net.per(facts.output, "output tokens"),
        "energy_per_token_j": gross.per(facts.input + facts.output, "tokens"),
        "energy_per_request_j": gross.per(facts.requests, "requests"),
        "prefill_energy_per_input_token_j": null(_NO_PHASES),
        "decode_energy_per_output_token_j": null(_NO_PHASES),
        "power_mean_w": gross.per(window.duration_s, "seconds"),
        "idle_power_w": base,
        "carbon_g": null(_NO_CARBON),
        "cost": null(_NO_PRICE),
    }
    return {
        **{name: quantity.figure for name, quantity in found.items()},
        "output_tokens_per_j": _tokens_per_joule(gross, facts.output),
        **traced(trace),
    }


def energy(readings: Iterable[Reading], prefix: str, missing: str) -> Quantity:
    """Sum of the readings of the domains with a prefix, in J.

    Args:
        readings: of one window.
        prefix: of domains, ``gpu:``.
        missing: why there is none, should there be none.
    """
    own = [of_reading(reading) for reading in readings if reading.domain.startswith(prefix)]
    return total((1.0, part) for part in own) if own else null(missing)


def idle_power(idle: Idle, prefix: str, missing: str) -> Quantity:
    """Idle power of the domains with a prefix, in W; arguments as of :func:`energy`."""
    own = [of_power(power) for power in idle.powers if power.domain.startswith(prefix)]
    return total((1.0, part) for part in own) if own else null(missing)


def energy_to_idle(
    readings: Iterable[Reading], prefix: str, duration_s: float, missing: str
) -> Quantity:
    """Energy of the window, and what the devices drew beyond idle after it, in J.

    Each device counts with ``to_idle.above_j + before_w × duration_s``: idle is its power before
    the window, and time after the window counts only with what was drawn above that. So it doesn't
    matter when just the device is said to be idle again. Other arguments as of :func:`energy`.
    """
    own = [reading for reading in readings if reading.domain.startswith(prefix)]
    if not own:
        return null(missing)
    return total((1.0, _to_idle(reading, duration_s)) for reading in own)


def _to_idle(reading: Reading, duration_s: float) -> Quantity:
    """That of one domain: a reading of the meter as good as that of the window itself."""
    if reading.energy_j is None:
        return of_reading(reading)
    to_idle = reading.to_idle
    if to_idle is None:
        return null(
            f"{reading.domain}: meter {reading.meter} doesn't watch the time after the window"
        )
    if to_idle.above_j is None:
        return null(f"{reading.domain}: {to_idle.reason or 'it did not come back to idle'}")
    if reading.before_w is None:
        return null(f"{reading.domain}: its power before the window wasn't observed")
    whole_j = to_idle.above_j + reading.before_w * duration_s
    return of_reading(
        dataclasses.replace(reading, energy_j=whole_j, uncertainty_j=to_idle.uncertainty_j)
    )


def _of_host(readings: Iterable[Reading], prefix: str, what: str, facts: Facts) -> Quantity:
    """A part of the host; of an experiment on the CPU the processors are its own device."""
    missing = f"no meter here reads the host's {what}; see python -m pytest_llem doctor"
    own = prefix == facts.own_domain
    return energy(readings, prefix, facts.no_meter if own else missing)


def _tokens_per_joule(gross: Quantity, tokens: int) -> Figure:
    """Tokens / energy; its relative uncertainties are those of the energy, to first order."""
    figure = gross.figure
    if figure.value is None:
        return figure
    if figure.value <= 0:
        return null("no energy was used, as far as the meter can tell").figure
    slope = tokens / figure.value**2
    return dataclasses.replace(
        figure,
        value=tokens / figure.value,
        uncertainty=None if figure.uncertainty is None else slope * figure.uncertainty,
        systematic=None if figure.systematic is None else slope * figure.systematic,
    )


def traced(trace: TraceSummary | None) -> dict[str, Figure]:
    """The figures that only a trace can tell.

    A trace that has something to say of its power has seen means over a second, say: a peak made
    of these is too low. Temperatures change slowly enough.
    """
    trace = trace or TraceSummary(reason=_NO_TRACE)
    missing = null(trace.reason or "the trace has no sample in the window").figure
    peak = Figure(
        value=trace.peak_w, quality="degraded" if trace.reason else "ok", reason=trace.reason
    )
    return {
        "power_peak_w": missing if trace.peak_w is None else peak,
        "temperature_max_c": (
            missing if trace.temperature_max_c is None else Figure(value=trace.temperature_max_c)
        ),
    }
