"""What was measured, a line or two for each experiment: its prompts and its model."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from pytest_llem.metrics import show
from pytest_llem.records import Measurement, Summary
from pytest_llem.reports.collected import Collected

__all__ = ["lines"]


def lines(collected: Collected) -> Iterator[str]:
    """Lines below the table, for those who ask for more."""
    for (_, _, name), result in collected.experiments.items():
        made = {o.resumed: None for o in result.outcomes if o.resumed}
        for session in made:
            cycles = [f"c{o.cycle}" for o in result.outcomes if o.resumed == session]
            yield f"{name}: resumed: {', '.join(cycles)} of {session}"
        if measurements := result.measurements:
            if energy := _energy(result.summary):
                yield f"{name}: energy: {energy}"
            if prompts := _prompts(measurements[-1]):
                yield f"{name}: prompts: {prompts}"
            if model := list(_model(measurements)):
                yield f"{name}: model: {', '.join(model)}"


def _energy(summary: Mapping[str, Summary]) -> str:
    """Of a run of the workload; in watt hours, too, which bills are in."""
    energy, duration, power = (
        summary[name].median for name in ("energy_j", "duration_s", "power_mean_w")
    )
    if energy is None or duration is None or power is None:
        return ""
    estimate = " est." if summary["energy_j"].quality == "estimated" else ""
    return (
        f"{show(energy, 'J')}{estimate} ({show(energy / 3600, 'Wh')}) in {show(duration, 's')},"
        f" {show(power, 'W')}"
    )


def _prompts(measurement: Measurement) -> str:
    about = measurement.workload
    if not about:
        return ""
    lengths = about["input_tokens"]
    said = f"{about['source']}, "
    if lengths["min"] == lengths["max"]:
        said += f"{lengths['max']} tokens each"
    else:
        said += f"{lengths['min']} to {lengths['max']} tokens"
        said += f", half of them up to {lengths['median']:g}"
    return said + (f", made by {about['tokenizer']}" if about["tokenizer"] else "")


def _model(measurements: Sequence[Measurement]) -> Iterator[str]:
    about = measurements[-1].model
    if not about:
        return
    if about["reason"]:
        yield f"unknown: {about['reason']}"
        return
    yield f"{_count(about['parameters'])} parameters"
    if about["active_parameters"] != about["parameters"]:
        yield f"{_count(about['active_parameters'])} of them active"
    if (cache := about["kv_bytes_per_token"]) is not None:
        yield f"{show(cache, 'bytes')} of cache a token"
    if (energy := _median(measurements, "energy_per_flop_j")) is not None:
        quality = measurements[-1].derived["energy_per_flop_j"].quality
        yield f"{show(energy, 'J')} per FLOP{' est.' if quality == 'estimated' else ''}"
    share = _median(measurements, "bandwidth_share")
    bound = _median(measurements, "output_tokens_per_s_bound")
    if share is not None and bound is not None:
        yield f"{share * 100:.3g} % of the {show(bound, '1/s')} that its memory allows"


def _median(measurements: Sequence[Measurement], name: str) -> float | None:
    """Of the cycles; None where any of them has no value."""
    found = [m.derived[name].value if name in m.derived else None for m in measurements]
    known = [value for value in found if value is not None]
    return statistics.median(known) if len(known) == len(found) else None


def _count(number: int) -> str:
    """8.03 G; prefixes as for units."""
    return show(number, "")
