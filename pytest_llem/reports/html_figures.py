"""Which figures the HTML report has: experiments -> figures for the page. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_llem.metrics import METRICS, PERCENTILES
from pytest_llem.records import Comparison, Measurement, Window
from pytest_llem.reports.figures import changes, energies, front, latency, power
from pytest_llem.reports.figures.canvas import NARROW, WIDE
from pytest_llem.reports.view import Compared, Row, View
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.raw import Series

__all__ = ["Chart", "charts", "close_ups", "differences", "latencies", "powers"]

MOST_CLOSE = 12
"""Experiments of which single measurements are shown."""

_ENERGY, _RATE = "energy_per_output_token_j", "output_tokens_per_s"
_FAMILIES = {"time to first token": "ttft", "time per output token after the first": "tpot"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A figure of the page.

    Attributes:
        wide: SVG for a desk, and ``narrow`` for a hand; the same where that is empty.
        key: of the experiment that it is about; empty where it is about several.
    """

    title: str
    caption: str
    wide: str
    narrow: str = ""
    key: str = ""


def charts(view: View) -> list[Chart]:
    """Energy against throughput, and energy by itself; none without both figures."""
    points = list(_points(view))
    if not points:
        return []
    found = []
    ordered = sorted(points, key=lambda point: point.energy_j)
    if len(points) > 1:
        on_front = front.pareto(points)
        text = "Right and down is better. "
        if len(on_front) > 1:
            text += f"The line joins the {len(on_front)} that none beats in both: the Pareto front."
        else:
            text += f"None beats {on_front[0].name} in either."
        found.append(
            _both(lambda width: front.draw(points, width=width), "Energy against speed", text)
        )
    text = "Median and interval of the cycles, the least first."
    if len(points) > energies.MOST:
        text += f" The first {energies.MOST} of {len(points)}; the table has all."
    found.append(
        _both(lambda width: energies.draw(ordered, width=width), "Energy per output token", text)
    )
    return found


def _both(draw: Callable[[int], str], title: str, caption: str) -> Chart:
    return Chart(title=title, caption=caption, wide=draw(WIDE), narrow=draw(NARROW))


def _points(view: View) -> Iterator[front.Point]:
    series = list(dict.fromkeys(row.backend for row in view.rows))
    for row in view.rows:
        rate, energy = row.median(_RATE), row.median(_ENERGY)
        summary = row.report.statistics.get(_ENERGY)
        # What several measurements drew together is nobody's own.
        if rate is not None and energy is not None and summary and summary.quality != "shared":
            several = summary.n > 1
            yield front.Point(
                key=row.key,
                name=row.name,
                series=row.backend,
                number=series.index(row.backend),
                rate=rate,
                energy_j=energy,
                low_j=summary.low if several else None,
                high_j=summary.high if several else None,
                estimated=row.estimated,
            )


# --- single measurements -------------------------------------------------------------------


def close_ups(view: View) -> list[tuple[Row, Outcome]]:
    """The experiments worth a closer look, and the measurement that is shown of each.

    Those that failed first, then those that no other beats, then the rest in its order; of each
    the cycle whose energy is the middle one.
    """
    best = {point.key for point in front.pareto(list(_points(view)))}
    measured = [row for row in view.rows if row.measurements]
    rank = sorted(measured, key=lambda row: (row.state != "failed", row.key not in best))
    chosen = {row.key for row in rank[:MOST_CLOSE]}
    return [(row, _middle(row)) for row in measured if row.key in chosen]


def _middle(row: Row) -> Outcome:
    def energy(outcome: Outcome) -> float:
        figure = outcome.measurement.metrics.get("energy_j") if outcome.measurement else None
        return figure.value or 0.0 if figure else 0.0

    outcomes = sorted((o for o in row.outcomes if o.measurement), key=energy)
    return outcomes[(len(outcomes) - 1) // 2]


def powers(view: View, series: Mapping[str, Series]) -> list[Chart]:
    """Power over time of single measurements.

    Args:
        view: of the report.
        series: key of a row to the raw series of the measurement that is shown of it.
    """
    found = []
    for row, outcome in close_ups(view):
        measurement = outcome.measurement
        if measurement is None or not any(window.readings for window in measurement.windows):
            continue
        own = _power(row, measurement, series.get(row.key))
        if any(phase.mean_w is not None for phase in own.phases) or own.trace:
            estimated = ", estimated" if own.estimated else ""
            found.append(
                Chart(
                    title=row.name,
                    caption=f"cycle {outcome.cycle}{estimated}",
                    wide=power.draw(own, width=NARROW, salt=f"power-{row.key}"),
                    key=row.key,
                )
            )
    return found


def _power(row: Row, measurement: Measurement, series: Series | None) -> power.Power:
    zero_s = next((w.start_s for w in measurement.windows if w.phase == "measure"), 0.0)
    own = _own_domain(measurement)
    idle = measurement.metrics.get("idle_power_w")
    return power.Power(
        name=row.name,
        phases=[
            power.Phase(
                name=window.phase,
                start_s=window.start_s - zero_s,
                end_s=window.start_s + window.duration_s - zero_s,
                mean_w=_mean_w(window, own),
            )
            for window in measurement.windows
        ],
        trace=[(at_s - zero_s, watts) for at_s, watts in series.total()] if series else (),
        idle_w=idle.value if idle else None,
        estimated=row.estimated,
    )


def _own_domain(measurement: Measurement) -> str:
    """What the experiment's own devices are called in readings."""
    return "cpu" if measurement.testbed.get("device") == "cpu" else "gpu"


def _mean_w(window: Window, own: str) -> float | None:
    """Mean power of the own devices; None where one of them wasn't read."""
    energies_j = [r.energy_j for r in window.readings if r.domain.partition(":")[0] == own]
    known = [energy_j for energy_j in energies_j if energy_j is not None]
    if not known or len(known) < len(energies_j) or window.duration_s <= 0:
        return None
    return sum(known) / window.duration_s


def latencies(view: View, series: Mapping[str, Series]) -> list[Chart]:
    """Distributions of the two latencies that people feel, of the experiments of close-ups."""
    found = []
    rows = [row for row, _ in close_ups(view)]
    for title, family in _FAMILIES.items():
        spreads = [s for row in rows if (s := _spread(row, family, series.get(row.key)))]
        if spreads:
            found.append(_latency(title, family, spreads))
    return found


def _latency(title: str, family: str, spreads: Sequence[latency.Spread]) -> Chart:
    def draw(width: int) -> str:
        return latency.draw(title, spreads, width=width, salt=family)

    return _both(draw, f"{family.upper()}: {title}", "")


def _spread(row: Row, family: str, series: Series | None) -> latency.Spread | None:
    found = {
        name: value
        for name in (*PERCENTILES, "max")
        if (value := row.median(f"{family}_{name}_s")) is not None
    }
    values: Sequence[float] = ()
    if series is not None:
        values = series.ttft_s if family == "ttft" else series.tpot_s
    if not found:
        return None
    return latency.Spread(key=row.key, name=row.name, percentiles=found, values=values)


# --- comparisons ---------------------------------------------------------------------------


def differences(compared: Sequence[Compared]) -> Chart | None:
    """Changes against earlier sessions; None where there are none."""
    bars = [
        changes.Bar(
            key=one.row.key,
            name=one.row.name,
            metric=_short(one.metric),
            percent=one.worse * 100,
            noise_percent=_noise(one.found),
            worse=one.found.outcome == "worse",
        )
        for one in compared
        if one.worse is not None and isinstance(one.found, Comparison)
    ]
    if not bars:
        return None
    metrics = list(dict.fromkeys(bar.metric for bar in bars))
    text = f"Of {metrics[0]}. " if len(metrics) == 1 else ""
    text += "Grey is what noise explains: 95 % of it."
    if len(bars) > changes.MOST:
        text += f" The first {changes.MOST} of {len(bars)}."
    return _both(
        lambda width: changes.draw(bars, width=width), "Change against earlier sessions", text
    )


def _noise(found: Comparison) -> float:
    """Half of the 95 % interval for the change, in percent: about two standard errors."""
    if found.low is not None and found.high is not None:
        return 50 * (found.high - found.low)
    return 200 * (found.noise or 0.0)


def _short(metric: str) -> str:
    return {_ENERGY: "energy/token", _RATE: "tok/s"}.get(metric, METRICS[metric].name)
