"""What the energy of a measurement costs, in CO2 and in money, by the user's own settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from pytest_llem.records import Figure, Measurement, Summary
from pytest_llem.study.keys import Carbon

__all__ = ["per_million_tokens", "with_carbon"]

_J_PER_KWH = 3.6e6


def with_carbon(measurement: Measurement, carbon: Carbon) -> Measurement:
    """A measurement with ``carbon_g`` and ``cost`` where the settings give what they need.

    ``carbon_g`` = ``energy_j`` / 3.6e6 J/kWh × intensity × PUE, and ``cost`` likewise with the
    price: operational emissions E × I of the Software Carbon Intensity specification (ISO/IEC
    21031:2024). PUE (ISO/IEC 30134-2) is 1 where it isn't given: what the devices themselves drew.
    """
    pue = carbon.pue or 1.0
    prices = {"carbon_g": carbon.intensity_g_per_kwh, "cost": carbon.price_per_kwh}
    energy = measurement.metrics["energy_j"]
    found = {
        name: _scaled(energy, price * pue / _J_PER_KWH)
        for name, price in prices.items()
        if price is not None
    }
    # Replaced in place: the order of the metrics stays.
    return dataclasses.replace(measurement, metrics={**measurement.metrics, **found})


def _scaled(figure: Figure, factor: float) -> Figure:
    """A figure times an exact, positive number; null stays null, an estimate an estimate."""

    def times(value: float | None) -> float | None:
        return None if value is None else value * factor

    return dataclasses.replace(
        figure,
        value=times(figure.value),
        uncertainty=times(figure.uncertainty),
        systematic=times(figure.systematic),
    )


def per_million_tokens(
    metric: Literal["carbon_g", "cost"], statistics: Mapping[str, Summary]
) -> Summary | None:
    """What the energy of a million output tokens comes to; None where that isn't known.

    A run's own figure depends on how long the workload is, and says little to anybody. It is its
    energy times a number, the same in each cycle; so this is the energy per token times that.
    """
    energy, price = statistics.get("energy_j"), statistics.get(metric)
    token = statistics.get("energy_per_output_token_j")
    if token is None or energy is None or price is None or not energy.median:
        return None
    if price.median is None or token.median is None:
        return None
    factor = 1e6 * price.median / energy.median
    return dataclasses.replace(
        token,
        median=token.median * factor,
        mean=None if token.mean is None else token.mean * factor,
        stdev=None if token.stdev is None else token.stdev * factor,
        low=None if token.low is None else token.low * factor,
        high=None if token.high is None else token.high * factor,
    )
