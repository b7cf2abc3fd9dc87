"""What the energy of a measurement costs, in CO2 and in money, by the user's own settings."""

from __future__ import annotations

import dataclasses

from pytest_llem.records import Figure, Measurement
from pytest_llem.study.keys import Carbon

__all__ = ["with_carbon"]

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
