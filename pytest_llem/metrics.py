"""The metrics: one name, one quantity, one unit; used by gates, tables and reports alike."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["METRICS", "PERCENTILES", "Metric", "digits", "scale", "show"]

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
"""Suffix of a latency metric to the fraction of values at or below it."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric's name stands for.

    Attributes:
        name: as written in studies and reports; its suffix is the unit.
        unit: for reading.
        title: one line of explanation.
    """

    name: str
    unit: str
    title: str

    @property
    def higher_is_better(self) -> bool:
        """Rates are better when higher; everything else is better when lower."""
        return self.name.endswith("_per_s") or self.name == "output_tokens_per_j"

    @property
    def uses_energy(self) -> bool:
        """Whether the metric is only as good as an energy reading."""
        return self.unit in {"J", "W", "1/J"} or self.name in {"carbon_g", "cost"}


_LATENCIES = {
    "ttft": "time to first token",
    "itl": "inter-token latency",
    "tpot": "time per output token after the first: (last - first) / (n - 1)",
    "e2e": "end-to-end time of a request",
}

_SINGLE = (
    Metric("energy_j", "J", "energy of the experiment's own devices for its workload"),
    Metric("net_energy_j", "J", "energy above idle; may be negative"),
    Metric("energy_to_idle_j", "J", "energy, and what the devices drew after it until idle again"),
    Metric("idle_energy_j", "J", "idle power times duration"),
    Metric("cpu_energy_j", "J", "energy of the processors; on a CPU the same as energy_j"),
    Metric("dram_energy_j", "J", "energy of the host's memory, where it has a counter of its own"),
    Metric("energy_per_output_token_j", "J", "energy per generated token"),
    Metric("net_energy_per_output_token_j", "J", "energy above idle per generated token"),
    Metric("energy_per_token_j", "J", "energy per token, input and output"),
    Metric("energy_per_request_j", "J", "energy per request"),
    Metric("prefill_energy_per_input_token_j", "J", "energy of prefill per input token"),
    Metric(
        "decode_energy_per_output_token_j", "J", "energy of decode per output token after the first"
    ),
    Metric("power_mean_w", "W", "energy divided by duration"),
    Metric("power_peak_w", "W", "greatest power of the experiment's own devices"),
    Metric("idle_power_w", "W", "power with the engine loaded and no request"),
    Metric("output_tokens_per_s", "1/s", "generated tokens per second"),
    Metric("total_tokens_per_s", "1/s", "input and output tokens per second"),
    Metric("requests_per_s", "1/s", "requests per second"),
    Metric("goodput_per_s", "1/s", "requests per second that keep to the slo"),
    Metric("output_tokens_per_j", "1/J", "generated tokens per joule"),
    Metric("duration_s", "s", "time of the workload"),
    Metric("load_s", "s", "time to load the engine"),
    Metric("peak_memory_bytes", "bytes", "peak memory of the device while the workload runs"),
    Metric("temperature_max_c", "°C", "temperature of the warmest of the experiment's own devices"),
    Metric(
        "cpu_steal_share",
        "share",
        "share of the processors' time that the hypervisor gave to others",
    ),
    Metric("carbon_g", "g", "CO2 equivalent of the energy: intensity × PUE"),
    Metric("cost", "currency", "price of the energy, PUE included"),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _SINGLE} | {
    f"{family}_{suffix}_s": Metric(f"{family}_{suffix}_s", "s", f"{title}, {suffix}")
    for family, title in _LATENCIES.items()
    for suffix in ("mean", *PERCENTILES, "max")
}
"""Every metric this version reports, by name."""


_PREFIXES = (
    *((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")),
    *((1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p")),
)
_PREFIXED = frozenset({"J", "W", "Wh", "s", "bytes", "g", ""})


def show(value: float, unit: str) -> str:
    """A value for reading: three significant digits, with a prefix where the unit takes one.

    Counts per second and per joule are written out: nobody reads kilotokens. The same goes for
    seconds: nobody reads kiloseconds. A cost has the currency of the price, which nobody names.
    """
    if unit == "currency":
        return digits(value) if abs(value) >= 1 or value == 0 else f"{value:.3g}"
    if unit == "°C":
        return f"{digits(value)} °C"
    if unit == "share":
        return f"{digits(value * 100)} %"
    if unit.startswith("1/"):
        shown = digits(value) if abs(value) >= 1 or value == 0 else f"{value:.3g}"
        return f"{shown}{unit[1:]}"
    factor, scaled = scale(value, unit)
    return f"{digits(value / factor)} {scaled}"


def scale(value: float, unit: str) -> tuple[float, str]:
    """What to divide a value by for reading, and the unit that it then has: (0.001, ``mJ``).

    Only for units that take a prefix; others, and 0, stay as they are.
    """
    size = abs(value)
    factor, prefix = next((row for row in _PREFIXES if size >= row[0] * 0.9995), _PREFIXES[-1])
    if size == 0 or (unit == "s" and size >= 1) or unit not in _PREFIXED:
        factor, prefix = 1.0, ""
    return factor, f"{prefix}{'B' if unit == 'bytes' else unit}"


def digits(value: float) -> str:
    """Three significant digits, never in exponent form."""
    decimals = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:,.{decimals}f}"
